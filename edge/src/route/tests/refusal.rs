//! What is wrong with routes, and where.

use super::*;

#[test]
fn what_envoy_refuses_is_refused_with_its_path() {
    let route = "virtual_hosts[0].routes[0]";
    for (routes, path, message) in [
        (
            r#"{ match: { prefix: / }, route: { cluster: nope } }"#,
            "route.cluster",
            "route: unknown cluster 'nope'",
        ),
        (
            r#"{ match: { prefix: / }, route: { weighted_clusters: { clusters: [ { name: nope, weight: 1 } ] } } }"#,
            "route.weighted_clusters.clusters[0].name",
            "route: unknown weighted cluster 'nope'",
        ),
        (
            r#"{ match: { safe_regex: { regex: "[" } }, route: { cluster_header: x } }"#,
            "match.safe_regex.regex",
            "regular expression",
        ),
        (
            r#"{ match: { prefix: / }, route: { cluster_header: x, prefix_rewrite: /a, regex_rewrite: { pattern: { regex: a }, substitution: b } } }"#,
            "route",
            "exclude each other",
        ),
        (
            r#"{ match: { prefix: / }, route: { cluster_header: x, upgrade_configs: [ { upgrade_type: websocket }, { upgrade_type: WebSocket } ] } }"#,
            "route.upgrade_configs[1]",
            "Duplicate upgrade websocket",
        ),
        (
            r#"{ match: { prefix: / }, route: { cluster_header: x, retry_policy: { retry_on: "5xx,bogus" } } }"#,
            "route.retry_policy.retry_on",
            "'bogus'",
        ),
        (
            r#"{ match: { prefix: / }, route: { cluster_header: x, retry_policy: { retry_back_off: { base_interval: 1s, max_interval: 0.5s } } } }"#,
            "route.retry_policy.retry_back_off.max_interval",
            "greater than or equal",
        ),
        (
            r#"{ match: { prefix: / }, route: { cluster_header: x }, request_headers_to_add: [ { header: { key: a, value: "%BOGUS%" } } ] }"#,
            "request_headers_to_add[0].header.value",
            "BOGUS",
        ),
        (
            r#"{ match: { prefix: / }, route: { cluster_header: x }, request_headers_to_add: [ { header: { key: a, value: b }, append: true, append_action: ADD_IF_ABSENT } ] }"#,
            "request_headers_to_add[0].append",
            "exclude each other",
        ),
        (
            r#"{ match: { prefix: / }, route: { cluster_header: x }, response_headers_to_remove: [ Host ] }"#,
            "response_headers_to_remove[0]",
            "cannot be changed",
        ),
        (
            r#"{ match: { prefix: / }, direct_response: { status: 200, body: { filename: /does/not/exist } } }"#,
            "direct_response.body.filename",
            "cannot read /does/not/exist",
        ),
    ] {
        let routes =
            format!("\n  virtual_hosts:\n  - {{ name: all, domains: [\"*\"], routes: [ {routes} ] }}");
        let problem = compile_config(&read(&routes)).unwrap_err();
        assert_eq!(problem.path, format!("{route}.{path}"), "{problem}");
        assert!(problem.message.contains(message), "{problem}");
    }
}

#[test]
fn a_direct_response_has_a_bound() {
    let body = "a".repeat(4097);
    let routes = |more: &str| {
        format!(
            "\n  {more}\n  virtual_hosts:\n  - name: all\n    domains: [\"*\"]\n    routes: \
             [ {{ match: {{ prefix: / }}, direct_response: {{ status: 200, body: {{ inline_string: {body} }} }} }} ]"
        )
    };
    let problem = compile(&routes("")).unwrap_err();
    assert!(problem.message.starts_with("response body size is 4097 bytes; maximum is 4096"), "{problem}");
    compile(&routes("max_direct_response_body_size_bytes: 4097")).unwrap();
}

#[test]
fn a_domain_belongs_to_one_virtual_host() {
    for (first, second, message) in [
        ("*", "*", "Only a single wildcard domain is permitted in route test"),
        (
            "a.example",
            "A.example",
            "Only unique values for domains are permitted. Duplicate entry of domain A.example in route test",
        ),
    ] {
        let routes = format!(
            "\n  virtual_hosts:\n  - {{ name: a, domains: [\"{first}\"] }}\n  - {{ name: b, domains: [\"{second}\"] }}"
        );
        let problem = compile(&routes).unwrap_err();
        assert_eq!(
            (problem.path.as_str(), problem.message.as_str()),
            ("virtual_hosts[1].domains[0]", message)
        );
    }
}
