//! Timeouts, retries, hashes and rate limits of routes.

use serde_json::json;

use super::*;

fn forward_of(action: &str, headers: &[(&str, &str)]) -> (Call, Arc<Matched>) {
    let table = compile(&format!(
        r#"
  virtual_hosts:
  - name: all
    domains: ["*"]
    retry_policy: {{ retry_on: reset, num_retries: 7 }}
    hedge_policy: {{ hedge_on_per_try_timeout: true }}
    routes: [ {{ match: {{ prefix: / }}, route: {{ cluster: up, {action} }} }} ]
"#
    ))
    .unwrap();
    let call = routed(&table, Call::sample("POST", "a", "/x?q=1", headers));
    let route = call.route.clone().unwrap();
    (call, route)
}

#[test]
fn timeouts_are_those_of_envoy() {
    let seconds = |seconds: u64| Some(Duration::from_secs(seconds));
    let grpc = &[("content-type", "application/grpc")][..];
    let hurried = &[("x-envoy-upstream-rq-timeout-ms", "1000")][..];
    // action, headers, grpc-timeout, whole response, whole stream
    for (action, headers, asked, response, stream) in [
        ("", grpc, None, seconds(15), None),
        ("", grpc, seconds(5), seconds(15), None),
        ("timeout: 0s", grpc, None, None, None),
        ("timeout: 60s", hurried, None, seconds(1), None),
        (
            "max_stream_duration: { grpc_timeout_header_max: 0s }",
            grpc,
            seconds(5),
            seconds(15),
            Some(seconds(5)),
        ),
        ("max_stream_duration: { grpc_timeout_header_max: 0s }", grpc, None, seconds(15), None),
        (
            "max_stream_duration: { grpc_timeout_header_max: 3s }",
            grpc,
            seconds(5),
            seconds(15),
            Some(seconds(3)),
        ),
        (
            "max_stream_duration: { grpc_timeout_header_max: 9s, grpc_timeout_header_offset: 1s }",
            grpc,
            seconds(5),
            seconds(15),
            Some(seconds(4)),
        ),
        ("max_stream_duration: { max_stream_duration: 8s }", grpc, seconds(5), seconds(15), Some(seconds(8))),
        ("max_stream_duration: { max_stream_duration: 0s }", grpc, None, seconds(15), Some(None)),
        ("max_grpc_timeout: 0s", grpc, seconds(5), seconds(5), None),
        ("max_grpc_timeout: 0s", grpc, None, None, None),
        ("max_grpc_timeout: 0s", &[], None, seconds(15), None),
        ("max_grpc_timeout: 3s", grpc, seconds(5), seconds(3), None),
        ("max_grpc_timeout: 9s, grpc_timeout_offset: 1s", grpc, seconds(5), seconds(4), None),
    ] {
        let (call, route) = forward_of(action, headers);
        let forward = route.forward().unwrap();
        assert_eq!(forward.timeout(&call, asked), response, "{action} {headers:?} {asked:?}");
        assert_eq!(forward.max_duration(asked), stream, "{action} {headers:?} {asked:?}");
    }
    for (action, expected) in
        [("", None), ("idle_timeout: 0s", Some(None)), ("idle_timeout: 5s", Some(seconds(5)))]
    {
        assert_eq!(forward_of(action, &[]).1.forward().unwrap().idle_timeout, expected);
    }
}

#[test]
fn retry_policies_are_read() {
    let (mut call, route) = forward_of(
        r#"retry_policy: {
            retry_on: "connect-failure,unavailable,retriable-status-codes", num_retries: 2, per_try_timeout: 5s,
            retry_back_off: { base_interval: 0.1s }, retriable_status_codes: [ 503 ],
            rate_limited_retry_back_off: { reset_headers: [ { name: retry-after }, { name: x-reset, format: UNIX_TIMESTAMP } ] },
            retry_host_predicate: [ {
                name: envoy.retry_host_predicates.previous_hosts,
                typed_config: { "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate } } ],
            host_selection_retry_max_attempts: 3 }"#,
        &[],
    );
    let retry = route.forward().unwrap().retry_of(&mut call).unwrap();
    assert_eq!(retry.on, RetryOn::parse("connect-failure,unavailable,retriable-status-codes").0);
    assert_eq!((retry.num_retries, retry.per_try_timeout), (2, Some(Duration::from_secs(5))));
    assert_eq!(
        (retry.base_interval, retry.max_interval),
        (Duration::from_millis(100), Duration::from_secs(1))
    );
    assert_eq!(retry.status_codes, [503]);
    assert!(retry.avoid_previous_hosts && retry.host_selection_attempts == 3);
    let limited = retry.rate_limited.as_ref().unwrap();
    assert_eq!(limited.headers.iter().map(|header| header.unix_timestamp).collect::<Vec<_>>(), [false, true]);
    assert_eq!(limited.max_interval, Duration::from_secs(300));
}

#[test]
fn the_virtual_host_and_the_request_have_a_say_in_retries() {
    let own = "retry_policy: { retry_on: 5xx, retriable_request_headers: [ { name: x-safe } ] }";
    for (action, headers, on, num_retries) in [
        ("", &[][..], "reset", 7),
        (
            "",
            &[("x-envoy-retry-on", "5xx"), ("x-envoy-retry-grpc-on", "internal,bogus")],
            "reset,5xx,internal",
            7,
        ),
        ("", &[("x-envoy-max-retries", "3")], "reset", 3),
        (own, &[], "", 1),
        (own, &[("x-safe", "1")], "5xx", 1),
    ] {
        let (mut call, route) = forward_of(action, headers);
        let retry = route.forward().unwrap().retry_of(&mut call).unwrap();
        assert_eq!((retry.on, retry.num_retries), (RetryOn::parse(on).0, num_retries), "{headers:?}");
        assert!(route.forward().unwrap().hedges);
        assert!(call.request.headers.keys().all(|name| !name.as_str().starts_with("x-envoy-")));
    }
}

#[test]
fn hashes_are_the_same_for_the_same_call() {
    let header = "hash_policy: [ { header: { header_name: x-user } } ]";
    let cookie = "hash_policy: [ { cookie: { name: ck, ttl: 100s, path: /p, attributes: [ { name: SameSite, value: Strict } ] } } ]";
    let terminal = "hash_policy: [ { header: { header_name: x-user }, terminal: true }, { connection_properties: { source_ip: true } } ]";
    let hash = |action: &str, headers: &[(&str, &str)]| {
        let (mut call, route) = forward_of(action, headers);
        let hash = route.forward().unwrap().hash(&mut call);
        let mut reply = crate::reply::Reply::new(
            http::StatusCode::OK,
            Default::default(),
            crate::body::Answer::Full(None),
        );
        route.finish_reply(&mut call, &mut reply);
        let cookie = reply.headers.get("set-cookie").map(|cookie| cookie.to_str().unwrap().to_owned());
        (hash, cookie)
    };
    // XXH64 of "abc" with seed 0.
    let abc = Some(0x44BC_2CF5_AD77_0999);
    assert_eq!(hash("", &[]), (None, None));
    assert_eq!(hash(header, &[]), (None, None));
    assert_eq!(hash(header, &[("x-user", "abc")]), (abc, None));
    assert_eq!(hash(terminal, &[("x-user", "abc")]), (abc, None));
    assert_ne!(hash(terminal, &[]).0, None);
    assert_eq!(hash(cookie, &[("cookie", "ck=abc")]), (abc, None));
    assert_eq!(hash("hash_policy: [ { query_parameter: { name: q } } ]", &[]).0, Some(0xB7B4_1276_360564D4));
    let (made, set) = hash(cookie, &[]);
    let set = set.unwrap();
    let value = set.strip_prefix("ck=\"").unwrap().split('"').next().unwrap();
    assert_eq!(set, format!("ck=\"{value}\"; Max-Age=100; Path=/p; SameSite=Strict; HttpOnly"));
    assert_eq!(hash(cookie, &[("cookie", &format!("ck={value}"))]), (made, None));
}

#[test]
fn descriptors_are_made_of_the_call() {
    let entry = |key: &str, value: &str| Some(vec![(key.to_owned(), value.to_owned())]);
    for (action, headers, expected) in [
        (
            r#"request_headers: { header_name: x-api-key, descriptor_key: api_key }"#,
            &[("x-api-key", "k1")][..],
            entry("api_key", "k1"),
        ),
        (r#"request_headers: { header_name: x-api-key, descriptor_key: api_key }"#, &[], None),
        (
            r#"request_headers: { header_name: x-api-key, descriptor_key: api_key, skip_if_absent: true }"#,
            &[],
            Some(vec![]),
        ),
        (r#"request_headers: { header_name: ":path", descriptor_key: path }"#, &[], entry("path", "/x?q=1")),
        (r#"generic_key: { descriptor_value: v }"#, &[], entry("generic_key", "v")),
        (r#"generic_key: { descriptor_value: v, descriptor_key: k }"#, &[], entry("k", "v")),
        (r#"remote_address: {}"#, &[], entry("remote_address", "10.1.2.3")),
        (
            r#"masked_remote_address: { v4_prefix_mask_len: 16 }"#,
            &[],
            entry("masked_remote_address", "10.1.0.0/16"),
        ),
        (
            r#"header_value_match: { descriptor_value: m, headers: [ { name: x-a } ] }"#,
            &[("x-a", "")],
            entry("header_match", "m"),
        ),
        (r#"header_value_match: { descriptor_value: m, headers: [ { name: x-a } ] }"#, &[], None),
        (
            r#"header_value_match: { descriptor_value: m, expect_match: false, headers: [ { name: x-a } ] }"#,
            &[],
            entry("header_match", "m"),
        ),
        (
            r#"query_parameter_value_match: { descriptor_value: m, query_parameters: [ { name: q } ] }"#,
            &[],
            entry("query_match", "m"),
        ),
        (r#"query_parameters: { query_parameter_name: q, descriptor_key: q }"#, &[], entry("q", "1")),
        (r#"destination_cluster: {}"#, &[], entry("destination_cluster", "up")),
        (r#"source_cluster: {}"#, &[], entry("source_cluster", "edge")),
        (
            r#"metadata: { descriptor_key: t, metadata_key: { key: auth, path: [ { key: tenant } ] } }"#,
            &[],
            entry("t", "acme"),
        ),
        (
            r#"metadata: { descriptor_key: t, metadata_key: { key: none, path: [ { key: x } ] }, default_value: d }"#,
            &[],
            entry("t", "d"),
        ),
        (
            r#"remote_address_match: { descriptor_value: "in-%REQ(:method)%", address_matcher: { ranges: [ { address_prefix: 10.0.0.0, prefix_len: 8 } ] } }"#,
            &[],
            entry("remote_address_match", "in-POST"),
        ),
    ] {
        let (mut call, route) =
            forward_of(&format!("rate_limits: [ {{ actions: [ {{ {action} }} ] }} ]"), headers);
        call.note("auth", "tenant", json!("acme"));
        let descriptor = route.forward().unwrap().rate_limits[0].descriptor(&call, "edge");
        assert_eq!(descriptor.map(|descriptor| descriptor.entries), expected, "{action}");
    }
}

#[test]
fn descriptors_carry_limits_and_hits() {
    let (mut call, route) = forward_of(
        r#"rate_limits: [ {
            stage: 2, actions: [ { remote_address: {} } ], hits_addend: { number: 3 },
            limit: { dynamic_metadata: { metadata_key: { key: plan, path: [ { key: limit } ] } } } } ]"#,
        &[],
    );
    let rule = &route.forward().unwrap().rate_limits[0];
    assert_eq!(rule.stage, 2);
    let descriptor = rule.descriptor(&call, "").unwrap();
    assert_eq!((descriptor.limit, descriptor.hits_addend), (None, Some(3)));
    call.note("plan", "limit", json!({ "requests_per_unit": 42, "unit": "HOUR" }));
    let limit = rule.descriptor(&call, "").unwrap().limit.unwrap();
    assert_eq!((limit.requests_per_unit, limit.unit.as_str_name()), (42, "HOUR"));
}
