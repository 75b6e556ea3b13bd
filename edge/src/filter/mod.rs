//! HTTP filters: one file per decision about a call, looked up by the type of their configuration.

mod attempt;
mod compressor;
mod consumers;
mod cors;
mod ext_authz;
mod fault;
mod grpc_stats;
pub(crate) mod grpc_web;
mod header_mutation;
mod health_check;
mod jwt_authn;
mod local_ratelimit;
mod message_limit;
mod ratelimit;
mod rbac;
mod retry;
pub(crate) mod router;

use std::fmt;
use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use envoy_types::pb::google::protobuf::Any;
use futures::future::BoxFuture;

use crate::bootstrap::type_name;
use crate::call::Call;
use crate::consumers::Rosters;
use crate::problem::{Path, Problem};
use crate::reply::{LocalReply, Reply};
use crate::stats::Scope;
use crate::upstream::Clusters;

/// What a filter says of a request.
pub(crate) enum Flow<'a> {
    /// Nothing against it.
    Continue,
    /// The edge answers itself; later filters do not see the request.
    Reply(LocalReply),
    /// Somebody else has to be asked first.
    Wait(BoxFuture<'a, Result<(), LocalReply>>),
}

/// A filter with its configuration; on a route that overrides it, another one stands in its place.
pub(crate) trait Filter: fmt::Debug + Send + Sync {
    /// Sees the request on its way up, in the order of the chain.
    fn request<'a>(&'a self, _call: &'a mut Call) -> Flow<'a> {
        Flow::Continue
    }

    /// Sees the reply on its way down, in the reverse order, whoever made it.
    fn response(&self, _call: &mut Call, _reply: &mut Reply) {}

    /// Sees the call once it has ended, before its log lines are written.
    fn ended(&self, _call: &mut Call) {}

    /// The filter that a route's `typed_per_filter_config` puts in the place of this one: the one that the levels
    /// above the route have.
    fn on_route(
        &self,
        _config: &Any,
        at: &Path<'_>,
        _context: &Context<'_>,
    ) -> Result<Arc<dyn Filter>, Problem> {
        Err(at.problem("this filter takes no configuration on a route"))
    }
}

/// What filters may need when they are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) clusters: &'a Arc<Clusters>,
    /// `http.<stat_prefix>`
    pub(crate) stats: &'a Scope,
    pub(crate) rosters: &'a Rosters,
    /// The cluster that this edge itself belongs to.
    pub(crate) node_cluster: &'a str,
}

/// Makes a filter of its configuration.
pub(crate) type Factory = fn(&Any, &Path<'_>, &Context<'_>) -> Result<Arc<dyn Filter>, Problem>;

/// Every filter, by the type of its configuration.
const FACTORIES: &[(&str, Factory)] = &[
    ("envoy.extensions.filters.http.compressor.v3.Compressor", compressor::make),
    ("envoy.extensions.filters.http.cors.v3.Cors", cors::make),
    ("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", ext_authz::make),
    ("envoy.extensions.filters.http.fault.v3.HTTPFault", fault::make),
    ("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", grpc_stats::make),
    ("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", grpc_web::make),
    ("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation", header_mutation::make),
    ("envoy.extensions.filters.http.health_check.v3.HealthCheck", health_check::make),
    ("envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", local_ratelimit::make),
    ("envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", jwt_authn::make),
    ("envoy.extensions.filters.http.ratelimit.v3.RateLimit", ratelimit::make),
    ("envoy.extensions.filters.http.rbac.v3.RBAC", rbac::make),
    ("omnimesh.edge.v1.Consumers", consumers::make),
    ("omnimesh.edge.v1.MessageLimit", message_limit::make),
];

/// The configuration of a filter in a chain.
pub(crate) fn config_of(filter: &HttpFilter) -> Option<&Any> {
    match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(any)) => Some(any),
        _ => None,
    }
}

/// Whether a configuration is the router's: it stands in the chain, but the proxy is its code.
pub(crate) fn is_router(config: &Any) -> bool {
    config.type_url.ends_with("/envoy.extensions.filters.http.router.v3.Router")
}

/// Makes the filter of a configuration; none where an optional one is not known.
pub(crate) fn make(
    config: &Any,
    at: &Path<'_>,
    context: &Context<'_>,
    optional: bool,
) -> Result<Option<Arc<dyn Filter>>, Problem> {
    let name = type_name(&config.type_url);
    match FACTORIES.iter().find(|(known, _)| *known == name) {
        Some((_, factory)) => factory(config, at, context).map(Some),
        None if optional => Ok(None),
        None => Err(at.problem(format!("the filter {name} is not supported"))),
    }
}
