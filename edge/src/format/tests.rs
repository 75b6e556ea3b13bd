//! What formats tell, as Envoy 1.40 tells it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::call::{Connection, PeerCertificate, TlsFacts};
use crate::flag::Flag;

fn call() -> Call {
    let headers = [("x-d", "d1"), ("x-d", "d2"), ("x-request-id", "id-1"), ("x-name", "größe")];
    let mut call = Call::sample("POST", "shop.example", "/a.B/C?q=x%20y", &headers);
    call.connection = Arc::new(Connection {
        tls: Some(TlsFacts {
            sni: Some("shop.example".into()),
            version: "TLSv1.3",
            peer: Some(PeerCertificate {
                uris: vec!["spiffe://a".into(), "spiffe://b".into()],
                subject: "CN=pos".into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Connection::clone(&call.connection)
    });
    call.note("ns", "key", json!({ "deep": "value", "number": 5 }));
    call.upstream.cluster = Some("backend".into());
    call.upstream.host = Some("127.0.0.1:17074".into());
    call.upstream.attempts = 2;
    call.details = "via_upstream".into();
    call.ended.status = Some(StatusCode::OK);
    call.ended.grpc_status = Some(5);
    call.ended.headers.insert("x-envoy-upstream-service-time", "3".parse().unwrap());
    call.ended.trailers.insert("grpc-message", "not found".parse().unwrap());
    call.ended.bytes_sent = 69;
    call.ended.duration = Duration::from_micros(12_700);
    call
}

#[test]
fn formats_tell_what_envoy_tells() {
    let call = call();
    for (format, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("100%%", "100%"),
        ("%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%", "POST /a.B/C?q=x%20y HTTP/1.1"),
        ("%REQ(:AUTHORITY)%|%REQ(Host)%|%REQ(:SCHEME)%", "shop.example|shop.example|http"),
        ("%REQ(x-d)%|%REQ(none?x-d)%|%REQ(x-d):1%|%REQ(none)%", "d1|d1|d|-"),
        ("%REQ(x-name):3%", "gr"),
        ("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%", "200 via_upstream -"),
        ("%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% %TRAILER(grpc-message)%", "3 not found"),
        ("%BYTES_RECEIVED% %BYTES_SENT% %DURATION%", "0 69 12"),
        ("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)%", "NotFound NOT_FOUND 5"),
        ("%GRPC_STATUS_NUMBER%", "5"),
        ("%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", "127.0.0.1:17074 backend 2"),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", "-"),
        ("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.1.2.3:4567 10.1.2.3"),
        ("%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%", "127.0.0.1:8080 8080"),
        ("%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_SUBJECT%", "spiffe://a,spiffe://b CN=pos"),
        ("%DOWNSTREAM_PEER_ISSUER% %DOWNSTREAM_TLS_VERSION%", "- TLSv1.3"),
        ("%REQUESTED_SERVER_NAME% %CONNECTION_ID% %STREAM_ID%", "shop.example 7 id-1"),
        ("%ROUTE_NAME% %VIRTUAL_CLUSTER_NAME%", "- -"),
        ("%DYNAMIC_METADATA(ns:key:deep)% %DYNAMIC_METADATA(ns:none)%", "value -"),
        ("%DYNAMIC_METADATA(ns:key)%", r#"{"deep":"value","number":5}"#),
        ("%METADATA(DYNAMIC:ns:key:number)% %FILTER_STATE(none:PLAIN)%", "5 -"),
        ("%QUERY_PARAM(q)% %QUERY_PARAM(none)%", "x y -"),
        ("%START_TIME% %START_TIME(%Y/%m/%d)%", "1970-01-01T00:00:00.000Z 1970/01/01"),
        ("%ENVIRONMENT(OMNIMESH_IS_NOT_SET)%", "-"),
    ] {
        let mut told = String::new();
        Format::parse(format, &Path::root()).unwrap().write(Facts::of_ended(&call), "-", &mut told);
        assert_eq!(told, expected, "{format}");
    }
}

#[test]
fn one_operator_alone_keeps_its_type() {
    let mut call = call();
    call.flag(Flag::UpstreamRetryLimitExceeded);
    for (format, expected) in [
        ("%RESPONSE_CODE%", Some(Value::Number(200))),
        ("%DURATION%", Some(Value::Number(12))),
        ("%REQ(none)%", None),
        ("%RESPONSE_FLAGS%", Some(Value::from("URX"))),
        ("%DURATION%ms", Some(Value::from("12ms"))),
        ("%REQ(none)%!", Some(Value::from("-!"))),
        ("%DYNAMIC_METADATA(ns:key:number)%", Some(Value::Json(Cow::Owned(json!(5))))),
    ] {
        let format_read = Format::parse(format, &Path::root()).unwrap();
        assert_eq!(format_read.value(Facts::of_ended(&call), "-"), expected, "{format}");
    }
}

#[test]
fn what_envoy_refuses_is_refused() {
    for format in [
        "%BOGUS%",
        "a%",
        "a%b",
        "%REQ%",
        "%REQ()%",
        "%PROTOCOL(x)%",
        "%PROTOCOL:3%",
        "%REQ(a?b?c)%",
        "%REQ(a b)%",
        "%START_TIME:4%",
        "%GRPC_STATUS(X)%",
        "%FILTER_STATE(a:BOGUS)%",
        "%METADATA(BOGUS:a)%",
        "%HOSTNAME(x)%",
        "%HOSTNAME:3%",
        "%req(a)%",
        "%DYNAMIC_METADATA%",
    ] {
        assert!(Format::parse(format, &Path::root()).is_err(), "{format}");
    }
    assert!(Format::parse("%PROTOCOL()%", &Path::root()).is_ok());
}
