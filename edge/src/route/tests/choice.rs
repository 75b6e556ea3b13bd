//! Which route a request takes.

use super::*;
use crate::call::{PeerCertificate, TlsFacts};

#[test]
fn routes_are_asked_in_order() {
    let table = compile(
        r#"
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - { name: health, match: { path: /healthz }, direct_response: { status: 200 } }
    - name: limited
      match: { path: /grpc.testing.TestService/EmptyCall, headers: [ { name: x-demo-limit, present_match: true } ] }
      route: { cluster: up }
    - { name: admin, match: { prefix: /admin.UsersService }, route: { cluster: up } }
    - { name: grpc, match: { prefix: /, grpc: {} }, route: { cluster: up } }
    - { name: web, match: { prefix: /grpc.testing. }, route: { cluster: up } }
    - { name: qf, match: { path: /qf, query_parameters: [ { name: a, present_match: false } ] }, route: { cluster: up } }
    - { name: qt, match: { path: /qt, query_parameters: [ { name: a, present_match: true } ] }, route: { cluster: up } }
    - { name: qd, match: { path: /qd, query_parameters: [ { name: a, string_match: { exact: x%20y } } ] }, route: { cluster: up } }
    - { name: he, match: { path: /he, headers: [ { name: x-a, exact_match: "" } ] }, route: { cluster: up } }
    - { name: hi, match: { path: /hi, headers: [ { name: x-a, string_match: { exact: "1" }, invert_match: true } ] }, route: { cluster: up } }
    - { name: hp, match: { path: /hp, headers: [ { name: x-a, present_match: true, treat_missing_header_as_empty: true } ] }, route: { cluster: up } }
    - { name: hq, match: { path: /hq, headers: [ { name: x-a, present_match: false, treat_missing_header_as_empty: true } ] }, route: { cluster: up } }
    - { name: ck, match: { path: /ck, cookies: [ { name: c, string_match: { exact: "1" }, invert_match: true } ] }, route: { cluster: up } }
    - { name: method, match: { path: /m, headers: [ { name: ":method", string_match: { exact: PUT } } ] }, route: { cluster: up } }
    - { name: regex, match: { safe_regex: { google_re2: {}, regex: "/r/[0-9]+" } }, route: { cluster: up } }
    - { name: v2, match: { path_separated_prefix: /v2 }, route: { cluster: up } }
"#,
    )
    .unwrap();
    let grpc = ("content-type", "application/grpc+proto");
    let web = ("content-type", "application/grpc-web+proto");
    for (path, headers, expected) in [
        ("/healthz", &[][..], Some("health")),
        ("/healthz?x=1", &[], Some("health")),
        ("/grpc.testing.TestService/EmptyCall", &[("x-demo-limit", "")], Some("limited")),
        ("/grpc.testing.TestService/EmptyCall", &[grpc], Some("grpc")),
        ("/grpc.testing.TestService/EmptyCall", &[web], Some("web")),
        ("/admin.UsersService/Get", &[grpc], Some("admin")),
        ("/other", &[], None),
        ("/qf", &[], Some("qf")),
        ("/qf?a=1", &[], None),
        ("/qt?a", &[], Some("qt")),
        ("/qt", &[], None),
        ("/qd?a=x%20y", &[], Some("qd")),
        ("/he", &[], None),
        ("/he", &[("x-a", "1")], Some("he")),
        ("/hi", &[], None),
        ("/hi", &[("x-a", "2")], Some("hi")),
        ("/hp", &[], Some("hp")),
        ("/hq", &[], None),
        ("/hq", &[("x-a", "1")], None),
        ("/ck", &[], Some("ck")),
        ("/ck", &[("cookie", "c=1")], None),
        ("/ck", &[("cookie", "b=1; c=2")], Some("ck")),
        ("/m", &[], None),
        ("/r/12?x=y", &[], Some("regex")),
        ("/r/12/", &[], None),
        ("/v2/a", &[], Some("v2")),
        ("/v21", &[], None),
    ] {
        let call = Call::sample("GET", "a.example", path, headers);
        assert_eq!(name_of(&table, call).as_deref(), expected, "{path} {headers:?}");
    }
}

#[test]
fn virtual_hosts_are_chosen_by_domain() {
    let table = compile(
        r#"
  ignore_port_in_host_matching: true
  ignore_path_parameters_in_path_matching: true
  virtual_hosts:
  - name: shop
    domains: ["shop.example", "*.shop.example"]
    routes: [ { name: shop, match: { path: /a }, route: { cluster: up } } ]
  - name: rest
    domains: ["*"]
    routes: [ { name: rest, match: { prefix: / }, route: { cluster: up } } ]
"#,
    )
    .unwrap();
    for (authority, path, expected) in [
        ("shop.example", "/a", Some("shop")),
        ("SHOP.example:8443", "/a;v=1", Some("shop")),
        ("de.shop.example", "/a", Some("shop")),
        // The virtual host decides alone: another one's routes are not asked.
        ("shop.example", "/b", None),
        ("other.example", "/b", Some("rest")),
    ] {
        let call = Call::sample("GET", authority, path, &[]);
        assert_eq!(name_of(&table, call).as_deref(), expected, "{authority}{path}");
    }
}

#[test]
fn chance_and_weights_decide_by_the_random_number_of_the_call() {
    let table = compile(
        r#"
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - name: some
      match: { prefix: /f, runtime_fraction: { default_value: { numerator: 25, denominator: HUNDRED } } }
      route: { cluster: up }
    - { name: rest, match: { prefix: /f }, route: { cluster: up } }
    - match: { prefix: /w }
      route: { weighted_clusters: { header_name: x-random, clusters: [ { name: a, weight: 1 }, { name: b, weight: 3 } ] } }
"#,
    )
    .unwrap();
    for (random, expected) in [(24, "some"), (25, "rest"), (124, "some")] {
        let call = Call { random, ..Call::sample("GET", "a", "/f", &[]) };
        assert_eq!(name_of(&table, call).as_deref(), Some(expected), "{random}");
    }
    for (random, headers, expected) in [
        (0, &[][..], "a"),
        (1, &[], "b"),
        (3, &[], "b"),
        (4, &[], "a"),
        (0, &[("x-random", "2")], "b"),
        (0, &[("x-random", "2"), ("x-random", "2")], "a"),
        (0, &[("x-random", "none")], "a"),
    ] {
        let call = routed(&table, Call { random, ..Call::sample("GET", "a", "/w", headers) });
        let forward = call.route.as_ref().unwrap().forward().unwrap();
        assert_eq!(forward.cluster(&call).as_deref(), Some(expected), "{random} {headers:?}");
    }
}

#[test]
fn a_header_may_name_the_cluster() {
    let table = compile(
        r#"
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes: [ { match: { prefix: / }, route: { cluster_header: x-cluster, cluster_not_found_response_code: NOT_FOUND } } ]
"#,
    )
    .unwrap();
    for (headers, expected) in [(&[("x-cluster", "named")][..], Some("named")), (&[], None)] {
        let call = routed(&table, Call::sample("GET", "a", "/", headers));
        let forward = call.route.as_ref().unwrap().forward().unwrap();
        assert_eq!(forward.cluster(&call).as_deref(), expected);
        assert_eq!(forward.cluster_not_found, 404);
    }
}

#[test]
fn certificates_decide() {
    let table = compile(
        r#"
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - { name: verified, match: { prefix: /, tls_context: { validated: true } }, route: { cluster: up } }
    - { name: shown, match: { prefix: /, tls_context: { presented: true } }, route: { cluster: up } }
    - { name: none, match: { prefix: /, tls_context: { presented: false } }, route: { cluster: up } }
"#,
    )
    .unwrap();
    let shown = |verified| Some(PeerCertificate { verified, ..Default::default() });
    for (tls, expected) in
        [(None, "none"), (Some(None), "none"), (Some(shown(false)), "shown"), (Some(shown(true)), "verified")]
    {
        let mut call = Call::sample("GET", "a", "/", &[]);
        let tls = tls.map(|peer| TlsFacts { peer, ..Default::default() });
        call.connection = Arc::new(Connection { tls, ..Connection::clone(&call.connection) });
        assert_eq!(name_of(&table, call).as_deref(), Some(expected));
    }
}

#[test]
fn a_virtual_host_may_require_tls() {
    let table = compile(
        r#"
  virtual_hosts:
  - { name: strict, domains: ["strict"], require_tls: ALL, routes: [ { name: up, match: { prefix: / }, route: { cluster: up } } ] }
  - { name: outside, domains: ["outside"], require_tls: EXTERNAL_ONLY, routes: [ { name: up, match: { prefix: / }, route: { cluster: up } } ] }
"#,
    )
    .unwrap();
    for (authority, headers, redirected) in [
        ("strict", &[][..], true),
        ("strict", &[("x-envoy-internal", "true")], true),
        ("strict", &[("x-forwarded-proto", "https")], false),
        ("outside", &[], true),
        ("outside", &[("x-envoy-internal", "true")], false),
    ] {
        let mut call = routed(&table, Call::sample("GET", authority, "/a?b=c", headers));
        let route = call.route.clone().unwrap();
        assert_eq!(route.forward().is_none(), redirected, "{authority} {headers:?}");
        if redirected {
            let reply = route.answer(&mut call);
            assert_eq!(reply.status, 301);
            assert_eq!(reply.headers["location"], format!("https://{authority}/a?b=c"));
        }
    }
}

#[test]
fn filters_are_overridden_by_the_most_specific_level() {
    let table = compile(
        r#"
  typed_per_filter_config: &cors
    envoy.filters.http.cors: { "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy }
  virtual_hosts:
  - name: legacy
    domains: ["legacy"]
    cors: { allow_origin_string_match: [ { prefix: "*" } ] }
    routes: [ { match: { prefix: / }, route: { cluster: up } } ]
  - name: all
    domains: ["*"]
    typed_per_filter_config: { limit: &limit { "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: a } }
    routes:
    - { match: { path: /plain }, route: { cluster: up } }
    - { match: { path: /own }, route: { cluster: up }, typed_per_filter_config: { limit: *limit, unknown.filter: *limit } }
    - match: { path: /off }
      route: { cluster: up }
      typed_per_filter_config:
        limit: { "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true }
        off: { "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault }
    - match: { path: /weighted }
      route: { weighted_clusters: { clusters: [ { name: up, weight: 1, typed_per_filter_config: { limit: *limit } } ] } }
"#,
    )
    .unwrap();
    let off = "virtual_hosts[1].routes[2].typed_per_filter_config[\"off\"]";
    let cors = "CorsPolicy of typed_per_filter_config[\"envoy.filters.http.cors\"]";
    let limit =
        |at: &str| format!("LocalRateLimit of virtual_hosts[1]{at}.typed_per_filter_config[\"limit\"]");
    for (authority, path, expected) in [
        ("legacy", "/", vec![cors.to_owned(), "limit of the listener".to_owned()]),
        ("a", "/plain", vec![cors.to_owned(), limit("")]),
        ("a", "/own", vec![cors.to_owned(), limit(".routes[1]")]),
        ("a", "/off", vec![cors.to_owned(), format!("HTTPFault of {off}")]),
        ("a", "/weighted", vec![cors.to_owned(), limit(".routes[3].route.weighted_clusters.clusters[0]")]),
    ] {
        let route = routed(&table, Call::sample("GET", authority, path, &[])).route.unwrap();
        let filters: Vec<_> = route.filters.iter().map(|filter| format!("{filter:?}")).collect();
        assert_eq!(filters, expected, "{path}");
    }
}

#[test]
fn the_deprecated_cors_reaches_the_filter() {
    let table = compile(
        r#"
  virtual_hosts:
  - name: all
    domains: ["*"]
    cors: { allow_origin_string_match: [ { prefix: "*" } ], max_age: "1728000" }
    routes:
    - match: { path: /own }
      route: { cluster: up, cors: { allow_methods: GET } }
    - { match: { prefix: / }, route: { cluster: up } }
"#,
    )
    .unwrap();
    for path in ["/own", "/"] {
        let route = routed(&table, Call::sample("GET", "a", path, &[])).route.unwrap();
        assert!(format!("{:?}", route.filters[0]).starts_with("CorsPolicy of virtual_hosts[0]"), "{path}");
    }
}

#[test]
fn the_reference_comparison_is_routed_as_envoy_routes_it() {
    let file = include_str!("../../../tests/bootstrap/comparison.yaml");
    let resources = crate::bootstrap::load(file).unwrap().bootstrap.static_resources.unwrap();
    for listener in &resources.listeners {
        let mut config = routes_of(listener);
        config.validate_clusters.get_or_insert_default();
        let table = compile_config(&config).unwrap();
        let grpc = ("content-type", "application/grpc");
        let web = ("content-type", "application/grpc-web+proto");
        for (path, headers, expected) in [
            ("/healthz", &[][..], Some("health")),
            ("/grpc.testing.TestService/EmptyCall", &[web, ("x-demo-limit", "1")], Some("limited")),
            ("/dead.Service/Call", &[grpc], Some("dead")),
            ("/secure.grpc.testing.TestService/EmptyCall", &[grpc], Some("secure")),
            ("/grpc.testing.TestService/EmptyCall", &[grpc], Some("grpc")),
            ("/grpc.testing.TestService/EmptyCall", &[web], Some("web")),
            ("/other.Service/Call", &[web], None),
        ] {
            let call = Call::sample("POST", "shop.example", path, headers);
            assert_eq!(name_of(&table, call).as_deref(), expected, "{path} {headers:?}");
        }
    }
}
