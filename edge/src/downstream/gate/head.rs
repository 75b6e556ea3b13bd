//! The lines of a head, each of which can be read in one way only.

use http::{StatusCode, Uri};

use crate::reply::LocalReply;

/// What decides how a request is read stands in one line.
const DECISIVE: [&str; 4] = ["connection", "content-length", "host", "transfer-encoding"];
/// How many names a line of `Connection` may have.
const NOMINATED: usize = 9;
/// What they may not be.
const KEPT: [&str; 3] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// What of a head decides where its request ends.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    hosts: usize,
    pub(super) folded: bool,
    /// Another protocol is named, and the connection is to go over to it.
    protocol: bool,
    goes_over: bool,
}

impl Head {
    pub(super) fn read(bytes: &[u8], most: usize, accept_http_10: bool) -> Result<Self, LocalReply> {
        let mut lines = lines(bytes);
        let old = request_line(lines.next().unwrap_or_default(), accept_http_10)?;
        let mut head = Self::default();
        let (mut count, mut decisive) = (0, false);
        for line in lines {
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                if count == 0 || decisive || !is_value(line) {
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
            decisive = DECISIVE.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
            head.note(name, value, old)?;
        }
        if head.chunked && head.length.is_some() {
            return Err(bad("http1.content_length_and_chunked_not_allowed"));
        }
        Ok(head)
    }

    pub(super) fn upgrades(&self) -> bool {
        self.protocol && self.goes_over
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
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.protocol |= !lists(value, b"h2c");
        } else if name.eq_ignore_ascii_case(b"connection") {
            nominated(value)?;
            self.goes_over |= lists(value, b"upgrade");
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
            if self.hosts > 1 {
                return Err(malformed());
            }
            if !value.iter().all(is_of_authority) {
                return Err(bad("http.invalid_authority"));
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
    check_target(method, target)?;
    Ok(version == Some(b"HTTP/1.0"))
}

/// A target is a path, or a whole URL; the other forms are for methods that need them.
fn check_target(method: &[u8], target: &[u8]) -> Result<(), LocalReply> {
    if target.starts_with(b"/") || method == b"CONNECT" {
        return Ok(());
    }
    if target == b"*" {
        return if method == b"OPTIONS" { Ok(()) } else { Err(bad("http1.invalid_url")) };
    }
    let scheme = find(target, b"://").ok_or_else(malformed)?;
    let (scheme, url) = (&target[..scheme], std::str::from_utf8(target).unwrap_or_default());
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(bad("http1.invalid_scheme"));
    }
    let url: Option<Uri> = url.parse().ok();
    let authority = url.as_ref().and_then(Uri::authority).ok_or_else(|| bad("http1.invalid_url"))?;
    let (_, place) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
    if place == authority.host() || authority.port_u16().is_some() {
        Ok(())
    } else {
        Err(bad("http1.invalid_url"))
    }
}

/// A client may take its own headers off by naming them as its connection's; not those that say who it is.
fn nominated(names: &[u8]) -> Result<(), LocalReply> {
    let names = names.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let mut most = NOMINATED;
    for name in names.filter(|name| !name.is_empty()) {
        if name.eq_ignore_ascii_case(b"host") {
            return Err(LocalReply::new(StatusCode::BAD_REQUEST, "", "missing_host_header"));
        }
        let kept = KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()));
        most = most
            .checked_sub(1)
            .filter(|_| !kept && !name.starts_with(b":"))
            .ok_or_else(|| bad("http1.connection_header_rejected"))?;
    }
    Ok(())
}

pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), LocalReply> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(malformed)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if is_name(name) && is_value(value) { Ok((name, value)) } else { Err(malformed()) }
}

fn is_of_authority(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@[]".contains(byte)
}

fn lists(value: &[u8], word: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(word))
}

fn is_name(name: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(token)
}

pub(super) fn is_value(value: &[u8]) -> bool {
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

pub(super) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|at| at == what)
}

/// A head whose values each stand in one line.
pub(super) fn unfolded(head: &[u8]) -> Vec<u8> {
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

pub(super) fn malformed() -> LocalReply {
    bad("http1.codec_error")
}

fn bad(details: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::BAD_REQUEST, "Bad Request", details)
}

pub(super) fn too_large(details: &'static str) -> LocalReply {
    let message = "Request Header Fields Too Large";
    LocalReply::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message, details)
}
