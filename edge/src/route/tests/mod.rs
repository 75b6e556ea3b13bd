//! Routes as configuration files write them. What is expected was observed on Envoy 1.40.

mod choice;
mod message;
mod policy;
mod refusal;

use std::fmt;
use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Any;
use hcm::HttpConnectionManager;
use hcm::http_connection_manager::RouteSpecifier;

use super::*;
use crate::call::Call;
use crate::consumers::Rosters;
use crate::filter::Context;
use crate::stats::Stats;
use crate::upstream::Clusters;

/// Remembers where its configuration comes from.
#[derive(Clone)]
struct Tagged(String);

impl fmt::Debug for Tagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Filter for Tagged {
    fn on_route(
        &self,
        config: &Any,
        at: &Path<'_>,
        _context: &Context<'_>,
    ) -> Result<Arc<dyn Filter>, Problem> {
        let level = at.to_string();
        let name = config.type_url.rsplit('.').next().unwrap_or_default();
        Ok(Arc::new(Self(format!("{name} of {level}"))))
    }
}

/// Reads a route configuration in a whole file, as users do.
fn read(routes: &str) -> RouteConfiguration {
    let routes = routes.trim_end().replace('\n', "\n          ");
    let file = format!(
        r#"
static_resources:
  listeners:
  - name: web
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          route_config:
            name: test
          {routes}
          http_filters:
          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
"#
    );
    let loaded = crate::bootstrap::load(&file).unwrap_or_else(|problems| panic!("{problems:#?}\n{file}"));
    let resources = loaded.bootstrap.static_resources.unwrap();
    routes_of(&resources.listeners[0])
}

fn routes_of(listener: &Listener) -> RouteConfiguration {
    let config = listener.filter_chains[0].filters[0].config_type.clone();
    let Some(filter::ConfigType::TypedConfig(any)) = config else { panic!("no typed_config") };
    let manager: HttpConnectionManager = crate::bootstrap::unpack(&any, &Path::root()).unwrap();
    match manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(config)) => config,
        other => panic!("{other:?}"),
    }
}

/// Clusters are not part of these tests.
fn compile(routes: &str) -> Result<Table, Problem> {
    let mut config = read(routes);
    config.validate_clusters.get_or_insert_default();
    compile_config(&config)
}

fn compile_config(config: &RouteConfiguration) -> Result<Table, Problem> {
    let (clusters, stats) = (Arc::new(Clusters::default()), Stats::default().scope("http.test"));
    let rosters = Rosters::default();
    let context = Context { clusters: &clusters, stats: &stats, rosters: &rosters, node_cluster: "edge" };
    let link = |name: &str, type_name: &str, disabled| Link {
        name: name.to_owned(),
        type_url: format!("type.googleapis.com/{type_name}"),
        filter: Arc::new(Tagged(format!("{name} of the listener"))),
        disabled,
    };
    let chain = [
        link("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors", false),
        link("limit", "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", false),
        link("off", "envoy.extensions.filters.http.fault.v3.HTTPFault", true),
    ];
    Table::compile(config, &chain, &Path::root(), &context)
}

/// The call with the route that it takes.
fn routed(table: &Table, mut call: Call) -> Call {
    call.route = table.find(&call.request, &call.connection, call.random);
    call
}

fn name_of(table: &Table, call: Call) -> Option<String> {
    routed(table, call).route.map(|route| route.name.clone())
}
