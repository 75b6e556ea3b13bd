//! HTTP filters: one file per decision about a call, looked up by the type of their configuration.

use std::fmt;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use futures::future::BoxFuture;

use crate::call::Call;
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

    /// Sees the call once it has ended.
    fn ended(&self, _call: &Call) {}

    /// The filter that a route's `typed_per_filter_config` puts in this one's place.
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
}

/// Makes a filter of its configuration.
pub(crate) type Factory = fn(&Any, &Path<'_>, &Context<'_>) -> Result<Arc<dyn Filter>, Problem>;

/// Every filter, by the type URL of its configuration.
pub(crate) const FACTORIES: &[(&str, Factory)] = &[];
