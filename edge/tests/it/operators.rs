//! What operators see of a gateway: its admin interface, its figures, its access logs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use edge::gateway::{self, Options, Running};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Reply, http1};

const CONFIG: &str = r#"
node: { id: edge-1, cluster: shop }
admin:
  address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
  access_log_path: "{DIR}/admin.log"
static_resources:
  listeners:
  - name: web
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          access_log:
          - name: text
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: "{DIR}/text.log"
          - name: json
            filter: { status_code_filter: { comparison: { op: GE, value: { default_value: 400, runtime_key: x } } } }
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: "{DIR}/errors.log"
              log_format:
                json_format: { path: "%REQ(:PATH)%", code: "%RESPONSE_CODE%", flags: "%RESPONSE_FLAGS%", host: "%UPSTREAM_HOST%" }
          route_config:
            name: routes
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - { match: { path: /ok }, direct_response: { status: 200, body: { inline_string: ok } } }
              - { match: { prefix: /dead }, route: { cluster: dead } }
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  - name: secure
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: secure
          route_config: { name: other }
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - certificate_chain: { filename: "{DIR}/edge.crt" }
              private_key: { filename: "{DIR}/edge.key" }
  clusters:
  - name: dead
    type: STATIC
    connect_timeout: 0.25s
    load_assignment:
      cluster_name: dead
      endpoints: [ { lb_endpoints: [ { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 1 } } } } ] } ]
"#;

struct Gateway {
    running: Running,
    directory: tempfile::TempDir,
    log_filter: Arc<Mutex<String>>,
}

impl Gateway {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let key = rcgen::generate_simple_self_signed(["edge.test".to_owned()]).expect("a certificate");
        std::fs::write(directory.path().join("edge.crt"), key.cert.pem()).expect("written");
        std::fs::write(directory.path().join("edge.key"), key.signing_key.serialize_pem()).expect("written");
        let config = CONFIG.replace("{DIR}", &directory.path().display().to_string());
        let loaded = edge::bootstrap::load(&config).expect("a valid configuration");
        let log_filter = Arc::new(Mutex::new(String::new()));
        let filter = Arc::clone(&log_filter);
        let options = Options {
            concurrency: 1,
            drain_time: Duration::from_secs(1),
            set_log_filter: Some(Arc::new(move |directives: &str| {
                directives.clone_into(&mut filter.lock().expect("a lock"));
                Ok(())
            })),
            render_metrics: None,
        };
        let running = gateway::start(loaded, &options).expect("a gateway");
        Self { running, directory, log_filter }
    }

    async fn get(&self, path: &str) -> Reply {
        ask(self.running.listeners()[0].1, "GET", path).await
    }

    async fn admin(&self, method: &str, path: &str) -> Reply {
        ask(self.running.admin().expect("an admin interface"), method, path).await
    }

    async fn text(&self, path: &str) -> String {
        text(&self.admin("GET", path).await)
    }

    async fn json(&self, path: &str) -> Value {
        let reply = self.admin("GET", path).await;
        assert_eq!(reply.header("content-type"), "application/json");
        serde_json::from_slice(&reply.body).expect("JSON")
    }

    /// Ends the gateway, which writes what its logs still have.
    async fn end(self) -> tempfile::TempDir {
        self.running.shutdown(Duration::from_secs(10)).await;
        self.directory
    }
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> Reply {
    let request = Request::builder().method(method).uri(path).header("host", "edge.test");
    http1(address, request.body(Full::new(Bytes::new())).expect("a request")).await
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

fn read(directory: &tempfile::TempDir, file: &str) -> String {
    std::fs::read_to_string(Path::new(directory.path()).join(file)).expect("a log")
}

#[tokio::test]
async fn readiness_follows_the_operator() {
    let gateway = Gateway::start();
    assert_eq!(gateway.text("/ready").await, "LIVE\n");
    let refused = gateway.admin("GET", "/healthcheck/fail").await;
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(text(&refused), "Method GET not allowed, POST required.");
    assert_eq!(text(&gateway.admin("POST", "/healthcheck/fail").await), "OK\n");
    let draining = gateway.admin("GET", "/ready").await;
    assert_eq!((draining.status, text(&draining).as_str()), (StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n"));
    // It still serves, and asks its clients to leave.
    let reply = gateway.get("/ok").await;
    assert_eq!((reply.status, reply.header("connection")), (StatusCode::OK, "close"));
    gateway.admin("POST", "/healthcheck/ok").await;
    assert_eq!(gateway.admin("GET", "/ready").await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_call_is_logged_as_the_configuration_says() {
    let gateway = Gateway::start();
    gateway.get("/ok").await;
    gateway.get("/dead").await;
    gateway.get("/none").await;
    gateway.admin("GET", "/ready").await;
    let directory = gateway.end().await;
    let log = read(&directory, "text.log");
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("\"GET /ok HTTP/1.1\" 200 - 0 2 "), "{}", lines[0]);
    assert!(lines[1].contains("\"GET /dead HTTP/1.1\" 503 UF 0 "), "{}", lines[1]);
    let errors: Vec<Value> = read(&directory, "errors.log")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let none = json!({ "path": "/none", "code": 404, "flags": "NR", "host": null });
    assert_eq!((errors.len(), &errors[1]), (2, &none));
    assert!(read(&directory, "admin.log").contains("\"GET /ready HTTP/1.1\" 200 - 0 5 "));
}

#[tokio::test]
async fn figures_come_in_three_formats() {
    let gateway = Gateway::start();
    gateway.get("/ok").await;
    let ingress = "/stats?usedonly&filter=^http.ingress.downstream_rq_";
    let stats = gateway.text(ingress).await;
    assert!(stats.contains("http.ingress.downstream_rq_2xx: 1\n"), "{stats}");
    assert!(stats.contains("http.ingress.downstream_rq_time: P0("), "{stats}");
    let stats = gateway.json("/stats?format=json&filter=ingress.downstream_rq_2xx").await;
    assert_eq!(stats, json!({ "stats": [{ "name": "http.ingress.downstream_rq_2xx", "value": 1 }] }));
    let metrics = gateway.text("/stats/prometheus").await;
    let class = "envoy_http_downstream_rq_xx{envoy_response_code_class=\"2\",\
                 envoy_http_conn_manager_prefix=\"ingress\"} 1\n";
    assert!(metrics.contains(class), "{metrics}");
    assert!(metrics.contains("envoy_server_live{} 1\n"), "{metrics}");
    assert_eq!(gateway.admin("GET", "/stats?filter=(").await.status, StatusCode::BAD_REQUEST);
    gateway.admin("POST", "/reset_counters").await;
    assert!(gateway.text("/stats").await.contains("http.ingress.downstream_rq_2xx: 0\n"));
}

/// What dashboards made for Envoy ask for.
const ON_DASHBOARDS: [&str; 22] = [
    "envoy_server_live{} 1",
    "envoy_server_memory_allocated{} ",
    "envoy_server_memory_heap_size{} ",
    "envoy_server_total_connections{} ",
    "envoy_cluster_manager_active_clusters{} 1",
    "envoy_listener_manager_total_listeners_active{} 2",
    "envoy_cluster_membership_healthy{envoy_cluster_name=\"dead\"} 1",
    "envoy_cluster_upstream_cx_active{envoy_cluster_name=\"dead\"} 0",
    "envoy_cluster_upstream_cx_connect_fail{envoy_cluster_name=\"dead\"} 1",
    "envoy_cluster_upstream_cx_rx_bytes_total{envoy_cluster_name=\"dead\"} 0",
    "envoy_cluster_upstream_cx_tx_bytes_total{envoy_cluster_name=\"dead\"} 0",
    "envoy_cluster_upstream_cx_connect_ms_sum{envoy_cluster_name=\"dead\"} 0",
    "envoy_cluster_upstream_cx_length_ms_count{envoy_cluster_name=\"dead\"} 1",
    "envoy_cluster_upstream_rq_pending_active{envoy_cluster_name=\"dead\"} 0",
    "envoy_http_downstream_cx_active{envoy_http_conn_manager_prefix=\"ingress\"} ",
    "envoy_http_downstream_cx_http1_total{envoy_http_conn_manager_prefix=\"ingress\"} 2",
    "envoy_http_downstream_cx_http2_total{envoy_http_conn_manager_prefix=\"ingress\"} 0",
    "envoy_http_downstream_cx_ssl_total{envoy_http_conn_manager_prefix=\"secure\"} 0",
    "envoy_http_downstream_rq_http1_total{envoy_http_conn_manager_prefix=\"ingress\"} 2",
    "envoy_http_downstream_rq_xx{envoy_response_code_class=\"5\",envoy_http_conn_manager_prefix=\"ingress\"} 1",
    "envoy_listener_downstream_cx_total{envoy_listener_address=\"127.0.0.1_0\"} 2",
    "envoy_listener_downstream_cx_active{envoy_listener_address=\"127.0.0.1_0\"} ",
];

#[tokio::test]
async fn figures_on_dashboards_have_envoys_names() {
    let gateway = Gateway::start();
    gateway.get("/ok").await;
    gateway.get("/dead").await;
    let metrics = gateway.text("/stats/prometheus").await;
    for figure in ON_DASHBOARDS {
        assert!(metrics.contains(&format!("\n{figure}")), "{figure}: {metrics}");
    }
}

#[tokio::test]
async fn clusters_and_listeners_are_listed() {
    let gateway = Gateway::start();
    gateway.get("/dead").await;
    let clusters = gateway.text("/clusters").await;
    for line in [
        "dead::observability_name::dead",
        "dead::default_priority::max_retries::3",
        "dead::127.0.0.1:1::cx_connect_fail::1",
        "dead::127.0.0.1:1::health_flags::healthy",
    ] {
        assert!(clusters.lines().any(|shown| shown == line), "{line}: {clusters}");
    }
    let host = &gateway.json("/clusters?format=json").await["cluster_statuses"][0]["host_statuses"][0];
    let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 1 } });
    assert_eq!(host["address"], address);
    assert_eq!(host["health_status"], json!({ "eds_health_status": "HEALTHY" }));
    let (name, port) = gateway.running.listeners()[0].clone();
    assert!(gateway.text("/listeners").await.starts_with(&format!("{name}::{port}\n")));
    let listeners = gateway.json("/listeners?format=json").await;
    assert_eq!(
        listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"],
        port.port()
    );
}

#[tokio::test]
async fn the_configuration_is_shown_without_its_secrets() {
    let gateway = Gateway::start();
    let dump = gateway.json("/config_dump").await;
    let types: Vec<_> =
        dump["configs"].as_array().expect("a list").iter().map(|part| part["@type"].clone()).collect();
    let expected = ["Bootstrap", "Clusters", "Listeners", "ScopedRoutes", "Routes", "Secrets"];
    assert_eq!(types, expected.map(|part| format!("type.googleapis.com/envoy.admin.v3.{part}ConfigDump")));
    assert_eq!(dump["configs"][1]["static_clusters"][0]["cluster"]["name"], "dead");
    let routes: Vec<_> = ["routes", "other"].into_iter().collect();
    let shown = dump["configs"][4]["static_route_configs"].as_array().expect("routes");
    assert_eq!(shown.iter().map(|route| &route["route_config"]["name"]).collect::<Vec<_>>(), routes);
    let listener = &dump["configs"][2]["static_listeners"][1]["listener"];
    let certificate = &listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
        ["tls_certificates"][0];
    assert_eq!(certificate["private_key"], json!({ "filename": "[redacted]" }));
    assert!(certificate["certificate_chain"]["filename"].as_str().expect("a path").ends_with("edge.crt"));
    let cluster = gateway.json("/config_dump?resource=static_clusters").await;
    let kind = "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster";
    assert_eq!(cluster["configs"][0]["@type"], kind);
    assert_eq!(gateway.admin("GET", "/config_dump?resource=x").await.status, StatusCode::NOT_FOUND);
    let certs = gateway.json("/certs").await;
    assert_eq!(
        certs["certificates"][0]["cert_chain"][0]["subject_alt_names"],
        json!([{ "dns": "edge.test" }])
    );
}

#[tokio::test]
async fn levels_are_changed_and_unknown_commands_explained() {
    let gateway = Gateway::start();
    let levels = gateway.admin("POST", "/logging?edge::upstream=debug").await;
    assert_eq!(text(&levels), "active loggers:\n  default: info\n  edge::upstream: debug\n\n");
    assert_eq!(*gateway.log_filter.lock().expect("a lock"), "info,edge::upstream=debug");
    let unknown = gateway.admin("POST", "/logging?level=loud").await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    let unknown = gateway.admin("GET", "/nothing").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(text(&unknown).starts_with("invalid path. admin commands are:\n  /: Admin home page\n"));
    assert!(gateway.text("/").await.contains("<form action=\"quitquitquit\" method=\"post\">"));
    assert_eq!(gateway.json("/server_info").await["state"], "LIVE");
    gateway.admin("POST", "/quitquitquit").await;
    gateway.running.quit_requested().await;
}
