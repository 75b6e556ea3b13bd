//! A gateway in this process, started from a bootstrap as users write it.

use std::net::SocketAddr;
use std::time::Duration;

use edge::bootstrap::{self, Loaded};
use edge::gateway::{self, Options, Running};
use serde_json::{Value, json};

use crate::backend::Backend;

pub(crate) struct Edge {
    pub(crate) running: Running,
}

/// What a test changes of the bootstrap.
#[derive(Clone, Default)]
pub(crate) struct Config {
    pub(crate) hcm: Value,
    pub(crate) chain: Value,
    pub(crate) listeners: Vec<(&'static str, SocketAddr)>,
    /// Filters before the router.
    pub(crate) filters: Vec<Value>,
    /// 60 s where it is not set.
    pub(crate) drain_time: Option<Duration>,
}

impl Edge {
    pub(crate) async fn start(backend: &Backend, config: &Config) -> Self {
        let options = Options {
            concurrency: 2,
            drain_time: config.drain_time.unwrap_or(Duration::from_secs(60)),
            set_log_filter: None,
            render_metrics: None,
        };
        let running = gateway::start(config.load(backend), &options).expect("it starts");
        Self { running }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener("web").expect("listener")
    }

    pub(crate) fn listener(&self, name: &str) -> Option<SocketAddr> {
        let listeners = self.running.listeners();
        listeners.into_iter().find(|(known, _)| known == name).map(|(_, address)| address)
    }

    /// One figure of `/stats`.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let admin = self.running.admin().expect("admin");
        let text = crate::honest::get(admin, "/stats").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    }
}

impl Config {
    pub(crate) fn hcm(hcm: Value) -> Self {
        Self { hcm, ..Self::default() }
    }

    pub(crate) fn load(&self, backend: &Backend) -> Loaded {
        bootstrap::load(&self.bootstrap(backend).to_string()).expect("a valid bootstrap")
    }

    fn bootstrap(&self, backend: &Backend) -> Value {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = if self.listeners.is_empty() { &vec![("web", any)] } else { &self.listeners };
        let listeners: Vec<_> = listeners.iter().map(|(name, at)| self.listener(name, *at)).collect();
        json!({
            "admin": {"address": socket(any)},
            "static_resources": {"listeners": listeners, "clusters": [{
                "name": "backend",
                "type": "STATIC",
                "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": socket(backend.address)}},
                ]}]},
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    },
                },
            }]},
        })
    }

    fn listener(&self, name: &str, at: SocketAddr) -> Value {
        let filter = |name: &str| {
            json!({"name": name, "typed_config": {
                "@type": format!("type.googleapis.com/envoy.extensions.filters.http.{name}"),
            }})
        };
        let mut filters = self.filters.clone();
        filters.extend([filter("grpc_web.v3.GrpcWeb"), filter("router.v3.Router")]);
        let manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        let mut hcm = json!({
            "@type": format!("type.googleapis.com/{manager}"),
            "stat_prefix": "web",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}},
            ]}]},
            "http_filters": filters,
        });
        merge(&mut hcm, &self.hcm);
        let mut chain = json!({"filters": [{"name": "http", "typed_config": hcm}]});
        merge(&mut chain, &self.chain);
        json!({"name": name, "address": socket(at), "filter_chains": [chain]})
    }
}

fn socket(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

fn merge(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        into.extend(from.clone());
    }
}
