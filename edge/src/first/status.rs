//! The gRPC status that the edge gives a call which no backend answered.

use std::borrow::Cow;

use http::StatusCode;

use crate::reply::encode_message;

/// The gRPC codes that the edge itself can decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Cancelled = 1,
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    /// The HTTP status under which a gRPC-Web client sees this code.
    fn http(self) -> StatusCode {
        match self {
            Self::Cancelled => StatusCode::BAD_GATEWAY,
            Self::Unknown | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Unimplemented => StatusCode::NOT_FOUND,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
        }
    }
}

/// A call that the edge ends itself.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) code: Code,
    pub(crate) http: StatusCode,
    pub(crate) message: Cow<'static, str>,
}

impl Rejection {
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, http: code.http(), message: message.into() }
    }

    /// Replaces the HTTP status where the request itself, not the call, is at fault.
    pub(crate) fn with_http(self, http: StatusCode) -> Self {
        Self { http, ..self }
    }

    pub(crate) fn deadline_exceeded() -> Self {
        Self::new(Code::DeadlineExceeded, "deadline exceeded at the edge")
    }

    /// A request that no gRPC client would send.
    pub(crate) fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Internal, message).with_http(StatusCode::BAD_REQUEST)
    }

    /// A backend answered with HTTP, not gRPC; the codes are those of the gRPC specification.
    pub(crate) fn from_http(status: StatusCode) -> Self {
        let code = match status.as_u16() {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502..=504 => Code::Unavailable,
            _ => Code::Unknown,
        };
        Self::new(code, format!("the service answered HTTP {} without a gRPC status", status.as_u16()))
    }

    /// A backend reset its stream; the codes are those of the gRPC specification.
    pub(crate) fn from_reset(error: &pingora::Error) -> Self {
        let reason = error.root_cause().downcast_ref::<h2::Error>().and_then(h2::Error::reason);
        let code = match reason {
            Some(h2::Reason::CANCEL) => Code::Cancelled,
            Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
            Some(h2::Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
            Some(h2::Reason::NO_ERROR | h2::Reason::REFUSED_STREAM) | None => Code::Unavailable,
            Some(_) => Code::Internal,
        };
        Self::new(code, "the service broke off the call")
    }

    /// The message as `grpc-message` carries it: printable ASCII, the rest percent-encoded.
    pub(crate) fn encoded_message(&self) -> String {
        encode_message(&self.message)
    }
}

/// How a call ended early: with a status to tell, or with nobody left to tell it to.
#[derive(Debug)]
pub(crate) enum Failure {
    Rejected(Rejection),
    ClientGone,
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}
