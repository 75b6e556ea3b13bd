//! One file per decision about a request, in the order in which `proxy` asks them.

pub(crate) mod access_log;
pub(crate) mod api_key;
pub(crate) mod cors;
pub(crate) mod deadline;
pub(crate) mod grpc_web;
pub(crate) mod router;
