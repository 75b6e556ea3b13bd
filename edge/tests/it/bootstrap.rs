//! Configuration files as Envoy and this edge read them: whatever one accepts or refuses, the other does too, but
//! for the differences that are listed with their reasons.

use std::{path::PathBuf, process::Command};

use edge::{
    bootstrap::{self, Support},
    problem::{Path, Problem},
};
use envoy_types::pb::envoy::{
    config::listener::v3::filter::ConfigType,
    extensions::filters::{
        http::router::v3::Router, network::http_connection_manager::v3::HttpConnectionManager,
    },
};
use proptest::prelude::*;

const BASE: &str = include_str!("../bootstrap/base.yaml");
const COMPARISON: &str = include_str!("../bootstrap/comparison.yaml");
const MIGRATED: [&str; 2] =
    [include_str!("../bootstrap/v2.yaml"), include_str!("../bootstrap/v2_typed.yaml")];

/// The base configuration with these lines at a place.
fn with(place: &str, lines: &str) -> String {
    let mut text = String::new();
    for line in BASE.lines() {
        match line.trim().strip_prefix('{').and_then(|line| line.strip_suffix('}')) {
            Some(here) if here == place => {
                let margin = line.len() - line.trim_start().len();
                text.extend(lines.lines().map(|line| format!("{:margin$}{line}\n", "")));
            }
            Some(_) => {}
            None => text.extend([line, "\n"]),
        }
    }
    text
}

fn envoy() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
    if let Ok(envoy) = std::env::var("OMNIMESH_TEST_ENVOY") {
        return envoy.into();
    }
    let find = "import envoy; print(list(envoy.__path__)[0])";
    let found = Command::new("python3").args(["-c", find]).output().expect("python3 runs");
    let package = String::from_utf8(found.stdout).expect("a path is text");
    PathBuf::from(package.trim()).join("_bin/envoy")
}

/// What Envoy says against a configuration.
fn refused_by_envoy(envoy: &std::path::Path, text: &str) -> Option<String> {
    let arguments = ["--mode", "validate", "-l", "error", "--config-yaml", text];
    let output = Command::new(envoy).args(arguments).output().expect("Envoy runs");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn refused_by_edge(text: &str) -> Option<Vec<Problem>> {
    bootstrap::load(text).err()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    Accept,
    Refuse,
}
use Verdict::{Accept, Refuse};

/// A place, what stands there, and what both make of it.
const CASES: &[(&str, &str, Verdict)] = &[
    ("top", "", Accept),
    // Numbers, text and booleans.
    ("hcm", "server_name: 123", Refuse),
    ("hcm", "server_name: true", Refuse),
    ("hcm", "server_name: yes", Refuse),
    ("hcm", "server_name: 1.5", Accept),
    ("hcm", "server_name: 99999999999", Accept),
    ("hcm", "server_name: \"123\"", Accept),
    ("hcm", "server_name: ! 123", Accept),
    ("hcm", "server_name: !!str 5", Refuse),
    ("hcm", "server_name: !own name", Accept),
    ("hcm", "server_name: [a]", Refuse),
    ("hcm", "server_name: {a: b}", Refuse),
    ("hcm", "server_name:", Accept),
    ("hcm", "server_name: ~", Accept),
    ("hcm", "use_remote_address: yes", Accept),
    ("hcm", "use_remote_address: on", Accept),
    ("hcm", "use_remote_address: \"true\"", Accept),
    ("hcm", "use_remote_address: \"1\"", Accept),
    ("hcm", "use_remote_address: \"on\"", Refuse),
    ("hcm", "use_remote_address: 1", Refuse),
    ("hcm", "use_remote_address: {value: true}", Accept),
    ("hcm", "use_remote_address: {wert: true}", Refuse),
    ("hcm", "use_remote_address: [true]", Refuse),
    ("cluster", "per_connection_buffer_limit_bytes: \"5\"", Accept),
    ("cluster", "per_connection_buffer_limit_bytes: 0x10", Accept),
    ("cluster", "per_connection_buffer_limit_bytes: 1e3", Accept),
    ("cluster", "per_connection_buffer_limit_bytes: 1.0", Accept),
    ("cluster", "per_connection_buffer_limit_bytes: 1.5", Refuse),
    ("cluster", "per_connection_buffer_limit_bytes: -1", Refuse),
    ("cluster", "per_connection_buffer_limit_bytes: 4294967296", Refuse),
    ("cluster", "per_connection_buffer_limit_bytes: 1_000", Refuse),
    ("cluster", "per_connection_buffer_limit_bytes: \" 5\"", Refuse),
    ("cluster", "per_connection_buffer_limit_bytes: many", Refuse),
    ("cluster", "common_lb_config: {healthy_panic_threshold: {value: \"50.5\"}}", Accept),
    ("cluster", "common_lb_config: {healthy_panic_threshold: {value: 101}}", Refuse),
    // Durations.
    ("action", "timeout: 1.5s", Accept),
    ("action", "timeout: 0s", Accept),
    ("action", "timeout: {seconds: 5, nanos: 1}", Accept),
    ("action", "timeout: 5", Refuse),
    ("action", "timeout: 5ms", Refuse),
    ("action", "timeout: -1s", Refuse),
    ("action", "timeout: .5s", Refuse),
    ("action", "timeout: 1.0000000001s", Refuse),
    ("action", "timeout: 315576000001s", Refuse),
    ("action", "timeout: [5s]", Refuse),
    // Enumerations.
    ("cluster", "lb_policy: least_request", Accept),
    ("cluster", "lb_policy: Least_Request", Accept),
    ("cluster", "lb_policy: 1", Accept),
    ("cluster", "lb_policy: \"1\"", Accept),
    ("cluster", "lb_policy: least-request", Refuse),
    ("cluster", "lb_policy: leastRequest", Refuse),
    ("cluster", "lb_policy: FASTEST", Refuse),
    ("cluster", "lb_policy: 99", Refuse),
    ("cluster", "lb_policy: true", Refuse),
    // Fields.
    ("hcm", "useRemoteAddress: true", Accept),
    ("hcm", "UseRemoteAddress: true", Refuse),
    ("hcm", "use_remote_adress: true", Refuse),
    ("hcm", "common_http_protocol_options:", Accept),
    ("hcm", "common_http_protocol_options: text", Refuse),
    ("hcm", "common_http_protocol_options: [{idle_timeout: 3s}]", Refuse),
    ("vhost", "request_headers_to_remove: x-a", Accept),
    ("vhost", "request_headers_to_remove: [[x-a]]", Accept),
    ("vhost", "request_headers_to_remove: [~]", Refuse),
    ("vhost", "request_headers_to_remove: [1]", Refuse),
    ("vhost", "rate_limits: {actions: {remote_address: {}}}", Accept),
    ("vhost", "rate_limits: [~]", Refuse),
    ("action", "cluster_header: x-cluster", Refuse),
    ("action", "cluster_header: ~", Accept),
    ("action", "hash_policy: {header: {}}", Refuse),
    ("action", "hash_policy: {}", Refuse),
    ("top", "foo: {bar: 1}", Refuse),
    ("top", "!ignore foo: {bar: 1}", Accept),
    ("top", "1: 2", Refuse),
    ("top", "admin: {<<: {}}", Refuse),
    ("top", "node: {id: &id one, cluster: *id}", Accept),
    ("top", "node: *nowhere", Refuse),
    ("top", "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 70000}}}", Refuse),
    ("top", "admin: {address: {socket_address: {port_value: 0}}}", Refuse),
    ("top", "admin: {address: {}}", Refuse),
    ("top", "layered_runtime: {layers: [{name: a, static_layer: {x: yes, y: 1.5}}]}", Accept),
    // What deployed files have.
    ("top", "admin: {access_log_path: /dev/null}", Accept),
    ("hcm", "codec_type: auto", Accept),
    ("vhost", "cors: {allow_origin_string_match: [{prefix: \"*\"}], max_age: \"1728000\"}", Accept),
    ("vhost", "cors: {allow_origin_string_match: [{safe_regex: {google_re2: {}, regex: .*}}]}", Accept),
    ("vhost", "cors: {filter_enabled: {default_value: {numerator: 100}}}", Accept),
    ("vhost", "cors: {max_age: 1728000}", Refuse),
    ("vhost", "cors: {allow_origin: [\"*\"]}", Refuse),
    ("action", "max_grpc_timeout: 0s", Accept),
    ("action", "max_stream_duration: {grpc_timeout_header_max: 0s}", Accept),
    ("cluster", "http2_protocol_options: {}", Accept),
    ("cluster", "lb_policy: round_robin", Accept),
    ("cluster", "hosts: [{socket_address: {address: a, port_value: 1}}]", Refuse),
    ("cluster", "upstream_connection_options: {tcp_keepalive: {keepalive_time: 300}}", Accept),
    // Every filter of the edge, as its documentation shows it.
    (
        "filter",
        r#"
- name: envoy.filters.http.ext_authz
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
    transport_api_version: V3
    failure_mode_allow: false
    status_on_error: { code: serviceunavailable }
    with_request_body: { max_request_bytes: 1024, allow_partial_message: true }
    grpc_service: { envoy_grpc: { cluster_name: backend }, timeout: 0.25s }"#,
        Accept,
    ),
    (
        "filter",
        r#"
- name: envoy.filters.http.jwt_authn
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication
    providers:
      local: { issuer: https://issuer.example, audiences: [retail], local_jwks: { inline_string: '{"keys":[{"kty":"oct","alg":"HS256","k":"c2VjcmV0"}]}' } }
      remote:
        issuer: https://other.example
        forward: true
        claim_to_headers: [{ header_name: x-sub, claim_name: sub }]
        remote_jwks:
          http_uri: { uri: https://other.example/jwks, cluster: backend, timeout: 5s }
          cache_duration: { seconds: 300 }
    rules:
    - match: { prefix: / }
      requires: { requires_any: { requirements: [{ provider_name: remote }, { allow_missing: {} }] } }"#,
        Accept,
    ),
    (
        "filter",
        r#"
- name: envoy.filters.http.rbac
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
    rules:
      action: ALLOW
      policies:
        tills:
          permissions: [{ url_path: { path: { prefix: /shop.Cart/ } } }, { not_rule: { destination_port: 80 } }]
          principals:
          - authenticated: { principal_name: { prefix: "spiffe://retail.example/" } }
          - { remote_ip: { address_prefix: 10.0.0.0, prefix_len: 8 } }"#,
        Accept,
    ),
    (
        "filter",
        r#"
- name: envoy.filters.http.header_mutation
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
    mutations:
      request_mutations: [{ remove: x-a }]
      response_mutations:
      - append: { header: { key: x-b, value: c }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }"#,
        Accept,
    ),
    (
        "filter",
        r#"
- name: envoy.filters.http.health_check
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck
    pass_through_mode: false
    headers: [{ name: ":path", string_match: { exact: /healthz } }]"#,
        Accept,
    ),
    (
        "filter",
        r#"
- name: envoy.filters.http.fault
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
    abort: { grpc_status: 14, percentage: { numerator: 10, denominator: HUNDRED } }
    delay: { fixed_delay: 0.1s, percentage: { numerator: 50 } }"#,
        Accept,
    ),
    (
        "filter",
        r#"
- name: envoy.filters.http.compressor
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor
    response_direction_config:
      common_config: { min_content_length: 100, content_type: [application/json] }
    compressor_library:
      name: gzip
      typed_config: { "@type": type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip }"#,
        Accept,
    ),
    (
        "filter",
        r#"
- name: envoy.filters.http.local_ratelimit
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
    stat_prefix: limit
    token_bucket: { max_tokens: 10, fill_interval: 1s }
    descriptors:
    - entries: [{ key: tenant, value: a }]
      token_bucket: { max_tokens: 10, tokens_per_fill: 10, fill_interval: 1s }"#,
        Accept,
    ),
    (
        "filter",
        r#"
- name: envoy.filters.http.local_ratelimit
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
    stat_prefix: limit
    token_bucket: { max_tokens: 0, fill_interval: 1s }"#,
        Accept,
    ),
    // Upstreams.
    ("cluster", "ring_hash_lb_config: {minimum_ring_size: 1024, hash_function: MURMUR_HASH_2}", Accept),
    ("cluster", "ring_hash_lb_config: {minimum_ring_size: 99999999}", Refuse),
    ("cluster", "lb_policy: maglev\nmaglev_lb_config: {table_size: 65537}", Accept),
    (
        "cluster",
        "http2_protocol_options: {}\nhealth_checks: {timeout: 1s, interval: 5s, unhealthy_threshold: 2, \
         healthy_threshold: 1, grpc_health_check: {}}",
        Accept,
    ),
    (
        "cluster",
        "health_checks: {interval: 5s, unhealthy_threshold: 2, healthy_threshold: 1, tcp_health_check: {}}",
        Refuse,
    ),
    (
        "cluster",
        "health_checks: {timeout: 1s, interval: 0s, unhealthy_threshold: 2, healthy_threshold: 1, tcp_health_check: {}}",
        Refuse,
    ),
    ("cluster", "outlier_detection: {consecutive_5xx: 5, max_ejection_percent: 50}", Accept),
    ("cluster", "outlier_detection: {max_ejection_percent: 101}", Refuse),
    ("cluster", "outlier_detection: {interval: 0s}", Refuse),
    (
        "cluster",
        "circuit_breakers: {thresholds: {priority: HIGH, retry_budget: {budget_percent: {value: 25}}}}",
        Accept,
    ),
    (
        "cluster",
        r#"
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
    sni: a.example
    common_tls_context: { alpn_protocols: h2, tls_params: { tls_minimum_protocol_version: TLSv1_2 } }"#,
        Accept,
    ),
    ("cluster", "transport_socket: {name: tls}", Refuse),
    // Listeners and routes.
    ("listener", "listener_filters_timeout: 5s", Accept),
    (
        "listener",
        r#"
listener_filters:
- name: tls_inspector
  typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector }"#,
        Accept,
    ),
    ("hcm", "upgrade_configs: {upgrade_type: websocket}", Accept),
    ("hcm", "access_log: {name: envoy.access_loggers.stdout}", Refuse),
    (
        "hcm",
        r#"
access_log:
- name: envoy.access_loggers.stdout
  filter: { status_code_filter: { comparison: { op: GE, value: { default_value: 500, runtime_key: a } } } }
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
    log_format: { text_format_source: { inline_string: "%RESPONSE_CODE%\n" } }"#,
        Accept,
    ),
    ("hcm", "http2_protocol_options: {max_concurrent_streams: 0}", Refuse),
    ("hcm", "http2_protocol_options: {initial_stream_window_size: 65534}", Refuse),
    ("hcm", "via: \"a\\nb\"", Refuse),
    ("hcm", "path_with_escaped_slashes_action: REJECT_REQUEST", Accept),
    ("route", "redirect: {https_redirect: true}", Refuse),
    ("route", "name: grpc\ndecorator: {operation: a}", Accept),
    ("route", "decorator: {}", Refuse),
    ("route", "request_headers_to_add: {header: {key: x-a, value: b}}", Accept),
    ("route", "request_headers_to_add: {header: {key: \"\", value: b}}", Refuse),
    ("route", "request_headers_to_add: {header: {key: x-a, value: b}, append_action: APPEND}", Refuse),
    ("action", "retry_policy: {retry_on: unavailable, num_retries: 2, per_try_timeout: 1s}", Accept),
    ("action", "retry_policy: {retry_back_off: {}}", Refuse),
    ("action", "retry_policy: {retry_back_off: {base_interval: 0s}}", Refuse),
    ("action", "retry_policy: {retry_host_predicate: {name: a}}", Refuse),
    ("action", "regex_rewrite: {pattern: {regex: \"^/a\"}, substitution: /b}", Accept),
    ("action", "hash_policy: {cookie: {name: a, ttl: 1s}}", Accept),
    ("action", "host_rewrite_literal: a.example\nauto_host_rewrite: true", Refuse),
    ("vhost", "require_tls: external_only", Accept),
    ("vhost", "retry_policy: {retry_on: 5xx}\nhedge_policy: {hedge_on_per_try_timeout: true}", Accept),
    // Types.
    ("filter", "- name: envoy.filters.http.grpc_web", Refuse),
    ("filter", "- {name: envoy.filters.http.grpc_web, typed_config: {}}", Refuse),
    ("filter", "- {name: envoy.grpc_web, config: {}}", Refuse),
    (
        "filter",
        "- {name: x, typed_config: {\"@type\": a/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb}}",
        Accept,
    ),
    (
        "filter",
        "- {name: x, typed_config: {\"@type\": envoy.extensions.filters.http.grpc_web.v3.GrpcWeb}}",
        Refuse,
    ),
    (
        "filter",
        "- {name: x, typed_config: {\"@type\": /envoy.extensions.filters.http.grpc_web.v3.GrpcWeb}}",
        Refuse,
    ),
    (
        "filter",
        "- {name: x, typed_config: {\"@type\": a/envoy.extensions.filters.http.grpc_web.v3.GrpcWob}}",
        Refuse,
    ),
    ("filter", "- {name: x, typed_config: {\"@type\": a/envoy.config.filter.http.router.v2.Router}}", Refuse),
    (
        "filter",
        "- name: x\n  typed_config:\n    \"@type\": a/xds.type.v3.TypedStruct\n    \
         type_url: a/envoy.extensions.filters.http.cors.v3.Cors\n    value: {}",
        Accept,
    ),
    (
        "filter",
        "- name: x\n  typed_config:\n    \"@type\": a/udpa.type.v1.TypedStruct\n    \
         type_url: a/envoy.extensions.filters.http.cors.v3.Cors\n    value: {a: b}",
        Refuse,
    ),
    (
        "vhost",
        "typed_per_filter_config: {envoy.filter.http.cors: \
         {\"@type\": a/envoy.extensions.filters.http.cors.v3.CorsPolicy}}",
        Accept,
    ),
];

/// Where we differ, and why. The verdict is ours.
const DIFFERENCES: &[(&str, &str, Verdict, &str)] = &[
    ("hcm", "server_name: a\nserver_name: b", Refuse, "YAML forbids it, and one of both was not meant"),
    ("hcm", "use_remote_address: true\nuseRemoteAddress: false", Refuse, "one of both was not meant"),
    ("top", "---\nadmin: {}", Refuse, "Envoy reads the first document and drops the rest"),
    ("cluster", "per_connection_buffer_limit_bytes: 0x1p3", Refuse, "a number that only C reads"),
    ("hcm", "proxy_status_config: {}", Refuse, "a header that is not built"),
    ("cluster", "lrs_report_endpoint_metrics: [a]", Refuse, "needs a control plane, and says so at once"),
    (
        "filter",
        "- {name: x, typed_config: {\"@type\": a/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 1}}",
        Refuse,
        "a filter that is not built",
    ),
];

#[test]
fn envoy_and_the_edge_agree() {
    let envoy = envoy();
    let mut wrong = Vec::new();
    for (place, lines, verdict) in CASES {
        let text = with(place, lines);
        let ours = refused_by_edge(&text);
        let theirs = refused_by_envoy(&envoy, &text);
        if ours.is_some() != (*verdict == Refuse) || theirs.is_some() != (*verdict == Refuse) {
            let ours: Vec<_> = ours.iter().flatten().map(Problem::to_string).collect();
            wrong.push(format!("{place}: {lines}: {verdict:?} is due; edge {ours:?}, Envoy {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn whole_files_are_judged_alike() {
    let envoy = envoy();
    let files = [
        ("", Refuse),
        ("text", Refuse),
        ("[]", Refuse),
        ("null", Refuse),
        ("# nothing", Refuse),
        ("{}", Accept),
        ("{\"admin\":{}}", Accept),
        ("\u{feff}admin: {}", Accept),
        ("%YAML 1.2\n---\nadmin: {}", Accept),
        ("admin: {", Refuse),
        ("admin:\n  a: 1\n b: 2", Refuse),
        ("admin:\n\taddress: {}", Refuse),
    ];
    for (text, verdict) in files {
        assert_eq!(refused_by_edge(text).is_some(), verdict == Refuse, "edge: {text:?}");
        // Envoy takes an empty text for no configuration at all, which is another complaint.
        assert_eq!(refused_by_envoy(&envoy, text).is_some(), verdict == Refuse, "Envoy: {text:?}");
    }
}

#[test]
fn differences_are_known() {
    for (place, lines, verdict, reason) in DIFFERENCES {
        let refused = refused_by_edge(&with(place, lines));
        assert_eq!(refused.is_some(), *verdict == Refuse, "{lines}: {reason}");
    }
}

#[test]
fn the_comparison_configuration_loads() {
    let loaded = bootstrap::load(COMPARISON).unwrap();
    let resources = loaded.bootstrap.static_resources.unwrap();
    assert_eq!(resources.listeners.len(), 3);
    assert_eq!(resources.clusters.len(), 4);
    let Some(ConfigType::TypedConfig(any)) = &resources.listeners[0].filter_chains[0].filters[0].config_type
    else {
        panic!("a filter is configured")
    };
    let at = Path::root();
    let manager: HttpConnectionManager = bootstrap::unpack(any, &at).unwrap();
    assert_eq!(manager.http_filters.len(), 6);
    let wrong = bootstrap::unpack::<Router>(any, &at.field("typed_config")).unwrap_err();
    assert!(wrong.message.contains("Router is due here"), "{wrong}");
    let warned: Vec<_> =
        loaded.warnings.iter().map(|warning| (warning.path.as_str(), warning.line)).collect();
    let ignored = "static_resources.clusters[0].per_connection_buffer_limit_bytes";
    assert!(warned.contains(&(ignored, Some(186))), "{warned:?}");
}

#[test]
fn problems_name_the_place_and_the_remedy() {
    let cases = [
        ("hcm", "use_remote_adress: true", 12, "did you mean `use_remote_address`?"),
        ("cluster", "lb_policy: FASTEST", 27, "`FASTEST` is not one of ROUND_ROBIN, LEAST_REQUEST"),
        ("action", "timeout: 5", 20, "write 5s"),
        ("hcm", "server_name: 123", 12, "write \"123\""),
        ("cluster", "hosts: []", 27, "`omnimesh edge migrate` rewrites the file"),
        (
            "filter",
            "- name: envoy.router",
            21,
            "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        ),
        ("action", "cluster_header: x", 20, "`cluster_header` excludes `cluster`"),
        ("vhost", "request_headers_to_add: {}", 16, "header: is required"),
        (
            "cluster",
            "upstream_http_protocol_options: {auto_sni: true}",
            27,
            "known to Envoy, not supported by Omnimesh",
        ),
        ("hcm", "proxy_status_config: {}", 12, "known to Envoy, not supported by Omnimesh"),
    ];
    for (place, lines, line, message) in cases {
        let problems = refused_by_edge(&with(place, lines)).expect(lines);
        let found = problems
            .iter()
            .any(|problem| problem.line == Some(line) && problem.to_string().contains(message));
        assert!(found, "{lines}: {problems:#?}");
    }
}

#[test]
fn a_report_says_what_has_which_effect() {
    let report =
        bootstrap::support_report(&with("top", "stats_flush_interval: 5s\nstats_sinks: []")).unwrap();
    let support = |name: &str| {
        report.rows().find(|(_, row, _)| *row == name).map(|(support, _, lines)| (support, lines.to_vec()))
    };
    let bootstrap = |field: &str| support(&format!("envoy.config.bootstrap.v3.Bootstrap.{field}"));
    assert_eq!(bootstrap("static_resources"), Some((Support::Supported, vec![2])));
    assert!(matches!(bootstrap("stats_flush_interval"), Some((Support::Ignored(_), _))));
    assert!(matches!(bootstrap("stats_sinks"), Some((Support::Unsupported, _))));
    assert!(report.to_string().contains("unsupported"), "{report}");
}

#[test]
fn old_files_are_migrated() {
    let envoy = envoy();
    for old in MIGRATED {
        let refused = refused_by_edge(old).expect("of the v2 API");
        assert!(refused.iter().any(|problem| problem.message.contains("migrate")), "{refused:#?}");
        let migrated = bootstrap::migrate(old).unwrap();
        assert_eq!(refused_by_edge(&migrated), None, "{migrated}");
        assert_eq!(refused_by_envoy(&envoy, &migrated), None, "{migrated}");
        assert_eq!(bootstrap::migrate(&migrated).unwrap(), migrated, "what is new stays");
    }
}

/// A place, what an old file says there, and how its successor reads.
const OLD_FORMS: &[(&str, &str, &[&str])] = &[
    (
        "filter",
        "- name: envoy.grpc_web",
        &["- name: envoy.filters.http.grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"],
    ),
    (
        "filter",
        "- name: envoy.filters.http.cors\n  typed_config: {}",
        &["\"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"],
    ),
    (
        "filter",
        "- name: envoy.health_check\n  config:\n    pass_through_mode: false\n    \
         headers: [{ name: ':path', exact_match: /healthz }]",
        &[
            "envoy.extensions.filters.http.health_check.v3.HealthCheck",
            "pass_through_mode: false",
            "/healthz",
        ],
    ),
    (
        "filter",
        "- name: fault\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.config.filter.http.fault.v2.HTTPFault\n    \
         abort: { http_status: 503, percentage: { numerator: 0 } }",
        &["type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault", "http_status: 503"],
    ),
    (
        "vhost",
        "cors: { allow_origin: ['*'], enabled: false }",
        &["allow_origin_string_match:", "regex: \".*\"", "filter_enabled:", "numerator: 0"],
    ),
    (
        "cluster",
        "http2_protocol_options: {}\nmax_requests_per_connection: 7",
        &["explicit_http_config:", "http2_protocol_options: {}", "max_requests_per_connection: 7"],
    ),
    (
        "cluster",
        "tls_context: { sni: shop.example }",
        &["envoy.transport_sockets.tls", "UpstreamTlsContext", "sni: shop.example"],
    ),
    ("action", "max_grpc_timeout: 0s", &["max_stream_duration:", "grpc_timeout_header_max: 0s"]),
    ("hcm", "idle_timeout: 30s", &["common_http_protocol_options:", "idle_timeout: 30s"]),
    ("top", "admin: { access_log_path: /dev/null }", &["envoy.access_loggers.file", "path: /dev/null"]),
];

#[test]
fn each_old_form_has_its_successor() {
    let envoy = envoy();
    for (place, lines, successors) in OLD_FORMS {
        let migrated = bootstrap::migrate(&with(place, lines)).expect(lines);
        for successor in *successors {
            assert!(migrated.contains(successor), "{lines}: no `{successor}` in\n{migrated}");
        }
        assert_eq!(refused_by_edge(&migrated), None, "{migrated}");
        assert_eq!(refused_by_envoy(&envoy, &migrated), None, "{migrated}");
    }
}

#[test]
fn json_is_read_too() {
    let text = r#"{"staticResources": {"clusters": {"name": "a", "connectTimeout": "1s"}}, "admin": null}"#;
    let loaded = bootstrap::load(text).unwrap();
    assert_eq!(loaded.bootstrap.static_resources.unwrap().clusters[0].name, "a");
}

/// A configuration with some of its lines gone, doubled, moved or spoiled.
fn spoiled() -> impl Strategy<Value = String> {
    let edits = proptest::collection::vec((any::<usize>(), 0..6_u8, "[ -~]{0,12}"), 1..6);
    (proptest::sample::select(vec![COMPARISON, MIGRATED[0], MIGRATED[1]]), edits).prop_map(|(text, edits)| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, how, more) in edits {
            let at = at % lines.len();
            match how {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[at].clone()),
                2 => {
                    let half = lines[at].len() / 2;
                    lines[at].truncate(half);
                }
                3 => lines[at].push_str(&more),
                4 => lines[at] = format!(" {}", lines[at]),
                _ => lines[at] = more,
            }
            if lines.is_empty() {
                lines.push(String::new());
            }
        }
        lines.join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_is_too_much(text in any::<String>()) {
        drop(bootstrap::load(&text));
    }

    #[test]
    fn no_spoiled_configuration_is_too_much(text in spoiled()) {
        if let Err(problems) = bootstrap::load(&text) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|problem| problem.line.is_some()), "{:?}", problems);
        }
        drop(bootstrap::migrate(&text));
    }
}
