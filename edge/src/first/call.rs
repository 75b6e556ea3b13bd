//! What is known about one call while it passes the phases.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use uuid::Uuid;

/// What the client speaks; backends always get gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    GrpcWeb { text_request: bool, text_reply: bool },
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::GrpcWeb { .. } => "grpc-web",
        }
    }
}

/// Who calls: the holder of an API key, as the headers that services believe.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) id: HeaderValue,
    pub(crate) permissions: HeaderValue,
}

/// How a call ended, as its client saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Zero when no reply was begun.
    pub(crate) http_status: u16,
    /// None for a reply that is not gRPC at all, such as a CORS preflight.
    pub(crate) grpc_status: Option<i32>,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: HeaderValue,
    pub(crate) started: Instant,
    pub(crate) method: http::Method,
    pub(crate) path: Arc<str>,
    pub(crate) peer: Option<SocketAddr>,
    /// The page that called, if its origin may.
    pub(crate) allowed_origin: Option<HeaderValue>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) consumer: Option<Consumer>,
}

impl Call {
    pub(crate) fn new(session: &ServerSession) -> Self {
        let request: &RequestHeader = session.req_header();
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        let id = Uuid::now_v7().hyphenated().encode_lower(&mut id);
        Self {
            id: HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("-")),
            started: Instant::now(),
            method: request.method.clone(),
            path: request.uri.path().into(),
            peer: session.client_addr().and_then(|addr| addr.as_inet()).copied(),
            allowed_origin: None,
            protocol: None,
            deadline: None,
            consumer: None,
        }
    }

    /// The service part of `/package.Service/Method`, or nothing for any other path.
    pub(crate) fn service(&self) -> Option<&str> {
        let (service, method) = self.path.strip_prefix('/')?.split_once('/')?;
        (!service.is_empty() && !method.is_empty() && !method.contains('/')).then_some(service)
    }

    /// What is left until the deadline; `None` is without end.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}
