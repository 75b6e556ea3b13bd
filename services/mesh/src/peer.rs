//! What a service knows of a failed call to a peer. There is no way from a callee's status to our own answer
//! but through a service's own error, so that nothing of a callee leaks.

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt as _;

use crate::status::Code;

/// A call to a peer that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{service} answered {code:?} {reason}: {message}")]
pub struct PeerError {
    /// The service that was called.
    pub service: &'static str,
    /// Its code.
    pub code: Code,
    /// Its ErrorInfo reason; empty if it sent none.
    pub reason: String,
    /// Its message: for logs, not for clients.
    pub message: String,
    /// When it says a retry makes sense.
    pub retry_after: Option<Duration>,
}

impl PeerError {
    /// Reads a callee's status.
    pub fn new(service: &'static str, status: Status) -> Self {
        let details = status.get_error_details();
        Self {
            service,
            code: code_of(&status),
            reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }

    /// True if the peer says that what was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    /// True if the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::Aborted | Code::ResourceExhausted)
    }

    /// The code to answer our own caller with, where the failure means nothing more specific to it.
    pub fn code_for_caller(&self) -> Code {
        match self.code {
            Code::Unavailable | Code::ResourceExhausted | Code::Aborted => Code::Unavailable,
            Code::DeadlineExceeded => Code::DeadlineExceeded,
            _ => Code::Internal,
        }
    }
}

fn code_of(status: &Status) -> Code {
    match status.code() {
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::Aborted => Code::Aborted,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::OutOfRange => Code::OutOfRange,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::Unavailable => Code::Unavailable,
        // Our own client's timer ends a call as "cancelled".
        tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => Code::DeadlineExceeded,
        // A connection that broke under the call has a source, which a status sent by a peer never has.
        tonic::Code::Unknown if std::error::Error::source(status).is_some() => Code::Unavailable,
        tonic::Code::Ok | tonic::Code::Unknown | tonic::Code::DataLoss | tonic::Code::Internal => {
            Code::Internal
        }
    }
}
