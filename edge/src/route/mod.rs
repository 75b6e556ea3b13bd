//! Which route a request takes: virtual hosts by domain, routes in order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use http::StatusCode;

use crate::call::Connection;
use crate::filter::{Context, Filter};
use crate::head::Head;
use crate::problem::{Path, Problem};

/// The routes of one listener, ready to be asked.
#[derive(Debug)]
pub(crate) struct Table {}

/// The route that a request takes.
#[derive(Debug)]
pub(crate) struct Matched {
    pub(crate) name: String,
    pub(crate) virtual_host: Arc<str>,
    pub(crate) action: Action,
    /// The chain as this route overrides it.
    pub(crate) filters: Arc<[Arc<dyn Filter>]>,
}

/// What is done with a request.
#[derive(Debug)]
pub(crate) enum Action {
    Forward(Box<Forward>),
    Redirect,
    Direct { status: StatusCode, body: Bytes },
}

/// How a request is forwarded.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) timeout: Option<Duration>,
}

impl Table {
    pub(crate) fn compile(
        _config: &RouteConfiguration,
        _filters: &[(String, Arc<dyn Filter>)],
        _at: &Path<'_>,
        _context: &Context<'_>,
    ) -> Result<Self, Problem> {
        Ok(Self {})
    }

    pub(crate) fn find(
        &self,
        _request: &Head,
        _connection: &Connection,
        _random: u64,
    ) -> Option<Arc<Matched>> {
        None
    }
}
