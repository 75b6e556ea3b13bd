//! What is made of a request's headers before anything else reads them: who sent it, and what that one may say.

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use http::header::{CONNECTION, EXPECT, UPGRADE, VIA};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use pb::http_connection_manager::ForwardClientCertDetails;

use crate::call::{Connection, PeerCertificate};
use crate::downstream::hcm::{CertParts, Hcm, Identity};
use crate::head::joined;
use crate::reply::LocalReply;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const RESOURCE_EXHAUSTED: i32 = 8;
/// What only our own neighbours may say.
static INTERNAL_ONLY: [HeaderName; 15] = [
    INTERNAL,
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-force-trace"),
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-original-url"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
];
/// What no client may say.
static EDGE_ONLY: [HeaderName; 5] = [
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-envoy-original-host"),
];

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
    let internal = identity.internal.iter().any(|range| range.contains(client.ip()))
        && (if edge { !headers.contains_key(&X_FORWARDED_FOR) } else { one_hop(headers) });
    if edge && !identity.skip_xff_append {
        let hop = connection.remote.ip();
        let hop = if hop.is_loopback() { identity.machine } else { hop };
        append(headers, &X_FORWARDED_FOR, &hop.to_string());
    }
    // What a proxy that is trusted says of the client's connection stays.
    let overwrites = edge && identity.trusted_hops == 0;
    if overwrites || !headers.contains_key(&X_FORWARDED_PROTO) {
        let proto = if connection.tls.is_some() { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if identity.append_forwarded_port && (overwrites || !headers.contains_key(&X_FORWARDED_PORT)) {
        set(headers, X_FORWARDED_PORT, &connection.local.port().to_string());
    }
    if internal {
        headers.insert(INTERNAL, HeaderValue::from_static("true"));
    } else {
        if speaks_of_envoy(headers) {
            let edge_only = if edge { &EDGE_ONLY[..] } else { &[] };
            let withheld = INTERNAL_ONLY.iter().chain(edge_only);
            withheld.for_each(|name| drop(headers.remove(name)));
        }
        internal_only.iter().for_each(|name| drop(headers.remove(name)));
        if edge {
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

/// Whether any header is Envoy's own: few clients send one, and a look at all names is cheaper than a search for each.
pub(crate) fn speaks_of_envoy(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("x-envoy-"))
}

/// Tells the upstream which scheme the client is taken to have used.
pub(crate) fn tell_scheme(headers: &mut HeaderMap, scheme: &Scheme) {
    set(headers, X_FORWARDED_PROTO, scheme.as_str());
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
        let refused = LocalReply::new(status, message, "http2.too_many_headers");
        return Err(refused.with_grpc(RESOURCE_EXHAUSTED));
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

/// Takes off what the client's `Connection` names, before anything that the edge sets could bear such a name. `TE` goes
/// its own way.
pub(crate) fn drop_nominated(headers: &mut HeaderMap) {
    const MEANT: [&str; 3] = ["close", "keep-alive", "upgrade"];
    let lines: Vec<_> = headers.get_all(CONNECTION).iter().cloned().collect();
    let names = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let is_meant = |name: &&str| MEANT.iter().any(|meant| name.eq_ignore_ascii_case(meant));
    let (meant, nominated): (Vec<_>, Vec<_>) = names.map(str::trim).partition(is_meant);
    if nominated.is_empty() {
        return;
    }
    headers.remove(CONNECTION);
    if let Some(meant) = HeaderValue::from_str(&meant.join(", ")).ok().filter(|meant| !meant.is_empty()) {
        headers.insert(CONNECTION, meant);
    }
    let own_way = |name: &&str| ["te", "http2-settings"].iter().any(|own| name.eq_ignore_ascii_case(own));
    nominated.into_iter().filter(|name| !own_way(name)).for_each(|name| drop(headers.remove(name)));
}

/// The protocol that a client wants to go over to. HTTP/2 over an upgrade is not asked for in earnest by anybody: such
/// a request is served as what it is.
pub(crate) fn wanted_upgrade(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(UPGRADE).cloned().filter(|_| lists(headers, CONNECTION, "upgrade"))?;
    if lists(headers, UPGRADE, "h2c") {
        headers.remove(UPGRADE);
        headers.remove("http2-settings");
        return None;
    }
    Some(wanted)
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
    let id =
        uuid::Builder::from_random_bytes(rand::random()).into_uuid().hyphenated().encode_lower(&mut text);
    if let Ok(mut id) = HeaderValue::from_str(id) {
        // A value that never comes again shall not push others out of the upstream's header table.
        id.set_sensitive(true);
        headers.insert(X_REQUEST_ID, id);
    }
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
