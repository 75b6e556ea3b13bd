//! What is made of a request's head before anything else reads it: its path, its host, its way here.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use http::header::{CONNECTION, EXPECT, UPGRADE, VIA};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use pb::HttpConnectionManager;
use pb::http_connection_manager::{ForwardClientCertDetails, PathWithEscapedSlashesAction};

use crate::call::{Connection, PeerCertificate};
use crate::downstream::hcm::{self, CertParts, Hcm, Identity};
use crate::head::joined;
use crate::reply::LocalReply;
use crate::value;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
/// What only our own neighbours may say.
const INTERNAL_ONLY: [&str; 14] = [
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-hedge-on-per-try-timeout",
];
/// What no client may say.
const EDGE_ONLY: [&str; 5] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-path",
    "x-envoy-original-host",
];

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

/// Who the client is: the connection's other end, or what trusted proxies before us say.
pub(crate) fn client(identity: &Identity, headers: &HeaderMap, connection: &Connection) -> SocketAddr {
    let hops: Vec<IpAddr> = forwarded_for(headers);
    let index = if identity.use_remote_address { identity.trusted_hops } else { identity.trusted_hops + 1 };
    match hops.len().checked_sub(index as usize).and_then(|at| hops.get(at)) {
        Some(&address) if index > 0 => SocketAddr::new(address, 0),
        _ => connection.remote,
    }
}

fn forwarded_for(headers: &HeaderMap) -> Vec<IpAddr> {
    let values = headers.get_all(&X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|hop| hop.trim().parse().ok()).collect()
}

/// Puts on the request who sent it and how, and takes off what its sender may not say.
pub(crate) fn annotate(
    identity: &Identity,
    headers: &mut HeaderMap,
    connection: &Connection,
    client: SocketAddr,
    internal_only: &[HeaderName],
) {
    let edge = identity.use_remote_address;
    let internal = (if edge { !headers.contains_key(&X_FORWARDED_FOR) } else { one_hop(headers) })
        && identity.internal.iter().any(|range| range.contains(client.ip()));
    if edge && !identity.skip_xff_append {
        let hop = connection.remote.ip();
        let hop = if hop.is_loopback() { identity.machine } else { hop };
        append(headers, &X_FORWARDED_FOR, &hop.to_string());
    }
    // What a proxy that is trusted says of the client's connection stays.
    let overwrites = edge && identity.trusted_hops == 0;
    if overwrites || !headers.contains_key(&X_FORWARDED_PROTO) {
        set(headers, X_FORWARDED_PROTO, if connection.tls.is_some() { "https" } else { "http" });
    }
    if identity.append_forwarded_port && (overwrites || !headers.contains_key(&X_FORWARDED_PORT)) {
        set(headers, X_FORWARDED_PORT, &connection.local.port().to_string());
    }
    if internal {
        set(headers, INTERNAL, "true");
    } else {
        headers.remove(&INTERNAL);
        INTERNAL_ONLY.iter().for_each(|name| drop(headers.remove(*name)));
        internal_only.iter().for_each(|name| drop(headers.remove(name)));
        if edge {
            EDGE_ONLY.iter().for_each(|name| drop(headers.remove(*name)));
            set(headers, EXTERNAL_ADDRESS, &client.ip().to_string());
        }
    }
    // The client gets its body's go-ahead from us.
    headers.remove(EXPECT);
    request_id(identity, headers, edge && !internal);
    client_cert(identity, headers, connection);
    if let Some(via) = &identity.via {
        add_via(headers, via);
    }
}

/// Whether one address only is said to have sent the request on.
fn one_hop(headers: &HeaderMap) -> bool {
    let hops = joined(headers, &X_FORWARDED_FOR);
    hops.is_some_and(|hops| !hops.contains(&b',')) && !forwarded_for(headers).is_empty()
}

/// Whether a header that is a list names `word`.
pub(crate) fn lists(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

/// Names that a server behind us may take for others, and more of them than it may want.
pub(crate) fn check_names(hcm: &Hcm, headers: &mut HeaderMap, version: Version) -> Result<(), LocalReply> {
    // The gate has counted those of HTTP/1.1; the pseudo-headers of HTTP/2 are headers to Envoy.
    if version == Version::HTTP_2 && headers.len() + 4 > hcm.limits.headers_count as usize {
        let (status, message) =
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Request Header Fields Too Large");
        return Err(LocalReply::new(status, message, "http2.too_many_headers"));
    }
    if hcm.underscores == HeadersWithUnderscoresAction::Allow {
        return Ok(());
    }
    let names: Vec<_> = headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    if !names.is_empty() && hcm.underscores == HeadersWithUnderscoresAction::RejectRequest {
        let details = "http1.unexpected_underscore";
        return Err(LocalReply::new(StatusCode::BAD_REQUEST, "Bad Request", details));
    }
    names.iter().for_each(|name| drop(headers.remove(name)));
    Ok(())
}

/// No other protocol is spoken here. HTTP/2 over an upgrade is not asked for in earnest by anybody: such a request is
/// served as what it is.
pub(crate) fn check_upgrade(headers: &mut HeaderMap) -> Result<(), LocalReply> {
    if !headers.contains_key(UPGRADE) || !lists(headers, CONNECTION, "upgrade") {
        return Ok(());
    }
    if lists(headers, UPGRADE, "h2c") {
        headers.remove(UPGRADE);
        headers.remove("http2-settings");
        return Ok(());
    }
    Err(LocalReply::new(StatusCode::FORBIDDEN, "", "upgrade_failed"))
}

/// Names us among those who passed a message on.
pub(crate) fn add_via(headers: &mut HeaderMap, name: &HeaderValue) {
    let list = match joined(headers, VIA) {
        Some(list) if !list.is_empty() => {
            HeaderValue::from_bytes(&[&list, &b", "[..], name.as_bytes()].concat())
        }
        _ => Ok(name.clone()),
    };
    if let Ok(list) = list {
        headers.insert(VIA, list);
    }
}

fn request_id(identity: &Identity, headers: &mut HeaderMap, external: bool) {
    if !identity.generate_request_id {
        return;
    }
    if headers.contains_key(&X_REQUEST_ID) && (!external || identity.preserve_request_id) {
        return;
    }
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut text);
    set(headers, X_REQUEST_ID, id);
}

fn client_cert(identity: &Identity, headers: &mut HeaderMap, connection: &Connection) {
    use ForwardClientCertDetails as Forward;
    let peer = connection.tls.as_ref().and_then(|tls| tls.peer.as_ref());
    let mutual = peer.is_some();
    match identity.client_cert {
        Forward::AlwaysForwardOnly => return,
        Forward::ForwardOnly if mutual => return,
        Forward::AppendForward if mutual => {}
        Forward::SanitizeSet if mutual => {
            headers.remove(&X_FORWARDED_CLIENT_CERT);
        }
        _ => {
            headers.remove(&X_FORWARDED_CLIENT_CERT);
            return;
        }
    }
    if let (Some(peer), Some(tls)) = (peer, &connection.tls) {
        let element = xfcc(peer, &tls.local_uris, identity.client_cert_parts);
        append(headers, &X_FORWARDED_CLIENT_CERT, &element);
    }
}

/// One element of `x-forwarded-client-cert`.
fn xfcc(peer: &PeerCertificate, local_uris: &[String], parts: CertParts) -> String {
    let mut details: Vec<String> = local_uris.iter().map(|uri| format!("By={uri}")).collect();
    details.push(format!("Hash={}", peer.sha256));
    if parts.cert {
        details.push(format!("Cert=\"{}\"", percent(&peer.pem)));
    }
    if parts.chain {
        details.push(format!("Chain=\"{}\"", percent(&peer.chain_pem)));
    }
    if parts.subject {
        details.push(format!("Subject=\"{}\"", peer.subject));
    }
    if parts.uri {
        details.extend(peer.uris.iter().map(|uri| format!("URI={uri}")));
    }
    if parts.dns {
        details.extend(peer.dns.iter().map(|name| format!("DNS={name}")));
    }
    details.join(";")
}

/// PEM as a header's value carries it.
pub(crate) fn percent(pem: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(pem.len() * 2);
    for byte in pem.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Adds to a header that is a list.
fn append(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    let list = match headers.get(name).and_then(|list| list.to_str().ok()) {
        Some(list) if !list.is_empty() => format!("{list},{value}"),
        _ => value.to_owned(),
    };
    set(headers, name.clone(), &list);
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
