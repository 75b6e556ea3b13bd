//! What stands between a client's bytes and the parser of HTTP/1.1: a head that could be read in two ways does not
//! get in, and is answered as Envoy answers it.
//!
//! The parser behind it is lenient where a server behind us may read otherwise, and answers without a word. It sees
//! whole heads only; in the place of one that is refused it gets a request that the proxy knows to answer.

use bytes::{Buf, BytesMut};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::CodecType;
use http::StatusCode;
use tokio::io::ReadBuf;

use crate::downstream::hcm::Hcm;
use crate::flag::Flag;
use crate::reply::LocalReply;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What the parser gets in the place of a head that is refused.
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// The longest line before a chunk.
const CHUNK_LINE: usize = 4096;

/// Reads along, as far as to know where each head begins.
#[derive(Debug)]
pub(super) struct Gate {
    state: State,
    /// Came, and is not decided on.
    held: BytesMut,
    /// May go on.
    passed: BytesMut,
    /// Where in `passed` the head of the request under way begins.
    head_at: Option<usize>,
    /// Requests that have passed.
    heads: u32,
    head_bytes: usize,
    head_lines: usize,
    accept_http_10: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may become HTTP/2.
    Unknown,
    Http2,
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    /// What is left of the bytes that trailers may have.
    Trailers(usize),
    /// What comes is thrown away.
    Refused,
    /// A body that goes wrong after its head has passed.
    Broken,
}

/// The request that is refused, counted from 1, and what its sender is told.
pub(super) type Refusal = (u32, LocalReply);

impl Gate {
    pub(super) fn new(hcm: &Hcm) -> Self {
        Self {
            state: match hcm.codec {
                CodecType::Http1 => State::Head,
                CodecType::Http2 => State::Http2,
                _ => State::Unknown,
            },
            held: BytesMut::new(),
            passed: BytesMut::new(),
            head_at: None,
            heads: 0,
            head_bytes: hcm.limits.headers_kb as usize * 1024,
            head_lines: hcm.limits.headers_count as usize,
            accept_http_10: hcm.accept_http_10,
        }
    }

    /// Whether all that comes may go on as it comes.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Http2 && self.passed.is_empty()
    }

    /// Whether the client speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.state == State::Http2
    }

    /// Whether a head is on its way that is not whole yet.
    pub(super) fn in_head(&self) -> bool {
        matches!(self.state, State::Unknown | State::Head) && !self.held.is_empty()
    }

    /// Whether a body cannot be read on.
    pub(super) fn is_broken(&self) -> bool {
        self.state == State::Broken && self.passed.is_empty()
    }

    /// Hands over what may go on; whether there was anything.
    pub(super) fn hand_over(&mut self, to: &mut ReadBuf<'_>) -> bool {
        let len = self.passed.len().min(to.remaining());
        to.put_slice(&self.passed[..len]);
        self.passed.advance(len);
        self.head_at = self.head_at.and_then(|at| at.checked_sub(len));
        len > 0
    }

    /// Decides on what came.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<Refusal> {
        self.held.extend_from_slice(bytes);
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(refused) => return self.refuse(refused.with_flag(Flag::DownstreamProtocolError)),
            }
        }
    }

    fn refuse(&mut self, refused: LocalReply) -> Option<Refusal> {
        self.held.clear();
        match (self.state, self.head_at) {
            (State::Unknown | State::Head, _) => self.heads += 1,
            (_, Some(at)) => self.passed.truncate(at),
            _ => {
                self.state = State::Broken;
                return None;
            }
        }
        self.state = State::Refused;
        self.passed.extend_from_slice(REFUSED);
        Some((self.heads, refused))
    }

    /// Waits no longer for the rest of a head.
    pub(super) fn time_out(&mut self) -> Option<Refusal> {
        let message = "request header timeout";
        let waits = matches!(self.state, State::Unknown | State::Head);
        waits
            .then(|| LocalReply::new(StatusCode::REQUEST_TIMEOUT, message, "request_header_timeout"))
            .and_then(|late| self.refuse(late))
    }

    /// Goes a step on; whether there may be another one.
    fn step(&mut self) -> Result<bool, LocalReply> {
        match self.state {
            State::Unknown => {
                let len = self.held.len().min(PREFACE.len());
                let like = self.held[..len] == PREFACE[..len];
                match like {
                    true if len < PREFACE.len() => return Ok(false),
                    true => self.state = State::Http2,
                    false => self.state = State::Head,
                }
            }
            State::Http2 => {
                self.passed.unsplit(self.held.split());
                return Ok(false);
            }
            State::Head => return self.head(),
            State::Body(0) => self.state = State::Head,
            State::Body(left) => match self.pass(left) {
                0 => return Ok(false),
                passed => self.state = State::Body(left - passed),
            },
            State::Chunk(0) => self.state = State::ChunkSize,
            State::Chunk(left) => match self.pass(left) {
                0 => return Ok(false),
                passed => {
                    // The two last bytes are the end of the line, which the parser checks.
                    self.state = State::Chunk(left - passed);
                }
            },
            State::ChunkSize => return self.chunk_size(),
            State::Trailers(left) => return self.trailer(left),
            State::Refused | State::Broken => {
                self.held.clear();
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn pass(&mut self, most: u64) -> u64 {
        let len = usize::try_from(most).unwrap_or(usize::MAX).min(self.held.len());
        self.passed.unsplit(self.held.split_to(len));
        len as u64
    }

    fn head(&mut self) -> Result<bool, LocalReply> {
        while self.held.starts_with(b"\r\n") {
            self.held.advance(2);
        }
        let Some(end) = find(&self.held, b"\r\n\r\n") else {
            return if self.held.len() > self.head_bytes {
                Err(too_large("http1.headers_too_large"))
            } else {
                Ok(false)
            };
        };
        if end > self.head_bytes {
            return Err(too_large("http1.headers_too_large"));
        }
        let head = Head::read(&self.held[..end], self.head_lines, self.accept_http_10)?;
        self.heads += 1;
        self.head_at = Some(self.passed.len());
        let bytes = self.held.split_to(end + 4);
        if head.folded {
            self.passed.extend_from_slice(&unfolded(&bytes));
        } else {
            self.passed.unsplit(bytes);
        }
        self.state = match head.length {
            _ if head.chunked => State::ChunkSize,
            Some(length) => State::Body(length),
            None => State::Head,
        };
        Ok(true)
    }

    fn chunk_size(&mut self) -> Result<bool, LocalReply> {
        let Some(end) = find(&self.held, b"\r\n") else {
            return if self.held.len() > CHUNK_LINE { Err(malformed()) } else { Ok(false) };
        };
        let line = &self.held[..end];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let extension = &line[digits..];
        if digits > 15 || !(extension.is_empty() || extension[0] == b';') || !is_value(extension) {
            return Err(malformed());
        }
        let digits = std::str::from_utf8(&line[..digits]).unwrap_or_default();
        let size = u64::from_str_radix(digits, 16).map_err(|_| malformed())?;
        self.pass(end as u64 + 2);
        self.state = if size == 0 { State::Trailers(self.head_bytes) } else { State::Chunk(size + 2) };
        Ok(true)
    }

    fn trailer(&mut self, left: usize) -> Result<bool, LocalReply> {
        let Some(end) = find(&self.held, b"\r\n") else {
            return if self.held.len() > left {
                Err(too_large("http1.trailers_too_large"))
            } else {
                Ok(false)
            };
        };
        if end > 0 {
            field(&self.held[..end])?;
        }
        let left = left.checked_sub(end + 2).ok_or_else(|| too_large("http1.trailers_too_large"))?;
        self.pass(end as u64 + 2);
        self.state = if end == 0 { State::Head } else { State::Trailers(left) };
        Ok(true)
    }
}

/// What of a head decides where its request ends.
#[derive(Debug, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    hosts: usize,
    folded: bool,
}

impl Head {
    fn read(bytes: &[u8], most: usize, accept_http_10: bool) -> Result<Self, LocalReply> {
        let mut lines = lines(bytes);
        let old = request_line(lines.next().unwrap_or_default(), accept_http_10)?;
        let mut head = Self::default();
        let mut count = 0;
        for line in lines {
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                if count == 0 || !is_value(line) {
                    return Err(malformed());
                }
                head.folded = true;
                continue;
            }
            let (name, value) = field(line)?;
            count += 1;
            if count > most {
                return Err(too_large("http1.too_many_headers"));
            }
            head.note(name, value, old)?;
        }
        if head.chunked && head.length.is_some() {
            return Err(bad("http1.content_length_and_chunked_not_allowed"));
        }
        Ok(head)
    }

    /// A name that says how long the body is may stand only once, and in one form.
    fn note(&mut self, name: &[u8], value: &[u8], old: bool) -> Result<(), LocalReply> {
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits =
                Some(value).filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
            let length = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            if length.is_none() || self.length.is_some() {
                return Err(bad("http1.invalid_content_length"));
            }
            self.length = length;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if old || self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                let details = "http1.invalid_transfer_encoding";
                return Err(LocalReply::new(StatusCode::NOT_IMPLEMENTED, "Not Implemented", details));
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
            if self.hosts > 1 {
                return Err(malformed());
            }
        }
        Ok(())
    }
}

/// Whether the request is of HTTP/1.0.
fn request_line(line: &[u8], accept_http_10: bool) -> Result<bool, LocalReply> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let version = parts.next();
    if parts.next().is_some()
        || !is_name(method)
        || target.is_empty()
        || !target.iter().all(|byte| *byte > b' ')
    {
        return Err(malformed());
    }
    match version {
        Some(b"HTTP/1.1") => {}
        Some(b"HTTP/1.0") if accept_http_10 => {}
        None | Some([b'H', b'T', b'T', b'P', b'/', ..]) => {
            return Err(LocalReply::new(StatusCode::UPGRADE_REQUIRED, "Upgrade Required", "low_version"));
        }
        _ => return Err(malformed()),
    }
    if target.contains(&b'#') {
        return Err(LocalReply::new(StatusCode::BAD_REQUEST, "", "path_normalization_failed"));
    }
    Ok(version == Some(b"HTTP/1.0"))
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), LocalReply> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(malformed)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if is_name(name) && is_value(value) { Ok((name, value)) } else { Err(malformed()) }
}

fn is_name(name: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(token)
}

fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let (line, after) = match find(bytes, b"\r\n") {
            Some(end) => (&bytes[..end], Some(&bytes[end + 2..])),
            None => (bytes, None),
        };
        rest = after;
        Some(line)
    })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|at| at == what)
}

/// A head whose values each stand in one line.
fn unfolded(head: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len());
    let mut rest = head;
    while let Some(end) = find(rest, b"\r\n") {
        out.extend_from_slice(&rest[..end]);
        rest = &rest[end + 2..];
        if !rest.starts_with(b" ") && !rest.starts_with(b"\t") {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

fn malformed() -> LocalReply {
    bad("http1.codec_error")
}

fn bad(details: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::BAD_REQUEST, "Bad Request", details)
}

fn too_large(details: &'static str) -> LocalReply {
    let message = "Request Header Fields Too Large";
    LocalReply::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message, details)
}

#[cfg(test)]
mod tests;
