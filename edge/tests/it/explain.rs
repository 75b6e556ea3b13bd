//! What becomes of a request, told without serving it.

use edge::bootstrap;
use edge::explain::{Explanation, Outcome, Question, explain};

const CONFIG: &str = r#"static_resources:
  listeners:
  - name: public
    address: { socket_address: { address: 127.0.0.1, port_value: 8080 } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
            virtual_hosts:
            - name: shop
              domains: [shop.example]
              typed_per_filter_config:
                cors:
                  "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig
                  disabled: true
              routes:
              - name: admin
                match: { prefix: /api, headers: [ { name: x-admin, present_match: true } ] }
                direct_response: { status: 204 }
              - name: api
                match: { prefix: /api/ }
                route: { cluster: catalog, prefix_rewrite: /, host_rewrite_literal: catalog.internal, timeout: 2s }
              - match: { path: /old }
                redirect: { path_redirect: /new }
          http_filters:
          - name: cors
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors }
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: catalog
    load_assignment:
      cluster_name: catalog
      endpoints: [ { lb_endpoints: [ { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 50051 } } } } ] } ]
"#;

fn ask(path: &str, authority: &str) -> Explanation {
    let loaded = bootstrap::load(CONFIG).expect("a valid configuration");
    let question = Question {
        method: "GET".to_owned(),
        path: path.to_owned(),
        authority: Some(authority.to_owned()),
        ..Question::default()
    };
    explain(&loaded, &question).expect("an explanation")
}

#[test]
fn a_request_is_followed_to_its_cluster() {
    let explanation = ask("/api/items?a=b", "shop.example");
    let page = explanation.to_string();
    let expected = "\
request       GET shop.example /api/items?a=b
listener      public (line 3)
filter chain  static_resources.listeners[0].filter_chains[0] (line 6)
virtual host  shop (line 13)
not route     admin (line 20), prefix /api: the header x-admin does not match
route         api (line 23), prefix /api/
filter        cors (line 29): off, as the virtual host (line 16) says
              router (line 31): on
cluster       catalog (line 34): STATIC, ROUND_ROBIN, HTTP/1.1
endpoint      127.0.0.1:50051
sent as       GET catalog.internal /items?a=b
policy        timeout 2s
";
    assert_eq!(page, expected);
    assert!(explanation.is_matched());
    let json = serde_json::to_value(&explanation).expect("JSON");
    assert_eq!(json["outcome"]["action"], "forward");
    assert_eq!(json["tried"][0]["mismatch"], "the header x-admin does not match");
    let path = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config\
                .virtual_hosts[0].routes[1]";
    assert_eq!(json["tried"][1]["path"], path);
}

#[test]
fn what_no_route_takes_says_which_were_tried() {
    let explanation = ask("/nowhere", "shop.example");
    assert!(!explanation.is_matched());
    assert_eq!(explanation.tried.len(), 3);
    assert!(explanation.tried.iter().all(|tried| tried.mismatch.is_some()));
    let other = ask("/api/items", "other.example");
    assert!(other.virtual_host.is_none() && !other.is_matched());
}

#[test]
fn redirects_are_told() {
    let explanation = ask("/old", "shop.example");
    let Outcome::Redirect { status, location } = &explanation.outcome else { panic!("{explanation}") };
    assert_eq!((*status, location.as_str()), (301, "http://shop.example/new"));
}

#[test]
fn a_listener_that_is_not_there_is_named() {
    let loaded = bootstrap::load(CONFIG).expect("a valid configuration");
    let question = Question { listener: Some("private".to_owned()), ..Question::default() };
    let problem = explain(&loaded, &question).expect_err("no such listener");
    assert_eq!(problem.message, "there is no such listener; there are: public");
}
