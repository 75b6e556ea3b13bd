//! Takes a request through the compiled configuration, and reads beside it what the file says.

use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::address::Address as AnyAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterConfig;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::route::v3::route::Action as ActionConfig;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    FilterConfig, Route as RouteConfig, RouteConfiguration, VirtualHost as HostConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::google::protobuf::{Any, Duration as DurationValue};
use http::header::LOCATION;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use prost::{Message, Name};

use super::Question;
use super::report::{Endpoint, Explanation, FilterStep, Outcome, Place, TriedRoute};
use crate::arrival;
use crate::body::Source;
use crate::bootstrap::{Lines, Loaded, type_name};
use crate::call::{Call, Connection, TlsFacts};
use crate::clock::Meter;
use crate::downstream::hcm::Hcm;
use crate::downstream::listener::Listener;
use crate::filter;
use crate::gateway::compiled;
use crate::head::Head;
use crate::problem::{Path, Problem};
use crate::route::{Action, Mismatch, Tried};
use crate::value;

/// Whom a request is taken to come from.
const CLIENT: &str = "127.0.0.1:50000";

pub(super) fn find(loaded: &Loaded, question: &Question) -> Result<Explanation, Problem> {
    let table = compiled(loaded)?;
    let (index, listener) = listener(&table.listeners, question)?;
    let resources = loaded.bootstrap.static_resources.clone().unwrap_or_default();
    let config = &resources.listeners[index];
    let address = listener.address;
    let authority = question.authority.clone().unwrap_or_else(|| address.to_string());
    let chain = listener.taken(address, client(), authority_name(&authority));
    let Some((chain, hcm, tls)) = chain else {
        let problem =
            format!("no filter chain of {} takes such a connection: give --authority", listener.name);
        return Err(Path::root().problem(problem));
    };
    let file = File { lines: &loaded.lines };
    let listener_path = format!("static_resources.listeners[{index}]");
    let (chain_path, chain_config) = match chain {
        Some(chain) => (format!("{listener_path}.filter_chains[{chain}]"), config.filter_chains.get(chain)),
        None => (format!("{listener_path}.default_filter_chain"), config.default_filter_chain.as_ref()),
    };
    let manager_path = format!("{chain_path}.filters[0].typed_config");
    let manager = chain_config.and_then(|chain| manager(&chain.filters.first()?.config_type));
    let manager = manager.unwrap_or_default();
    let mut call = call(question, &authority, address, tls)?;
    call.clusters = Some(Arc::clone(&hcm.clusters));
    let arrived = arrival::arrive(&mut call, &hcm);
    let request = line(&call);
    let tried = hcm.routes.tried(&call.request, &call.connection, call.random);
    let routes = match &manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(routes)) => routes.clone(),
        _ => RouteConfiguration::default(),
    };
    let view = View { file: &file, manager: &manager, manager_path, routes: &routes, tried: tried.as_ref() };
    let outcome = match arrived {
        Err(refused) => {
            Outcome::Refused { status: refused.status.as_u16(), details: refused.details.into_owned() }
        }
        Ok(()) => view.outcome(&mut call, &hcm, &resources.clusters),
    };
    Ok(Explanation {
        request,
        listener: file.place(&listener.name, listener_path),
        filter_chain: file.place(chain_config.map_or("", |chain| &chain.name), chain_path),
        virtual_host: view.host().map(|(host, path)| file.place(&host.name, path)),
        tried: view.tried_routes(),
        filters: view.filters(),
        outcome,
    })
}

fn client() -> SocketAddr {
    CLIENT.parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// The name in an authority, as a client would say it in its handshake.
fn authority_name(authority: &str) -> &str {
    authority.rsplit_once(':').map_or(authority, |(name, _)| name)
}

fn listener<'l>(listeners: &'l [Listener], question: &Question) -> Result<(usize, &'l Listener), Problem> {
    let mut all = listeners.iter().enumerate();
    let found = match &question.listener {
        Some(name) => all.find(|(_, listener)| listener.name == *name),
        None => all.next(),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = listeners.iter().map(|listener| listener.name.as_str()).collect();
        let at = Path::root().field("static_resources").field("listeners").to_string();
        let message = format!("there is no such listener; there are: {}", names.join(", "));
        Problem { path: at, line: None, message }
    })
}

fn manager(
    config: &Option<envoy_types::pb::envoy::config::listener::v3::filter::ConfigType>,
) -> Option<HttpConnectionManager> {
    use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
    let Some(ConfigType::TypedConfig(any)) = config else { return None };
    HttpConnectionManager::decode(any.value.as_slice()).ok()
}

fn call(question: &Question, authority: &str, local: SocketAddr, tls: bool) -> Result<Call, Problem> {
    let wrong = |what: &str| Path::root().problem(format!("{what} cannot be sent over HTTP"));
    let mut headers = HeaderMap::new();
    for (name, value) in &question.headers {
        let name: HeaderName = name.parse().map_err(|_| wrong(name))?;
        headers.append(name, HeaderValue::from_str(value).map_err(|_| wrong(value))?);
    }
    let request = Head {
        method: question.method.parse::<Method>().map_err(|_| wrong(&question.method))?,
        scheme: if tls { Scheme::HTTPS } else { Scheme::HTTP },
        authority: HeaderValue::from_str(authority).map_err(|_| wrong(authority))?,
        path: question.path.parse().map_err(|_| wrong(&question.path))?,
        headers,
    };
    let tls = tls.then(TlsFacts::default);
    let connection = Connection { id: 0, chain: "".into(), remote: client(), local, tls };
    let meter = Arc::new(Meter::new(true));
    Ok(Call::new(request, Source::Empty, meter, Version::HTTP_2, Arc::new(connection)))
}

/// A request's line.
fn line(call: &Call) -> String {
    format!("{} {} {}", call.request.method, call.request.host(), call.request.path)
}

/// The file that everything stands in.
struct File<'a> {
    lines: &'a Lines,
}

impl File<'_> {
    fn place(&self, name: &str, path: String) -> Place {
        let problem = self.lines.locate(Problem { path, line: None, message: String::new() });
        Place { name: name.to_owned(), path: problem.path, line: problem.line.unwrap_or_default() }
    }
}

/// What the file says of the routes that were tried.
struct View<'a> {
    file: &'a File<'a>,
    manager: &'a HttpConnectionManager,
    manager_path: String,
    routes: &'a RouteConfiguration,
    tried: Option<&'a Tried>,
}

impl View<'_> {
    fn host(&self) -> Option<(&HostConfig, String)> {
        let index = self.tried?.host;
        let path = format!("{}.route_config.virtual_hosts[{index}]", self.manager_path);
        Some((self.routes.virtual_hosts.get(index)?, path))
    }

    /// The route that takes the request.
    fn route(&self) -> Option<(&RouteConfig, String)> {
        let (host, path) = self.host()?;
        let index = self.tried?.mismatches.iter().position(Option::is_none)?;
        Some((host.routes.get(index)?, format!("{path}.routes[{index}]")))
    }

    fn tried_routes(&self) -> Vec<TriedRoute> {
        let (Some((host, path)), Some(tried)) = (self.host(), self.tried) else { return Vec::new() };
        let routes = host.routes.iter().zip(&tried.mismatches).enumerate();
        routes
            .map(|(index, (route, mismatch))| TriedRoute {
                place: self.file.place(&route.name, format!("{path}.routes[{index}]")),
                wants: wants(route),
                mismatch: mismatch.map(|mismatch| told(mismatch, route)),
            })
            .collect()
    }

    fn filters(&self) -> Vec<FilterStep> {
        let filters = self.manager.http_filters.iter().enumerate();
        filters
            .map(|(index, filter)| {
                let path = format!("{}.http_filters[{index}]", self.manager_path);
                let kind = filter::config_of(filter).map(|any| type_name(&any.type_url)).unwrap_or_default();
                let own = self.overrides(&filter.name);
                let disabled = own.as_ref().and_then(|(_, any)| disabled(any));
                FilterStep {
                    place: self.file.place(&filter.name, path),
                    kind: kind.to_owned(),
                    enabled: !disabled.unwrap_or(filter.disabled && own.is_none()),
                    overridden_by: own.map(|(place, _)| place),
                }
            })
            .collect()
    }

    /// The nearest level that says something of a filter.
    fn overrides(&self, name: &str) -> Option<(Place, Any)> {
        let route = self.route();
        let of_route = route.as_ref().map(|(route, path)| (&route.typed_per_filter_config, path.clone()));
        let of_host = self.host().map(|(host, path)| (&host.typed_per_filter_config, path));
        let of_table = (&self.routes.typed_per_filter_config, format!("{}.route_config", self.manager_path));
        let levels =
            [("the route", of_route), ("the virtual host", of_host), ("the route table", Some(of_table))];
        levels.into_iter().find_map(|(who, level)| {
            let (filters, path) = level?;
            let any = filters.get(name)?;
            let path = format!("{path}.typed_per_filter_config[{name:?}]");
            Some((self.file.place(who, path), any.clone()))
        })
    }

    fn outcome(&self, call: &mut Call, hcm: &Hcm, clusters: &[ClusterConfig]) -> Outcome {
        let Some(route) = call.route.clone() else {
            let details = match self.tried {
                Some(_) => "no route of the virtual host takes it (route_not_found)",
                None => "no virtual host has its authority (route_not_found)",
            };
            return Outcome::Refused { status: 404, details: details.to_owned() };
        };
        let forward = match &route.action {
            Action::Forward(forward) => forward,
            Action::Redirect(_) | Action::Direct(_) => {
                let reply = route.answer(call);
                let status = reply.status.as_u16();
                return match reply.headers.get(LOCATION).and_then(|location| location.to_str().ok()) {
                    Some(location) => Outcome::Redirect { status, location: location.to_owned() },
                    None => Outcome::DirectResponse { status },
                };
            }
        };
        let name = forward.cluster(call).map(|name| name.into_owned()).unwrap_or_default();
        let index = clusters.iter().position(|cluster| cluster.name == name);
        let Some((index, cluster)) = index.and_then(|index| Some((index, clusters.get(index)?))) else {
            let status = forward.cluster_not_found.as_u16();
            return Outcome::Refused {
                status,
                details: format!("there is no cluster {name:?} (cluster_not_found)"),
            };
        };
        route.prepare_request(call, forward);
        let http2 = hcm.clusters.get(&name).is_some_and(|cluster| cluster.speaks_http2());
        Outcome::Forward {
            cluster: self.file.place(&name, format!("static_resources.clusters[{index}]")),
            about: about(cluster, http2),
            endpoints: endpoints(cluster),
            sent: line(call),
            policies: self.policies(cluster),
        }
    }

    fn policies(&self, cluster: &ClusterConfig) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let route = self.route();
        let Some((RouteConfig { action: Some(ActionConfig::Route(action)), .. }, _)) = &route else {
            return all;
        };
        let mut tell = |name: &str, value: String| all.push((name.to_owned(), value));
        tell("timeout", action.timeout.as_ref().map_or("15s (default)".to_owned(), seconds));
        if let Some(idle) = &action.idle_timeout {
            tell("idle_timeout", seconds(idle));
        }
        let stream = action.max_stream_duration.as_ref();
        if let Some(max) = stream.and_then(|stream| stream.grpc_timeout_header_max.as_ref()) {
            tell("grpc_timeout_header_max", seconds(max));
        }
        let of_host = self.host().and_then(|(host, _)| host.retry_policy.as_ref());
        if let Some(retry) = action.retry_policy.as_ref().or(of_host) {
            let per_try = retry.per_try_timeout.as_ref();
            let per_try = per_try.map(|limit| format!(", {} each", seconds(limit))).unwrap_or_default();
            let most = value::number(retry.num_retries.as_ref(), 1);
            tell("retries", format!("{most} on {}{per_try}", retry.retry_on));
        }
        if let Some(connect) = &cluster.connect_timeout {
            tell("connect_timeout", seconds(connect));
        }
        if !cluster.health_checks.is_empty() {
            tell("health_checks", cluster.health_checks.len().to_string());
        }
        if cluster.outlier_detection.is_some() {
            tell("outlier_detection", "on".to_owned());
        }
        all
    }
}

/// What a route wants of a request's path.
fn wants(route: &RouteConfig) -> String {
    let path = route.r#match.as_ref().and_then(|matching| matching.path_specifier.as_ref());
    match path {
        Some(PathSpecifier::Prefix(prefix)) => format!("prefix {prefix}"),
        Some(PathSpecifier::Path(path)) => format!("path {path}"),
        Some(PathSpecifier::SafeRegex(regex)) => format!("regex {}", regex.regex),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => format!("path_separated_prefix {prefix}"),
        _ => "any path".to_owned(),
    }
}

fn told(mismatch: Mismatch, route: &RouteConfig) -> String {
    match mismatch {
        Mismatch::Path => "the path does not match".to_owned(),
        Mismatch::Fraction => "chance decides, and not for it this time".to_owned(),
        Mismatch::Grpc => "it is not gRPC".to_owned(),
        Mismatch::Header(index) => {
            let header = route.r#match.as_ref().and_then(|matching| matching.headers.get(index));
            format!("the header {} does not match", header.map_or("", |header| &header.name))
        }
        Mismatch::Query => "the query does not match".to_owned(),
        Mismatch::Cookie => "a cookie does not match".to_owned(),
        Mismatch::Certificate => "the client's certificate does not match".to_owned(),
    }
}

/// Whether an override turns its filter on or off.
fn disabled(any: &Any) -> Option<bool> {
    if type_name(&any.type_url) != FilterConfig::full_name() {
        return Some(false);
    }
    FilterConfig::decode(any.value.as_slice()).ok().map(|config| config.disabled)
}

fn about(cluster: &ClusterConfig, http2: bool) -> String {
    let tls = if cluster.transport_socket.is_some() { " over TLS" } else { "" };
    let protocol = if http2 { "HTTP/2" } else { "HTTP/1.1" };
    let discovery = match cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(number)) => DiscoveryType::try_from(number).unwrap_or_default(),
        _ => DiscoveryType::Static,
    };
    format!("{}, {}, {protocol}{tls}", discovery.as_str_name(), cluster.lb_policy().as_str_name())
}

fn endpoints(cluster: &ClusterConfig) -> Vec<Endpoint> {
    let localities = cluster.load_assignment.iter().flat_map(|assignment| &assignment.endpoints);
    let all = localities.flat_map(|locality| &locality.lb_endpoints).filter_map(|endpoint| {
        let Some(HostIdentifier::Endpoint(host)) = &endpoint.host_identifier else { return None };
        let address = match host.address.as_ref()?.address.as_ref()? {
            AnyAddress::SocketAddress(socket) => match socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => format!("{}:{port}", socket.address),
                _ => socket.address.clone(),
            },
            AnyAddress::Pipe(pipe) => pipe.path.clone(),
            AnyAddress::EnvoyInternalAddress(_) => return None,
        };
        Some(Endpoint { address, weight: value::number(endpoint.load_balancing_weight.as_ref(), 1) })
    });
    all.collect()
}

fn seconds(duration: &DurationValue) -> String {
    format!("{}s", value::duration(duration).as_secs_f64())
}
