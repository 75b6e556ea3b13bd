//! Lines as Envoy 1.40 writes them.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value as Template, value::Kind};
use http::header::{HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, StatusCode, Version};
use pb::access_log_filter::FilterSpecifier;
use pb::comparison_filter::Op;
use serde_json::json;

use super::*;
use crate::body::Source;
use crate::call::{Connection, Protocol};
use crate::clock::Meter;
use crate::compile::Parts;
use crate::flag::Flag;
use crate::head::Head;

fn call() -> Call {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let connection = Connection {
        id: 1,
        chain: "".into(),
        remote: address("127.0.0.1:50000"),
        local: address("127.0.0.1:8080"),
        tls: None,
    };
    let head = Head {
        method: Method::GET,
        scheme: Scheme::HTTP,
        authority: HeaderValue::from_static("127.0.0.1:28080"),
        path: PathAndQuery::from_static("/"),
        headers: HeaderMap::from_iter([(
            HeaderName::from_static("user-agent"),
            HeaderValue::from_static("curl/7.88.1"),
        )]),
    };
    let meter = Arc::new(Meter::new(true));
    let mut call = Call::new(head, Source::Empty, meter, Version::HTTP_11, Arc::new(connection));
    call.start_time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_481_818_034_012);
    call.details = "via_upstream".into();
    call.upstream.host = Some("127.0.0.1:27074".into());
    call.upstream.attempts = 1;
    call.ended.status = Some(StatusCode::OK);
    call.ended.bytes_sent = 679;
    call.ended.duration = Duration::from_millis(12);
    call.ended.headers.insert("x-envoy-upstream-service-time", HeaderValue::from_static("9"));
    call
}

fn write(line: &Line, call: &Call) -> String {
    line.write(Facts::of_ended(call))
}

fn template(value: &serde_json::Value) -> Template {
    use serde_json::Value as Json;
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap()),
        Json::String(value) => Kind::StringValue(value.clone()),
        Json::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(template).collect() }),
        Json::Object(_) => Kind::StructValue(fields(value)),
    };
    Template { kind: Some(kind) }
}

fn fields(value: &serde_json::Value) -> Struct {
    Struct {
        fields: value
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (key.clone(), template(value)))
            .collect(),
    }
}

fn json_line(value: &serde_json::Value, omit_empty_values: bool) -> Line {
    let format = Some(Format::JsonFormat(fields(value)));
    let config =
        SubstitutionFormatString { format, omit_empty_values, ..SubstitutionFormatString::default() };
    Line::compile(&config, &Path::root()).unwrap()
}

#[test]
fn the_default_line_is_envoys() {
    let line = Line::default(&Path::root()).unwrap();
    assert_eq!(
        write(&line, &call()),
        "[2016-12-15T16:07:14.012Z] \"GET / HTTP/1.1\" 200 - 0 679 12 9 \"-\" \"curl/7.88.1\" \"-\" \
         \"127.0.0.1:28080\" \"127.0.0.1:27074\"\n"
    );
}

/// The left side went to Envoy, which wrote the right one.
#[test]
fn json_keeps_types_and_sorts_keys() {
    let format = json!({
        "z": "%RESPONSE_CODE%", "a": "%REQ(X-NOT)%", "mixed": "x%RESPONSE_CODE%y %REQ(X-NOT)%", "n": 5, "b": true,
        "nul": null, "q": "a\"b\u{1}é", "obj": { "inner": "%DURATION%", "list": ["%PROTOCOL%", 3] }, "lit": "plain",
        "att": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "gs": "%GRPC_STATUS%", "gn": "%GRPC_STATUS_NUMBER%",
        "st": "%START_TIME%", "flags": "%RESPONSE_FLAGS%", "det": "%RESPONSE_CODE_DETAILS%",
    });
    assert_eq!(
        write(&json_line(&format, false), &call()),
        "{\"a\":null,\"att\":1,\"b\":true,\"det\":\"via_upstream\",\"flags\":\"-\",\"gn\":null,\"gs\":null,\
         \"lit\":\"plain\",\"mixed\":\"x200y -\",\"n\":5,\"nul\":null,\
         \"obj\":{\"inner\":12,\"list\":[\"HTTP/1.1\",3]},\"q\":\"a\\\"b\\u0001é\",\
         \"st\":\"2016-12-15T16:07:14.012Z\",\"z\":200}\n"
    );
}

#[test]
fn empty_values_are_left_out_where_that_is_asked_for() {
    let format = json!({
        "z": "%RESPONSE_CODE%", "a": "%REQ(X-NOT)%", "mixed": "x%RESPONSE_CODE%y %REQ(X-NOT)%",
        "mt": "%REQ(X-NOT)%%REQ(X-NOT2)%", "nul": null, "obj": { "inner": "%REQ(X-NOT)%" },
    });
    let line = json_line(&format, true);
    assert_eq!(write(&line, &call()), "{\"mixed\":\"x200y \",\"mt\":\"\",\"z\":200}\n");
}

#[test]
fn a_grpc_web_call_is_logged_with_its_true_status() {
    let mut call = call();
    call.protocol = Protocol::GrpcWeb { text_reply: false };
    call.ended.grpc_status = Some(0);
    let line = Line::text("%GRPC_STATUS% %GRPC_STATUS_NUMBER%", &Path::root()).unwrap();
    assert_eq!(write(&line, &call), "OK 0");
}

fn takes(filter: FilterSpecifier, call: &Call) -> bool {
    let filter = pb::AccessLogFilter { filter_specifier: Some(filter) };
    Filter::compile(&filter, &Path::root()).unwrap().takes(call)
}

fn comparison(op: Op, value: u32) -> Option<pb::ComparisonFilter> {
    let value = envoy_types::pb::envoy::config::core::v3::RuntimeUInt32 {
        default_value: value,
        ..Default::default()
    };
    Some(pb::ComparisonFilter { op: op.into(), value: Some(value) })
}

fn status(op: Op, value: u32) -> FilterSpecifier {
    FilterSpecifier::StatusCodeFilter(pb::StatusCodeFilter { comparison: comparison(op, value) })
}

#[test]
fn numbers_are_compared() {
    for (op, value, expected) in [
        (Op::Eq, 200, true),
        (Op::Eq, 201, false),
        (Op::Ge, 200, true),
        (Op::Ge, 201, false),
        (Op::Le, 200, true),
        (Op::Le, 199, false),
        (Op::Ne, 404, true),
        (Op::Ne, 200, false),
    ] {
        assert_eq!(takes(status(op, value), &call()), expected, "{op:?} {value}");
    }
    let slow =
        |value| FilterSpecifier::DurationFilter(pb::DurationFilter { comparison: comparison(Op::Ge, value) });
    assert!(takes(slow(12), &call()) && !takes(slow(13), &call()));
}

#[test]
fn filters_look_at_headers_flags_and_statuses() {
    let mut call = call();
    let header = HeaderMatcher { name: "user-agent".to_owned(), ..HeaderMatcher::default() };
    let with = FilterSpecifier::HeaderFilter(pb::HeaderFilter { header: Some(header) });
    assert!(takes(with, &call));
    let flags = |flags: &[&str]| {
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        FilterSpecifier::ResponseFlagFilter(pb::ResponseFlagFilter { flags })
    };
    assert!(!takes(flags(&[]), &call));
    call.flag(Flag::UpstreamOverflow);
    assert!(takes(flags(&[]), &call) && takes(flags(&["UH", "UO"]), &call) && !takes(flags(&["UH"]), &call));
    // Envoy knows this flag; no call of ours has it.
    assert!(!takes(flags(&["DF"]), &call));
    let grpc = |statuses: &[i32], exclude| {
        FilterSpecifier::GrpcStatusFilter(pb::GrpcStatusFilter { statuses: statuses.to_vec(), exclude })
    };
    // Without a status of its own, an HTTP status counts as the gRPC status that it stands for.
    assert!(takes(grpc(&[2], false), &call) && !takes(grpc(&[2], true), &call));
    call.ended.grpc_status = Some(14);
    assert!(takes(grpc(&[14], false), &call) && takes(grpc(&[0], true), &call));
    call.details = "health_check_ok".into();
    assert!(!takes(FilterSpecifier::NotHealthCheckFilter(pb::NotHealthCheckFilter {}), &call));
}

#[test]
fn filters_can_be_joined() {
    let filters = |filters: Vec<FilterSpecifier>| -> Vec<_> {
        filters.into_iter().map(|filter| pb::AccessLogFilter { filter_specifier: Some(filter) }).collect()
    };
    let mixed = || filters(vec![status(Op::Eq, 200), status(Op::Ge, 500)]);
    assert!(!takes(FilterSpecifier::AndFilter(pb::AndFilter { filters: mixed() }), &call()));
    assert!(takes(FilterSpecifier::OrFilter(pb::OrFilter { filters: mixed() }), &call()));
}

#[test]
fn what_is_not_supported_is_a_problem_with_its_place() {
    let mut parts = Parts::default();
    let filter_specifier = Some(FilterSpecifier::TraceableFilter(pb::TraceableFilter {}));
    let log =
        pb::AccessLog { filter: Some(pb::AccessLogFilter { filter_specifier }), ..pb::AccessLog::default() };
    let problem = AccessLog::compile(&log, &Path::root().index(0), &parts.shared()).unwrap_err();
    assert_eq!(problem.path, "[0].filter.traceable_filter");
    let any = Any {
        type_url: "type.googleapis.com/envoy.extensions.access_loggers.wasm.v3.WasmAccessLog".to_owned(),
        ..Any::default()
    };
    let log = pb::AccessLog { config_type: Some(ConfigType::TypedConfig(any)), ..pb::AccessLog::default() };
    let problem = AccessLog::compile(&log, &Path::root(), &parts.shared()).unwrap_err();
    assert!(problem.message.contains("WasmAccessLog is not supported"), "{problem}");
}
