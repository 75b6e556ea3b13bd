//! What stands between a client's bytes and the parser of HTTP/1.1: a head that could be read in two ways does not
//! get in, and is answered as Envoy answers it.
//!
//! The parser behind it is lenient where a server behind us may read otherwise, and answers without a word. It sees
//! whole heads only; in the place of one that is refused it gets a request that the proxy knows to answer.

mod head;

use bytes::{Buf, BytesMut};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::CodecType;
use http::StatusCode;
use tokio::io::ReadBuf;

use crate::downstream::hcm::Hcm;
use crate::flag::Flag;
use crate::reply::LocalReply;
use head::{Head, field, find, is_value, malformed, too_large, unfolded};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What the parser gets in the place of a head that is refused.
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// What is kept of a protocol that is not granted yet.
const UPGRADE_HELD: usize = 64 << 10;
/// The longest line before a chunk.
const CHUNK_LINE: usize = 4096;

/// Reads along, as far as to know where each head begins.
#[derive(Debug)]
pub(super) struct Gate {
    state: State,
    /// Came, and is not decided on.
    held: BytesMut,
    /// How much of that holds no end of a head or line.
    searched: usize,
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
    /// What HTTP/1.1 was upgraded to.
    Open,
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    /// What is left of the bytes that trailers may have.
    Trailers(usize),
    /// What comes is thrown away.
    Refused,
    /// Another protocol follows, if the request is granted; else nothing does.
    Upgrade,
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
            searched: 0,
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
        matches!(self.state, State::Http2 | State::Open) && self.passed.is_empty()
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

    /// Whether nothing more is to be read now.
    pub(super) fn is_full(&self) -> bool {
        self.state == State::Upgrade && self.held.len() >= UPGRADE_HELD
    }

    /// The request to go over to another protocol is granted.
    pub(super) fn open(&mut self) {
        if self.state == State::Upgrade {
            self.state = State::Open;
            self.passed.unsplit(self.held.split());
        }
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
            State::Upgrade => return Ok(false),
            State::Http2 | State::Open => {
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

    /// Where an end of lines is in what is held; a line that ends otherwise has none. A client that sends byte by byte
    /// has each searched once.
    fn find(&mut self, what: &[u8]) -> Result<Option<usize>, LocalReply> {
        let from = self.searched.min(self.held.len()).saturating_sub(what.len() - 1);
        if let Some(at) = find(&self.held[from..], what) {
            self.searched = 0;
            return Ok(Some(from + at));
        }
        self.searched = self.held.len();
        let lone = |at: &usize| self.held[*at] == b'\n' && (*at == 0 || self.held[*at - 1] != b'\r');
        match (from..self.held.len()).find(lone) {
            Some(_) => Err(malformed()),
            None => Ok(None),
        }
    }

    fn head(&mut self) -> Result<bool, LocalReply> {
        while self.held.starts_with(b"\r\n") {
            self.held.advance(2);
        }
        let Some(end) = self.find(b"\r\n\r\n")? else {
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
            None if head.upgrades() => State::Upgrade,
            None => State::Head,
        };
        Ok(true)
    }

    fn chunk_size(&mut self) -> Result<bool, LocalReply> {
        let Some(end) = self.find(b"\r\n")? else {
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
        let Some(end) = self.find(b"\r\n")? else {
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

#[cfg(test)]
mod tests;
