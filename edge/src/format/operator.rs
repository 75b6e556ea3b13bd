//! The operators of formats, such as `REQ(:PATH)`.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use http::Version;
use serde_json::Map;

use super::time::TimeFormat;
use super::{Command, Facts, Value};
use crate::call::{PeerCertificate, TlsFacts};
use crate::head::{Field, Fields};
use crate::matcher::decoded_parameter;
use crate::problem::Path;

/// Something to be told of a call.
#[derive(Clone, Debug)]
pub(super) enum Operator {
    /// What takes no argument.
    Plain(Read),
    Request(Names),
    Response(Names),
    Trailer(Names),
    Query(String),
    StartTime(TimeFormat),
    GrpcStatus(GrpcStatus),
    Metadata {
        source: Source,
        path: Vec<String>,
    },
    /// Known when the format is read, such as the host's name.
    Constant(Option<String>),
}

type Read = for<'a> fn(Facts<'a>) -> Option<Value<'a>>;

/// A header, and the one that is read where it is missing.
#[derive(Clone, Debug)]
pub(super) struct Names {
    main: Field,
    alternative: Option<Field>,
}

impl Names {
    fn parse(argument: &str) -> Result<Self, String> {
        let root = Path::root();
        let field = |name: &str| Field::parse(name, &root).map_err(|problem| problem.message);
        let (main, alternative) = match argument.split_once('?') {
            Some((_, more)) if more.contains('?') => {
                return Err(format!("({argument}) has more than one alternative"));
            }
            Some((main, alternative)) => (main, Some(field(alternative)?)),
            None => (argument, None),
        };
        Ok(Self { main: field(main)?, alternative })
    }

    fn read<'a>(&self, headers: &'a impl Fields) -> Option<Value<'a>> {
        let first = |field: &Field| headers.first(field);
        let value = first(&self.main).or_else(|| self.alternative.as_ref().and_then(first))?;
        Some(Value::Text(String::from_utf8_lossy(value)))
    }
}

/// How a gRPC status is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum GrpcStatus {
    Camel,
    Snake,
    Number,
}

/// Whose metadata.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Dynamic,
    Route,
}

const PLAIN: &[(&str, Read)] = &[
    ("BYTES_RECEIVED", |facts| number(facts.call.ended.bytes_received)),
    ("BYTES_SENT", |facts| number(facts.call.ended.bytes_sent)),
    ("CONNECTION_TERMINATION_DETAILS", |_| None),
    ("CONNECTION_ID", |facts| number(facts.call.connection.id)),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS", |facts| address(facts.call.connection.local)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", |facts| address(facts.call.connection.remote)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", |facts| ip(facts.call.connection.remote)),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", |facts| number(facts.call.connection.remote.port())),
    ("DOWNSTREAM_LOCAL_ADDRESS", |facts| address(facts.call.connection.local)),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", |facts| ip(facts.call.connection.local)),
    ("DOWNSTREAM_LOCAL_PORT", |facts| number(facts.call.connection.local.port())),
    ("DOWNSTREAM_LOCAL_URI_SAN", |facts| list(&tls(facts)?.local_uris)),
    ("DOWNSTREAM_PEER_CERT", |facts| some(encode(&peer(facts)?.pem))),
    ("DOWNSTREAM_PEER_DNS_SAN", |facts| list(&peer(facts)?.dns)),
    ("DOWNSTREAM_PEER_FINGERPRINT_256", |facts| some(&*peer(facts)?.sha256)),
    ("DOWNSTREAM_PEER_ISSUER", |facts| some(&*peer(facts)?.issuer)),
    ("DOWNSTREAM_PEER_SERIAL", |facts| some(&*peer(facts)?.serial)),
    ("DOWNSTREAM_PEER_SUBJECT", |facts| some(&*peer(facts)?.subject)),
    ("DOWNSTREAM_PEER_URI_SAN", |facts| list(&peer(facts)?.uris)),
    ("DOWNSTREAM_REMOTE_ADDRESS", |facts| address(facts.call.remote)),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", |facts| ip(facts.call.remote)),
    ("DOWNSTREAM_REMOTE_PORT", |facts| number(facts.call.remote.port())),
    ("DOWNSTREAM_TLS_CIPHER", |facts| some(&*tls(facts)?.cipher)),
    ("DOWNSTREAM_TLS_VERSION", |facts| some(tls(facts)?.version)),
    ("DURATION", |facts| millis(Some(duration(facts)))),
    ("FILTER_CHAIN_NAME", |facts| some(&*facts.call.connection.chain)),
    ("GRPC_STATUS_NUMBER", |facts| number(facts.call.ended.grpc_status?)),
    ("LOCAL_REPLY_BODY", |facts| Some(facts.local_body?.into())),
    ("PROTOCOL", |facts| some(protocol(facts.call.version))),
    ("REQUESTED_SERVER_NAME", |facts| some(tls(facts)?.sni.as_deref()?)),
    ("REQUEST_DURATION", |facts| millis(facts.call.ended.request_received)),
    ("RESPONSE_CODE", |facts| number(facts.status.map_or(0, |status| status.as_u16()))),
    ("RESPONSE_CODE_DETAILS", |facts| some(&*facts.call.details)),
    ("RESPONSE_DURATION", |facts| millis(facts.call.ended.response_begun)),
    ("RESPONSE_FLAGS", |facts| Some(facts.call.flags.to_string().into())),
    ("RESPONSE_FLAGS_LONG", |facts| Some(facts.call.flags.long().into())),
    ("ROUTE_NAME", |facts| some(&*facts.call.route.as_ref()?.name)),
    ("SPAN_ID", |facts| Some(format!("{:016x}", facts.call.trace.as_ref()?.context.span_id).into())),
    ("STREAM_ID", |facts| some(facts.call.request.headers.get("x-request-id")?.to_str().ok()?)),
    ("TRACE_ID", |facts| Some(format!("{:032x}", facts.call.trace.as_ref()?.context.trace_id).into())),
    ("UPSTREAM_CLUSTER", |facts| some(&**facts.call.upstream.cluster.as_ref()?)),
    ("UPSTREAM_CLUSTER_RAW", |facts| some(&**facts.call.upstream.cluster.as_ref()?)),
    ("UPSTREAM_HOST", |facts| some(&**facts.call.upstream.host.as_ref()?)),
    ("UPSTREAM_LOCAL_ADDRESS", |facts| address(facts.call.upstream.local?)),
    ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", |facts| ip(facts.call.upstream.local?)),
    ("UPSTREAM_LOCAL_PORT", |facts| number(facts.call.upstream.local?.port())),
    ("UPSTREAM_REMOTE_ADDRESS", |facts| some(&**facts.call.upstream.host.as_ref()?)),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", |facts| ip(upstream(facts)?)),
    ("UPSTREAM_REMOTE_PORT", |facts| number(upstream(facts)?.port())),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", |facts| number(facts.call.upstream.attempts)),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", |facts| some(facts.call.upstream.failure.as_deref()?)),
    ("VIRTUAL_CLUSTER_NAME", |facts| {
        some(facts.call.route.as_ref()?.virtual_host.virtual_cluster(&facts.call.request)?)
    }),
];

impl Operator {
    pub(super) fn parse(command: &Command<'_>) -> Result<Self, String> {
        let name = command.name;
        let argument = || match command.argument {
            None | Some("") => Err(format!("%{name}% requires parameters, such as %{name}(x)%")),
            Some(argument) => Ok(argument),
        };
        let parsed = match name {
            "REQ" => Self::Request(Names::parse(argument()?)?),
            "RESP" => Self::Response(Names::parse(argument()?)?),
            "TRAILER" => Self::Trailer(Names::parse(argument()?)?),
            "QUERY_PARAM" => Self::Query(argument()?.to_owned()),
            "START_TIME" => Self::StartTime(TimeFormat::parse(command.argument.unwrap_or_default())?),
            "GRPC_STATUS" => Self::GrpcStatus(GrpcStatus::parse(command.argument.unwrap_or_default())?),
            "ENVIRONMENT" => Self::Constant(std::env::var(argument()?).ok()),
            "HOSTNAME" => Self::Constant(hostname()),
            "DYNAMIC_METADATA" => {
                Self::Metadata { source: Source::Dynamic, path: path(argument()?.split(':')) }
            }
            "FILTER_STATE" => Self::filter_state(argument()?)?,
            "METADATA" => Self::metadata(argument()?)?,
            _ => {
                let (_, read) = PLAIN
                    .iter()
                    .find(|(plain, _)| *plain == name)
                    .ok_or_else(|| format!("%{name}% is no operator that is supported"))?;
                Self::Plain(*read)
            }
        };
        let takes_argument = !matches!(parsed, Self::Plain(_)) && name != "HOSTNAME";
        if command.argument.is_some_and(|argument| !argument.is_empty()) && !takes_argument {
            return Err(format!("%{name}% does not take any parameters"));
        }
        if command.max_len.is_some() && (!takes_argument || matches!(parsed, Self::StartTime(_))) {
            return Err(format!("%{name}% does not allow a length"));
        }
        Ok(parsed)
    }

    /// A filter's state is what the filter noted under its name.
    fn filter_state(argument: &str) -> Result<Self, String> {
        let mut parts = argument.split(':');
        let key = parts.next().unwrap_or_default().to_owned();
        match parts.next() {
            None | Some("PLAIN" | "TYPED") => Ok(Self::Metadata { source: Source::Dynamic, path: vec![key] }),
            Some(other) => Err(format!("FILTER_STATE writes PLAIN or TYPED, not {other}")),
        }
    }

    fn metadata(argument: &str) -> Result<Self, String> {
        let mut parts = argument.split(':');
        let source = match parts.next() {
            Some("DYNAMIC") => Source::Dynamic,
            Some("ROUTE") => Source::Route,
            _ => return Err(format!("METADATA({argument}) is not supported: use DYNAMIC or ROUTE")),
        };
        Ok(Self::Metadata { source, path: path(parts) })
    }

    pub(super) fn read<'a>(&'a self, facts: Facts<'a>) -> Option<Value<'a>> {
        match self {
            Self::Plain(read) => read(facts),
            Self::Request(names) => names.read(&facts.call.request),
            Self::Response(names) => names.read(facts.headers?),
            Self::Trailer(names) => names.read(facts.trailers?),
            Self::Query(name) => decoded_parameter(facts.call.request.path.query()?, name).map(Value::Text),
            Self::StartTime(format) => Some(format.write(facts.call.start_time)?.into()),
            Self::GrpcStatus(style) => style.read(facts.call.ended.grpc_status?),
            Self::Constant(value) => value.as_deref().map(Value::from),
            Self::Metadata { source, path } => {
                let all = match source {
                    Source::Dynamic => &facts.call.metadata,
                    Source::Route => &facts.call.route.as_ref()?.metadata,
                };
                lookup(all, path).map(|found| Value::Json(Cow::Borrowed(found)))
            }
        }
    }
}

impl GrpcStatus {
    const NAMES: [(&'static str, &'static str); 17] = [
        ("OK", "OK"),
        ("Canceled", "CANCELLED"),
        ("Unknown", "UNKNOWN"),
        ("InvalidArgument", "INVALID_ARGUMENT"),
        ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
        ("NotFound", "NOT_FOUND"),
        ("AlreadyExists", "ALREADY_EXISTS"),
        ("PermissionDenied", "PERMISSION_DENIED"),
        ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
        ("FailedPrecondition", "FAILED_PRECONDITION"),
        ("Aborted", "ABORTED"),
        ("OutOfRange", "OUT_OF_RANGE"),
        ("Unimplemented", "UNIMPLEMENTED"),
        ("Internal", "INTERNAL"),
        ("Unavailable", "UNAVAILABLE"),
        ("DataLoss", "DATA_LOSS"),
        ("Unauthenticated", "UNAUTHENTICATED"),
    ];

    fn parse(style: &str) -> Result<Self, String> {
        match style {
            "" | "CAMEL_STRING" => Ok(Self::Camel),
            "SNAKE_STRING" => Ok(Self::Snake),
            "NUMBER" => Ok(Self::Number),
            other => Err(format!("GRPC_STATUS writes CAMEL_STRING, SNAKE_STRING or NUMBER, not {other}")),
        }
    }

    fn read<'a>(self, status: i32) -> Option<Value<'a>> {
        let names = usize::try_from(status).ok().and_then(|status| Self::NAMES.get(status));
        match (self, names) {
            (Self::Camel, Some((camel, _))) => some(*camel),
            (Self::Snake, Some((_, snake))) => some(*snake),
            _ => number(status),
        }
    }
}

/// What stands in metadata under a path of keys, the namespace first.
pub(crate) fn lookup<'m>(
    metadata: &'m Map<String, serde_json::Value>,
    path: &[String],
) -> Option<&'m serde_json::Value> {
    let (namespace, keys) = path.split_first()?;
    keys.iter().try_fold(metadata.get(namespace)?, |found, key| found.get(key))
}

fn path<'p>(keys: impl Iterator<Item = &'p str>) -> Vec<String> {
    keys.map(str::to_owned).collect()
}

fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    name.or_else(|| std::env::var("HOSTNAME").ok()).map(|name| name.trim().to_owned())
}

fn some<'a>(text: impl Into<Value<'a>>) -> Option<Value<'a>> {
    Some(text.into()).filter(|value| !matches!(value, Value::Text(text) if text.is_empty()))
}

fn number<'a>(number: impl TryInto<i64>) -> Option<Value<'a>> {
    number.try_into().ok().map(Value::Number)
}

fn millis<'a>(duration: Option<Duration>) -> Option<Value<'a>> {
    number(duration?.as_millis())
}

/// Of a call that goes on, so far.
fn duration(facts: Facts<'_>) -> Duration {
    let ended = facts.call.ended.duration;
    if ended.is_zero() { facts.call.started.elapsed() } else { ended }
}

fn address<'a>(address: SocketAddr) -> Option<Value<'a>> {
    Some(address.to_string().into())
}

fn ip<'a>(address: SocketAddr) -> Option<Value<'a>> {
    Some(address.ip().to_string().into())
}

/// The upstream's address; none where its host is a Unix socket.
fn upstream(facts: Facts<'_>) -> Option<SocketAddr> {
    facts.call.upstream.host.as_ref()?.parse().ok()
}

fn list<'a>(names: &[String]) -> Option<Value<'a>> {
    some(names.join(","))
}

fn tls<'a>(facts: Facts<'a>) -> Option<&'a TlsFacts> {
    facts.call.connection.tls.as_ref()
}

fn peer<'a>(facts: Facts<'a>) -> Option<&'a PeerCertificate> {
    tls(facts)?.peer.as_ref()
}

/// What a client speaks.
pub(crate) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

/// Percent-encodes what cannot stand in a header.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + text.len() / 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
