//! The Envoy bootstrap of a mesh's edge.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Address, ClientTls, Config, DatabaseUrl, ServerTls, Upstream};
use crate::bootstrap::to_yaml;

const HTTP: &str = "envoy.extensions.filters.http";
const TLS: &str = "envoy.extensions.transport_sockets.tls.v3";
const HCM: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const FILE_LOG: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";

/// What a client may send ahead of its being read, on a connection and on each call.
const CONNECTION_WINDOW: u32 = 4 << 20;
const STREAM_WINDOW: u32 = 1 << 20;
/// Backends bound their own load; Envoy's default of 1024 calls is little for streams that stay open.
const MAX_REQUESTS: u32 = 65_536;
/// So many calls never are too many, however long they take: a mesh has quick calls and slow ones.
const MIN_CONCURRENCY: u32 = 200;
/// What a page may read of a reply, besides the body.
const EXPOSED: &str = "grpc-status, grpc-message, grpc-status-details-bin, x-request-id, retry-after, \
    ratelimit-limit, ratelimit-remaining, ratelimit-reset, ratelimit-policy";
/// A field of the access log, and what is written there.
const LOGGED: [(&str, &str); 15] = [
    ("time", "%START_TIME%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("peer", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("consumer", "%REQ(X-OMNIMESH-CONSUMER)%"),
    ("http_status", "%RESPONSE_CODE%"),
    ("grpc_status", "%GRPC_STATUS_NUMBER%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration_ms", "%DURATION%"),
    ("upstream", "%UPSTREAM_HOST%"),
];

impl Config {
    /// The bootstrap, as YAML that Envoy's loader would take but for the edge's own filters.
    pub fn to_bootstrap(&self) -> String {
        let clusters: Vec<_> = self.upstreams.iter().map(|upstream| self.cluster(upstream)).collect();
        to_yaml(&json!({
            "admin": { "address": socket_address(self.admin) },
            "static_resources": { "listeners": [self.listener()], "clusters": clusters },
        }))
    }

    fn listener(&self) -> Value {
        let manager = extension("envoy.filters.network.http_connection_manager", HCM, self.manager());
        let mut chain = object(json!({ "filters": [manager] }));
        if let Some(tls) = &self.tls {
            chain.insert("transport_socket".to_owned(), downstream_tls(tls));
        }
        json!({
            "name": "edge",
            "address": socket_address(self.listen),
            "filter_chains": [chain],
        })
    }

    fn manager(&self) -> Value {
        let limits = &self.limits;
        let mut manager = object(json!({
            "stat_prefix": "edge",
            "server_name": "omnimesh",
            "use_remote_address": true,
            "always_set_request_id_in_response": true,
            // Whoever watches may hear nothing for long; connections that are dead do not answer pings.
            "stream_idle_timeout": "0s",
            "request_headers_timeout": "10s",
            "common_http_protocol_options": { "idle_timeout": format!("{}s", limits.idle_timeout_seconds) },
            "http2_protocol_options": {
                "max_concurrent_streams": limits.max_concurrent_streams,
                "initial_connection_window_size": CONNECTION_WINDOW,
                "initial_stream_window_size": STREAM_WINDOW,
                "connection_keepalive": { "interval": "60s", "timeout": "20s" },
            },
            "http_filters": self.filters(),
            "route_config": { "name": "edge", "virtual_hosts": [self.virtual_host()] },
        }));
        if let Some(path) = &self.access_log {
            let format = Map::from_iter(LOGGED.map(|(key, value)| (key.to_owned(), value.into())));
            let log = json!({ "path": text(path), "log_format": { "json_format": format } });
            let log = extension("envoy.access_loggers.file", FILE_LOG, log);
            manager.insert("access_log".to_owned(), json!([log]));
        }
        manager.into()
    }

    fn filters(&self) -> Value {
        let envoys = |name: &str, kind: &str| {
            extension(&format!("envoy.filters.http.{name}"), &format!("{HTTP}.{name}.v3.{kind}"), json!({}))
        };
        let own = |name: &str, kind: &str, config| {
            extension(&format!("omnimesh.{name}"), &format!("omnimesh.edge.v1.{kind}"), config)
        };
        let deny = self.failure_mode_deny;
        let consumers = match &self.consumers {
            DatabaseUrl::Plain(url) => json!({ "database_url": url, "failure_mode_deny": deny }),
            DatabaseUrl::Variable(name) => {
                json!({ "database_url_variable": name, "failure_mode_deny": deny })
            }
        };
        let priorities = self.priorities.iter().map(|priority| {
            let prefixes = priority.services.iter().map(|service| format!("/{service}/"));
            let prefixes = prefixes.collect::<Vec<_>>();
            json!({ "name": priority.name, "path_prefixes": prefixes, "share_percent": priority.share_percent })
        });
        let shedding = json!({
            "classes": priorities.collect::<Vec<_>>(),
            "min_concurrency": MIN_CONCURRENCY,
        });
        let limit = json!({ "max_message_bytes": self.limits.max_message_bytes });
        json!([
            envoys("grpc_web", "GrpcWeb"),
            envoys("cors", "Cors"),
            own("load_shedding", "LoadShedding", shedding),
            own("consumers", "Consumers", consumers),
            own("message_limit", "MessageLimit", limit),
            envoys("router", "Router"),
        ])
    }

    fn virtual_host(&self) -> Value {
        let origins = self.cors.allowed_origins.iter().map(|origin| json!({ "exact": origin }));
        let cors = json!({
            "allow_origin_string_match": origins.collect::<Vec<_>>(),
            "allow_methods": "POST, OPTIONS",
            // The asterisk stands for all but this one.
            "allow_headers": "*, authorization",
            "expose_headers": EXPOSED,
            "max_age": "86400",
        });
        json!({
            "name": "mesh",
            "domains": ["*"],
            "routes": self.routes(),
            // Where no service has seen the call.
            "retry_policy": { "retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 2 },
            "typed_per_filter_config": {
                "envoy.filters.http.cors": typed(&format!("{HTTP}.cors.v3.CorsPolicy"), cors),
            },
        })
    }

    /// Every call is a POST of a gRPC type to a service.
    fn routes(&self) -> Vec<Value> {
        let refuse = |matches: Value, status: u16, message: &str| {
            json!({
                "match": matches,
                "direct_response": { "status": status, "body": { "inline_string": message } },
            })
        };
        let without = |header: &str, pattern: Value| {
            let header = json!({
                "name": header,
                "string_match": pattern,
                "treat_missing_header_as_empty": true,
                "invert_match": true,
            });
            json!({ "prefix": "/", "headers": [header] })
        };
        let mut not_post =
            refuse(without(":method", json!({ "exact": "POST" })), 405, "calls are made with POST");
        let allow = json!({ "key": "allow", "value": "POST, OPTIONS" });
        not_post["response_headers_to_add"] = json!([{ "header": allow }]);
        let grpc = json!({ "prefix": "application/grpc", "ignore_case": true });
        let not_grpc =
            refuse(without("content-type", grpc), 415, "the content type is neither gRPC nor gRPC-Web");
        let services = self.upstreams.iter().flat_map(|upstream| {
            // A call ends when its client has said, and lasts as long as both sides want where it has not.
            let route = json!({
                "cluster": upstream.name,
                "timeout": "0s",
                "max_stream_duration": { "grpc_timeout_header_max": "0s" },
            });
            let to = move |service: &String| {
                json!({ "match": { "prefix": format!("/{service}/") }, "route": route.clone() })
            };
            upstream.services.iter().map(to)
        });
        let unknown = refuse(json!({ "prefix": "/" }), 404, "nothing serves this method");
        [not_post, not_grpc].into_iter().chain(services).chain([unknown]).collect()
    }

    fn cluster(&self, upstream: &Upstream) -> Value {
        let (kind, address, tls) = match &upstream.address {
            Address::Unix(path) => ("STATIC", json!({ "pipe": { "path": text(path) } }), None),
            Address::Tcp { host, port, tls } => {
                let address = json!({ "socket_address": { "address": host, "port_value": port } });
                ("STRICT_DNS", address, tls.as_ref())
            }
        };
        let http2 = json!({
            "explicit_http_config": { "http2_protocol_options": {} },
            "common_http_protocol_options": { "idle_timeout": "300s" },
        });
        let endpoints = json!([{ "lb_endpoints": [{ "endpoint": { "address": address } }] }]);
        let mut cluster = object(json!({
            "name": upstream.name,
            "type": kind,
            "dns_lookup_family": "V4_PREFERRED",
            "connect_timeout": seconds(self.limits.connect_timeout_ms),
            "load_assignment": { "cluster_name": upstream.name, "endpoints": endpoints },
            "circuit_breakers": {
                "thresholds": [{ "max_requests": MAX_REQUESTS, "max_pending_requests": MAX_REQUESTS }],
            },
            "typed_extension_protocol_options": { HTTP_OPTIONS: typed(HTTP_OPTIONS, http2) },
        }));
        if let Some(tls) = tls {
            cluster.insert("transport_socket".to_owned(), upstream_tls(tls));
        }
        cluster.into()
    }
}

fn downstream_tls(tls: &ServerTls) -> Value {
    let common = json!({
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificates": [certificate(&tls.cert, &tls.key)],
    });
    let context = json!({ "common_tls_context": common });
    extension("envoy.transport_sockets.tls", &format!("{TLS}.DownstreamTlsContext"), context)
}

fn upstream_tls(tls: &ClientTls) -> Value {
    let name = json!({ "san_type": "DNS", "matcher": { "exact": tls.server_name } });
    let common = json!({
        "tls_certificates": [certificate(&tls.cert, &tls.key)],
        "validation_context": {
            "trusted_ca": { "filename": text(&tls.ca) },
            "match_typed_subject_alt_names": [name],
        },
    });
    let context = json!({ "sni": tls.server_name, "common_tls_context": common });
    extension("envoy.transport_sockets.tls", &format!("{TLS}.UpstreamTlsContext"), context)
}

fn certificate(chain: &Path, key: &Path) -> Value {
    json!({ "certificate_chain": { "filename": text(chain) }, "private_key": { "filename": text(key) } })
}

/// A path as a file of text can hold it.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

/// Milliseconds as Envoy writes durations.
fn seconds(millis: u64) -> String {
    format!("{}.{:03}s", millis / 1000, millis % 1000)
}

/// A named extension with its configuration.
fn extension(name: &str, kind: &str, config: Value) -> Value {
    json!({ "name": name, "typed_config": typed(kind, config) })
}

/// A message with its type.
fn typed(kind: &str, config: Value) -> Value {
    let mut typed = Map::from_iter([("@type".to_owned(), format!("type.googleapis.com/{kind}").into())]);
    typed.extend(object(config));
    typed.into()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
