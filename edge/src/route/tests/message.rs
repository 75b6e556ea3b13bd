//! What routes make of requests and replies.

use http::{HeaderMap, StatusCode};

use super::*;
use crate::body::Answer;
use crate::reply::{LocalReply, Reply};

fn list(headers: &HeaderMap) -> Vec<String> {
    let mut list: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    list.retain(|header| !header.starts_with("content-length"));
    list
}

const LEVELS: &str = r#"
  request_headers_to_add: [ { header: { key: x-order, value: table } } ]
  response_headers_to_add: [ { header: { key: x-resp, value: table } } ]
  virtual_hosts:
  - name: all
    domains: ["*"]
    request_headers_to_add: [ { header: { key: x-order, value: vhost } } ]
    response_headers_to_add: [ { header: { key: x-resp, value: vhost } } ]
    routes:
    - match: { prefix: /weighted }
      request_headers_to_add: [ { header: { key: x-order, value: route } } ]
      response_headers_to_add: [ { header: { key: x-resp, value: route } } ]
      route:
        weighted_clusters:
          clusters:
          - name: up
            weight: 1
            host_rewrite_literal: weighted.host
            request_headers_to_add: [ { header: { key: x-order, value: weighted } } ]
            response_headers_to_add: [ { header: { key: x-resp, value: weighted } } ]
    - match: { prefix: /both }
      route:
        host_rewrite_literal: route.host
        append_x_forwarded_host: true
        weighted_clusters: { clusters: [ { name: up, weight: 1, host_rewrite_literal: weighted.host } ] }
    - { match: { prefix: /host }, route: { cluster: up, host_rewrite_literal: new.host } }
    - match: { prefix: /hreg }
      route: { cluster: up, host_rewrite_path_regex: { pattern: { regex: "^/hreg/([a-z]+).*$" }, substitution: "\\1.host" } }
    - { match: { prefix: /hhead }, route: { cluster: up, host_rewrite_header: x-h } }
    - { match: { prefix: /pre/ }, route: { cluster: up, prefix_rewrite: /n/ } }
    - { match: { path: /exact }, route: { cluster: up, prefix_rewrite: /ex2 } }
    - match: { prefix: /reg }
      route: { cluster: up, regex_rewrite: { pattern: { regex: "^/reg/([^/]+)/(.*)$" }, substitution: "/\\2/\\1" } }
    - { match: { prefix: /whole }, route: { cluster: up, path_rewrite: "/w%REQ(x-p)%" } }
    - { match: { prefix: /secure. }, route: { cluster: up, prefix_rewrite: / } }
"#;

#[test]
fn requests_are_rewritten_as_envoy_rewrites_them() {
    let table = compile(LEVELS).unwrap();
    let order = ["x-order: vhost", "x-order: table"];
    for (path, headers, host, new_path, more) in [
        ("/weighted", &[][..], "weighted.host", "/weighted", &["x-order: weighted", "x-order: route"][..]),
        (
            "/both",
            &[],
            "route.host",
            "/both",
            &["x-forwarded-host: weighted.host", "x-envoy-original-host: weighted.host"],
        ),
        ("/host", &[], "new.host", "/host", &["x-envoy-original-host: orig.host:80"]),
        ("/hreg/abc/d?q=1", &[], "abc.host", "/hreg/abc/d?q=1", &["x-envoy-original-host: orig.host:80"]),
        (
            "/hhead",
            &[("x-h", "h1"), ("x-h", "h2")],
            "h1",
            "/hhead",
            &["x-envoy-original-host: orig.host:80", "x-h: h1", "x-h: h2"],
        ),
        ("/hhead", &[], "orig.host:80", "/hhead", &[]),
        ("/pre/a?b=c", &[], "orig.host:80", "/n/a?b=c", &["x-envoy-original-path: /pre/a?b=c"]),
        ("/exact?x=1", &[], "orig.host:80", "/ex2?x=1", &["x-envoy-original-path: /exact?x=1"]),
        (
            "/reg/one/two?three",
            &[],
            "orig.host:80",
            "/two/one?three",
            &["x-envoy-original-path: /reg/one/two?three"],
        ),
        (
            "/whole/x?y=1",
            &[("x-p", "/zz")],
            "orig.host:80",
            "/w/zz?y=1",
            &["x-envoy-original-path: /whole/x?y=1", "x-p: /zz"],
        ),
        ("/whole/x?y=1", &[], "orig.host:80", "/w?y=1", &["x-envoy-original-path: /whole/x?y=1"]),
        ("/secure.grpc.S/M", &[], "orig.host:80", "/grpc.S/M", &["x-envoy-original-path: /secure.grpc.S/M"]),
    ] {
        let mut call = routed(&table, Call::sample("GET", "orig.host:80", path, headers));
        let route = call.route.clone().unwrap();
        route.prepare_request(&mut call, route.forward().unwrap());
        assert_eq!(call.request.host(), host, "{path}");
        assert_eq!(call.request.path.as_str(), new_path);
        let mut expected: Vec<_> = more.iter().chain(&order).map(|header| (*header).to_owned()).collect();
        let mut found = list(&call.request.headers);
        if path == "/weighted" {
            assert_eq!(found, expected, "the most specific first");
        }
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn the_most_specific_level_comes_last_where_it_is_to_win() {
    for (wins, expected) in [(false, "table"), (true, "route")] {
        let rule = |level: &str| {
            format!(
                "request_headers_to_add: [ {{ header: {{ key: x-a, value: {level} }}, append_action: OVERWRITE_IF_EXISTS_OR_ADD }} ]"
            )
        };
        let (table, vhost, route) = (rule("table"), rule("vhost"), rule("route"));
        let table = compile(&format!(
            r#"
  most_specific_header_mutations_wins: {wins}
  {table}
  virtual_hosts:
  - name: all
    domains: ["*"]
    {vhost}
    routes:
    - match: {{ prefix: / }}
      {route}
      route: {{ cluster: up }}
"#
        ))
        .unwrap();
        let mut call = routed(&table, Call::sample("GET", "a", "/", &[]));
        let route = call.route.clone().unwrap();
        route.prepare_request(&mut call, route.forward().unwrap());
        assert_eq!(call.request.headers["x-a"], expected);
    }
}

#[test]
fn headers_are_added_removed_and_replaced() {
    let table = compile(
        r#"
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - match: { prefix: / }
      route: { cluster: up }
      request_headers_to_remove: [ x-gone ]
      request_headers_to_add:
      - { header: { key: f-dup, value: "%REQ(x-d)%" } }
      - { header: { key: f-gone, value: "%REQ(x-gone)%" } }
      - { header: { key: f-empty, value: "%REQ(none)%" }, keep_empty_value: true }
      - { header: { key: f-cluster, value: "%UPSTREAM_CLUSTER%" } }
      - { header: { key: f-code, value: "%RESPONSE_CODE%" } }
      - { header: { key: x-a, value: added }, append_action: ADD_IF_ABSENT }
      - { header: { key: x-b, value: over }, append_action: OVERWRITE_IF_EXISTS }
      - { header: { key: x-c, value: over }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }
      - { header: { key: x-e, value: old }, append: false }
      response_headers_to_add:
      - { header: { key: g-code, value: "%RESPONSE_CODE%" } }
      - { header: { key: g-up, value: "%RESP(x-up)%" } }
"#,
    )
    .unwrap();
    for (headers, expected) in [
        (
            &[("x-d", "d1"), ("x-gone", "1"), ("x-a", "1"), ("x-b", "1"), ("x-c", "1"), ("x-c", "2")][..],
            &[
                "f-code: 0",
                "f-dup: d1",
                "f-empty: ",
                "x-a: 1",
                "x-b: over",
                "x-c: over",
                "x-d: d1",
                "x-e: old",
            ][..],
        ),
        (&[], &["f-code: 0", "f-empty: ", "x-a: added", "x-c: over", "x-e: old"]),
    ] {
        let mut call = routed(&table, Call::sample("GET", "a", "/", headers));
        let route = call.route.clone().unwrap();
        route.prepare_request(&mut call, route.forward().unwrap());
        let mut found = list(&call.request.headers);
        found.sort();
        assert_eq!(found, expected);
    }
    let mut call = routed(&table, Call::sample("GET", "a", "/", &[]));
    let mut reply = Reply::new(StatusCode::OK, HeaderMap::new(), Answer::Full(None));
    reply.headers.insert("x-up", "u1".parse().unwrap());
    call.route.clone().unwrap().finish_reply(&mut call, &mut reply);
    assert_eq!(list(&reply.headers), ["x-up: u1", "g-code: 200", "g-up: u1"]);
}

#[test]
fn redirects_lead_where_envoys_lead() {
    let table = compile(
        r#"
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - { match: { prefix: /rp }, redirect: { path_redirect: /to } }
    - { match: { prefix: /rq }, redirect: { path_redirect: "/to?z=1", strip_query: true } }
    - { match: { prefix: /rs }, redirect: { path_redirect: "/to", strip_query: true, response_code: FOUND } }
    - { match: { prefix: /rx/ }, redirect: { prefix_rewrite: "/y/", https_redirect: true } }
    - match: { prefix: /rr }
      redirect: { regex_rewrite: { pattern: { regex: "r" }, substitution: "s" }, host_redirect: h.x, port_redirect: 99 }
    - { match: { prefix: /rf }, redirect: { path_rewrite: "/new/%REQ(x-v)%" } }
    - { match: { prefix: /rt }, redirect: { path_redirect: "noslash", response_code: PERMANENT_REDIRECT } }
"#,
    )
    .unwrap();
    for (authority, path, headers, status, location) in [
        ("orig.host:80", "/rp/a?b=1", &[][..], 301, "http://orig.host:80/to?b=1"),
        ("orig.host:80", "/rq?b=1", &[], 301, "http://orig.host:80/to?z=1"),
        ("orig.host:80", "/rs?b=1", &[], 302, "http://orig.host:80/to"),
        ("orig.host:80", "/rx/abc?d=1", &[], 301, "https://orig.host/y/abc?d=1"),
        ("orig.host:80", "/rr/rar?r=1", &[], 301, "http://h.x:99/ss/sas?r=1"),
        ("orig.host:80", "/rf/a?b=1", &[], 301, "http://orig.host:80/new/?b=1"),
        ("orig.host:80", "/rf/a", &[("x-v", "v2")], 301, "http://orig.host:80/new/v2"),
        ("orig.host:80", "/rt", &[], 308, "http://orig.host:80/noslash"),
        ("h:443", "/rx/a", &[], 301, "https://h:443/y/a"),
        ("h:8080", "/rx/a", &[], 301, "https://h:8080/y/a"),
    ] {
        let mut call = routed(&table, Call::sample("GET", authority, path, headers));
        let reply = call.route.clone().unwrap().answer(&mut call);
        assert_eq!((reply.status.as_u16(), reply.headers["location"].to_str().unwrap()), (status, location));
        assert_eq!(call.details, "direct_response");
    }
}

#[test]
fn rules_see_what_the_edge_answers_before_it_does() {
    let table = compile(
        r#"
  response_headers_to_add: [ { header: { key: x-resp, value: table } } ]
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - match: { prefix: /json }
      direct_response: { status: 200, body: { inline_string: "{}" } }
      response_headers_to_add: [ { header: { key: content-type, value: application/json } } ]
    - { match: { prefix: /empty }, direct_response: { status: 204 } }
    - { match: { prefix: / }, route: { cluster: up } }
"#,
    )
    .unwrap();
    let grpc = &[("content-type", "application/grpc")][..];
    let mut expected = vec![
        ("/json", &[][..], vec!["content-type: application/json", "x-resp: table"]),
        (
            "/json",
            grpc,
            vec!["content-type: application/grpc", "grpc-message: {}", "grpc-status: 2", "x-resp: table"],
        ),
        ("/empty", &[], vec!["x-resp: table"]),
        ("/dead", &[], vec!["content-type: text/plain", "x-resp: table"]),
    ];
    for (path, headers, expected) in &mut expected {
        let mut call = routed(&table, Call::sample("GET", "a", path, headers));
        let route = call.route.clone().unwrap();
        let mut reply = match route.forward() {
            None => route.answer(&mut call),
            Some(_) => LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, "no", "no").render(&mut call),
        };
        route.finish_reply(&mut call, &mut reply);
        let mut found = list(&reply.headers);
        found.sort();
        assert_eq!(found, *expected, "{path} {headers:?}");
    }
}
