//! What the authorization service is told of a call.

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, Metadata, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request, TlsSession};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use http::{HeaderName, Version};
use serde_json::{Map, Value};

use super::{ExtAuthz, Shared};
use crate::call::{Call, TlsFacts};
use crate::downstream::normalize::percent;
use crate::head::joined;
use crate::value;

const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";
const SERVICE_CLUSTER: &str = "x-envoy-downstream-service-cluster";

/// As much of a request's body as the service is shown.
pub(super) struct Shown {
    pub(super) body: Bytes,
    pub(super) partial: bool,
}

pub(super) fn question(filter: &ExtAuthz, call: &Call, shown: Option<Shown>) -> CheckRequest {
    let shared = &*filter.shared;
    let tls = call.connection.tls.as_ref();
    let route = call.route.as_ref().map(|route| &route.metadata);
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(client(shared, call)),
            destination: Some(Peer {
                address: Some(address(call.connection.local)),
                principal: tls.and_then(|tls| tls.local_uris.first()).cloned().unwrap_or_default(),
                ..Peer::default()
            }),
            request: Some(Request {
                time: Some(value::timestamp(call.start_time)),
                http: Some(http(shared, call, shown)),
            }),
            context_extensions: filter.extensions.clone(),
            metadata_context: Some(metadata(&shared.namespaces, &call.metadata)),
            route_metadata_context: Some(
                route.map(|route| metadata(&shared.route_namespaces, route)).unwrap_or_default(),
            ),
            tls_session: tls
                .filter(|_| shared.tell_tls)
                .map(|tls| TlsSession { sni: tls.sni.clone().unwrap_or_default() }),
        }),
    }
}

fn client(shared: &Shared, call: &Call) -> Peer {
    let peer = call.connection.tls.as_ref().and_then(|tls: &TlsFacts| tls.peer.as_ref());
    Peer {
        address: Some(address(call.connection.remote)),
        service: call.request.text(SERVICE_CLUSTER).unwrap_or_default().into_owned(),
        principal: peer
            .map(|peer| peer.uris.first().or(peer.dns.first()).unwrap_or(&peer.subject).clone())
            .unwrap_or_default(),
        certificate: match peer {
            Some(peer) if shared.tell_certificate => percent(&peer.pem),
            _ => String::new(),
        },
        ..Peer::default()
    }
}

fn address(address: SocketAddr) -> Address {
    let port = PortSpecifier::PortValue(address.port().into());
    let address = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(port),
        ..SocketAddress::default()
    };
    Address { address: Some(AddressKind::SocketAddress(address)) }
}

fn http(shared: &Shared, call: &Call, shown: Option<Shown>) -> HttpRequest {
    let request = &call.request;
    let text = |name: &str| request.text(name).unwrap_or_default().into_owned();
    let mut http = HttpRequest {
        id: call.random.to_string(),
        method: text(":method"),
        headers: headers(shared, call),
        path: text(":path"),
        host: text(":authority"),
        scheme: text(":scheme"),
        size: i64::try_from(call.meter.received()).unwrap_or(i64::MAX),
        protocol: match call.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
        .to_owned(),
        ..HttpRequest::default()
    };
    if let Some(shown) = shown {
        http.headers.insert(PARTIAL_BODY.to_owned(), shown.partial.to_string());
        if shared.body.is_some_and(|body| body.as_bytes) {
            http.raw_body = shown.body.to_vec();
        } else {
            http.body = String::from_utf8_lossy(&shown.body).into_owned();
        }
    }
    http
}

/// The headers that may be told, pseudo-headers among them; several values are joined with commas.
fn headers(shared: &Shared, call: &Call) -> HashMap<String, String> {
    let request = &call.request;
    let names = request.headers.keys().map(HeaderName::as_str);
    let told = [":authority", ":method", ":path", ":scheme"]
        .into_iter()
        .chain(names)
        .filter(|name| *name != PARTIAL_BODY && shared.tells(name));
    told.filter_map(|name| {
        let value = if name.starts_with(':') { request.get(name) } else { joined(&request.headers, name) };
        Some((name.to_owned(), String::from_utf8_lossy(&value?).into_owned()))
    })
    .collect()
}

fn metadata(namespaces: &[String], all: &Map<String, Value>) -> Metadata {
    let told = namespaces.iter().filter_map(|name| match all.get(name) {
        Some(Value::Object(facts)) => Some((name.clone(), value::structure(facts))),
        _ => None,
    });
    Metadata { filter_metadata: told.collect(), ..Metadata::default() }
}
