//! The form in which paths and hosts are compared and passed on.

use std::borrow::Cow;

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode};
use pb::HttpConnectionManager;
use pb::http_connection_manager::PathWithEscapedSlashesAction;

use crate::downstream::hcm;
use crate::reply::LocalReply;
use crate::value;

/// How a path is brought into one form.
#[derive(Debug)]
pub(crate) struct PathRules {
    normalize: bool,
    merge_slashes: bool,
    escaped_slashes: PathWithEscapedSlashesAction,
    strip_any_port: bool,
    strip_matching_port: bool,
    strip_trailing_dot: bool,
}

impl PathRules {
    pub(crate) fn compile(config: &HttpConnectionManager) -> Self {
        Self {
            normalize: value::flag(config.normalize_path.as_ref(), false),
            merge_slashes: config.merge_slashes,
            escaped_slashes: config.path_with_escaped_slashes_action(),
            strip_any_port: hcm::strips_any_port(config),
            strip_matching_port: config.strip_matching_host_port,
            strip_trailing_dot: config.strip_trailing_host_dot,
        }
    }

    /// The path in the form that routes are written for. A redirect where the client shall ask again in that form.
    pub(crate) fn path(&self, path: &PathAndQuery, grpc: bool) -> Result<Option<PathAndQuery>, LocalReply> {
        use PathWithEscapedSlashesAction as Action;
        if !self.normalize && !self.merge_slashes && self.escaped_slashes < Action::RejectRequest {
            return Ok(None);
        }
        let mut changed: Cow<'_, str> = path.path().into();
        let escaped = escaped_slash(&changed);
        if escaped && self.escaped_slashes == Action::RejectRequest {
            return Err(invalid_path());
        }
        if escaped && self.escaped_slashes >= Action::UnescapeAndRedirect {
            changed = unescape_slashes(&changed).into();
        }
        if self.normalize {
            changed = canonical(&changed).ok_or_else(invalid_path)?.into();
        }
        if self.merge_slashes && changed.contains("//") {
            changed = merged(&changed).into();
        }
        if changed == path.path() {
            return Ok(None);
        }
        let whole = match path.query() {
            Some(query) => format!("{changed}?{query}"),
            None => changed.into_owned(),
        };
        let whole = PathAndQuery::try_from(whole).map_err(|_| invalid_path())?;
        if escaped && self.escaped_slashes == Action::UnescapeAndRedirect {
            // A gRPC client follows no redirect.
            return Err(if grpc { invalid_path() } else { redirect(&whole) });
        }
        Ok(Some(whole))
    }

    /// The authority without what the configuration takes off it.
    pub(crate) fn authority(&self, authority: HeaderValue, port: u16) -> HeaderValue {
        if !self.strip_any_port && !self.strip_matching_port && !self.strip_trailing_dot {
            return authority;
        }
        let Ok(text) = authority.to_str() else { return authority };
        let (mut host, mut rest) = (text, "");
        if let Some(colon) = text.rfind(':').filter(|&colon| !text[colon..].contains(']')) {
            (host, rest) = text.split_at(colon);
        }
        if self.strip_any_port || (self.strip_matching_port && rest[1.min(rest.len())..].parse() == Ok(port))
        {
            rest = "";
        }
        if self.strip_trailing_dot {
            host = host.strip_suffix('.').unwrap_or(host);
        }
        HeaderValue::try_from(format!("{host}{rest}")).unwrap_or(authority)
    }
}

fn invalid_path() -> LocalReply {
    LocalReply::new(StatusCode::BAD_REQUEST, "", "path_normalization_failed")
}

fn redirect(to: &PathAndQuery) -> LocalReply {
    let reply = LocalReply::new(StatusCode::TEMPORARY_REDIRECT, "", "path_normalization_failed");
    match HeaderValue::try_from(to.as_str()) {
        Ok(to) => reply.with_header(http::header::LOCATION, to),
        Err(_) => invalid_path(),
    }
}

fn escaped_slash(path: &str) -> bool {
    path.as_bytes().windows(3).any(|at| at.eq_ignore_ascii_case(b"%2f") || at.eq_ignore_ascii_case(b"%5c"))
}

fn unescape_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let code = rest.get(1..3).unwrap_or_default();
        let slash = match () {
            () if code.eq_ignore_ascii_case("2f") => '/',
            () if code.eq_ignore_ascii_case("5c") => '\\',
            () => {
                out.push('%');
                rest = &rest[1..];
                continue;
            }
        };
        out.push(slash);
        rest = &rest[3..];
    }
    out.push_str(rest);
    out
}

/// Dot segments resolved, backslashes turned, unreserved characters unescaped; `None` for what is no path.
fn canonical(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.to_ascii_lowercase().contains("%00") {
        return None;
    }
    let path = unescape_unreserved(&path.replace('\\', "/"));
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path[1..].split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." if last => segments.push(""),
            "." => {}
            ".." => {
                segments.pop();
                if last {
                    segments.push("");
                }
            }
            part => segments.push(part),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

fn unescape_unreserved(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = path.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        match code.filter(|_| bytes[at] == b'%') {
            Some(code) if code.is_ascii_alphanumeric() || b"-._~".contains(&code) => {
                out.push(char::from(code));
                at += 3;
            }
            _ => {
                let end = path[at..].chars().next().map_or(1, char::len_utf8);
                out.push_str(&path[at..at + end]);
                at += end;
            }
        }
    }
    out
}

fn merged(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brings_paths_into_one_form() {
        for (path, canon) in [
            ("/a/b", Some("/a/b")),
            ("/a/./b", Some("/a/b")),
            ("/a/../b", Some("/b")),
            ("/../b", Some("/b")),
            ("/a/..", Some("/")),
            ("/a/.", Some("/a/")),
            ("/a\\b", Some("/a/b")),
            ("/%61%2f", Some("/a%2f")),
            ("/%2e%2e/b", Some("/b")),
            ("/a%00", None),
            ("*", None),
        ] {
            assert_eq!(canonical(path).as_deref(), canon, "{path}");
        }
        assert_eq!(merged("//a///b/"), "/a/b/");
        assert_eq!(unescape_slashes("/a%2Fb%5c%41"), "/a/b\\%41");
    }
}
