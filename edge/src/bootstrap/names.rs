//! Extensions by the names that files give them, from when a name alone said what an extension was.

use prost_reflect::{DescriptorPool, MessageDescriptor};

/// A name of Envoy's first API, today's name, and the message that configures it.
const EXTENSIONS: [(&str, &str, &str); 27] = [
    ("envoy.buffer", "envoy.filters.http.buffer", "envoy.extensions.filters.http.buffer.v3.Buffer"),
    (
        "envoy.compressor",
        "envoy.filters.http.compressor",
        "envoy.extensions.filters.http.compressor.v3.Compressor",
    ),
    ("envoy.cors", "envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors"),
    ("envoy.csrf", "envoy.filters.http.csrf", "envoy.extensions.filters.http.csrf.v3.CsrfPolicy"),
    (
        "envoy.ext_authz",
        "envoy.filters.http.ext_authz",
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    ),
    ("envoy.fault", "envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"),
    (
        "envoy.grpc_http1_bridge",
        "envoy.filters.http.grpc_http1_bridge",
        "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config",
    ),
    (
        "envoy.grpc_json_transcoder",
        "envoy.filters.http.grpc_json_transcoder",
        "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
    ),
    (
        "envoy.grpc_stats",
        "envoy.filters.http.grpc_stats",
        "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    ),
    ("envoy.grpc_web", "envoy.filters.http.grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"),
    ("envoy.gzip", "envoy.filters.http.gzip", "envoy.extensions.filters.http.gzip.v3.Gzip"),
    (
        "envoy.header_mutation",
        "envoy.filters.http.header_mutation",
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    ),
    (
        "envoy.health_check",
        "envoy.filters.http.health_check",
        "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    ),
    (
        "envoy.jwt_authn",
        "envoy.filters.http.jwt_authn",
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
    ),
    (
        "envoy.local_rate_limit",
        "envoy.filters.http.local_ratelimit",
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    ),
    ("envoy.lua", "envoy.filters.http.lua", "envoy.extensions.filters.http.lua.v3.Lua"),
    (
        "envoy.rate_limit",
        "envoy.filters.http.ratelimit",
        "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
    ),
    ("envoy.rbac", "envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC"),
    ("envoy.router", "envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
    (
        "envoy.http_connection_manager",
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    ),
    (
        "envoy.tcp_proxy",
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    ),
    (
        "envoy.file_access_log",
        "envoy.access_loggers.file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    ),
    (
        "envoy.stdout_access_log",
        "envoy.access_loggers.stdout",
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    ),
    (
        "envoy.stderr_access_log",
        "envoy.access_loggers.stderr",
        "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
    ),
    (
        "envoy.http_grpc_access_log",
        "envoy.access_loggers.http_grpc",
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
    ),
    (
        "raw_buffer",
        "envoy.transport_sockets.raw_buffer",
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    ),
    (
        "envoy.listener.tls_inspector",
        "envoy.filters.listener.tls_inspector",
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    ),
];

/// The message that configures the extension of this name.
pub(super) fn kind(name: &str) -> Option<&'static str> {
    EXTENSIONS.iter().find(|(old, new, _)| *old == name || *new == name).map(|(_, _, kind)| *kind)
}

/// Today's name of the extension.
pub(super) fn today(name: &str) -> Option<&'static str> {
    EXTENSIONS.iter().find(|(old, _, _)| *old == name).map(|(_, new, _)| *new)
}

/// What a message of the v2 API has become. Envoy's own files say so, some of them by way of a version between.
pub(super) fn successor(pool: &DescriptorPool, name: &str) -> Option<MessageDescriptor> {
    let versioning = pool.get_extension_by_name("udpa.annotations.versioning")?;
    pool.all_messages().find(|message| {
        let options = message.options();
        let annotation = options.get_extension(&versioning);
        let previous =
            annotation.as_message().and_then(|message| message.get_field_by_name("previous_message_type"));
        previous.is_some_and(|previous| {
            previous.as_str().is_some_and(|previous| unversioned(previous).eq(unversioned(name)))
        })
    })
}

fn unversioned(name: &str) -> impl Iterator<Item = &str> {
    let version =
        |part: &str| part.starts_with('v') && part[1..].starts_with(|first: char| first.is_ascii_digit());
    name.split('.').filter(move |part| !version(part))
}
