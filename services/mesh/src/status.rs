//! The only place that builds a [`tonic::Status`]: what a client learns of an error, and what it does not.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};
use types::Violation;
use uuid::Uuid;

/// The gRPC codes that services answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is wrong whatever the state of the system.
    InvalidArgument,
    /// What was asked for does not exist.
    NotFound,
    /// What was to be created exists.
    AlreadyExists,
    /// The system is not in the state that the request needs.
    FailedPrecondition,
    /// Somebody else was faster: read again, then retry.
    Aborted,
    /// The caller is known and may not.
    PermissionDenied,
    /// The caller is not known.
    Unauthenticated,
    /// A quota is used up.
    ResourceExhausted,
    /// The request goes past the end of what there is.
    OutOfRange,
    /// There is no such method.
    Unimplemented,
    /// The service cannot answer now; retry.
    Unavailable,
    /// The caller's time is up.
    DeadlineExceeded,
    /// A defect of ours.
    Internal,
}

impl Code {
    /// True where the error is the system's own, so that its text is for operators only.
    fn is_internal(self) -> bool {
        matches!(self, Code::Internal | Code::Unavailable)
    }
}

impl From<Code> for tonic::Code {
    fn from(code: Code) -> Self {
        match code {
            Code::InvalidArgument => tonic::Code::InvalidArgument,
            Code::NotFound => tonic::Code::NotFound,
            Code::AlreadyExists => tonic::Code::AlreadyExists,
            Code::FailedPrecondition => tonic::Code::FailedPrecondition,
            Code::Aborted => tonic::Code::Aborted,
            Code::PermissionDenied => tonic::Code::PermissionDenied,
            Code::Unauthenticated => tonic::Code::Unauthenticated,
            Code::ResourceExhausted => tonic::Code::ResourceExhausted,
            Code::OutOfRange => tonic::Code::OutOfRange,
            Code::Unimplemented => tonic::Code::Unimplemented,
            Code::Unavailable => tonic::Code::Unavailable,
            Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
            Code::Internal => tonic::Code::Internal,
        }
    }
}

/// An error that a service answers with. Its `Display` is what the client reads, unless the code is
/// [`Code::Internal`] or [`Code::Unavailable`]: then it is logged and the client gets a fixed text.
pub trait ServiceError: Error {
    /// The gRPC code.
    fn code(&self) -> Code;
    /// What happened, for programs: `UPPER_SNAKE`, stable, unique within the domain.
    fn reason(&self) -> &'static str;
    /// The fields at fault, or with [`Code::FailedPrecondition`] the conditions that do not hold.
    fn violations(&self) -> &[Violation] {
        &[]
    }
    /// More for programs. Never anything of a person.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// When a retry makes sense.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// Turns a service's error into its answer, with ErrorInfo (domain `<domain>.omnimesh`), BadRequest or
/// PreconditionFailure, and RetryInfo. An internal error is logged once, under an id that the client gets.
pub fn from<E: ServiceError>(domain: &'static str, error: E) -> Status {
    let code = error.code();
    if !code.is_internal() {
        return build(domain, &error, error.to_string(), error.metadata());
    }
    let id = report(domain, &error);
    let message = match code {
        Code::Unavailable => format!("the service cannot answer now, try again (error id {id})"),
        _ => format!("internal error (error id {id})"),
    };
    build(domain, &error, message, vec![("error_id", id)])
}

/// Logs an internal error with its causes and returns the id it is logged under.
fn report(domain: &str, error: &dyn ServiceError) -> String {
    let id = Uuid::new_v4().to_string();
    let mut causes = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(causes, ": {cause}").ok();
        source = cause.source();
    }
    tracing::error!(error.id = %id, %domain, reason = error.reason(), error = %causes, "call failed");
    id
}

fn build<E: ServiceError>(
    domain: &str,
    error: &E,
    message: String,
    metadata: Vec<(&'static str, String)>,
) -> Status {
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let mut details = ErrorDetails::with_error_info(error.reason(), format!("{domain}.omnimesh"), metadata);
    for violation in error.violations() {
        if error.code() == Code::FailedPrecondition {
            details.add_precondition_failure_violation(
                error.reason(),
                &violation.field,
                &violation.description,
            );
        } else {
            details.add_bad_request_violation(&violation.field, &violation.description);
        }
    }
    if let Some(delay) = error.retry_after() {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(error.code().into(), message, details)
}

/// Why the server stack itself answers a call instead of the service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no method {0}")]
    UnknownMethod(String),
    #[error(
        "the call carries no identity; call through the edge with an API key, or with a workload certificate"
    )]
    Unauthenticated,
    #[error("{caller} lacks the permission {permission}")]
    PermissionDenied { caller: String, permission: String },
    #[error("the server is busy, try again")]
    Overloaded,
    #[error("the call did not finish in its time")]
    DeadlineExceeded,
    #[error("the server is stopping, resume the stream elsewhere")]
    Stopping,
    #[error("panic: {0}")]
    Panicked(String),
}

impl ServiceError for Refusal {
    fn code(&self) -> Code {
        match self {
            Refusal::UnknownMethod(_) => Code::Unimplemented,
            Refusal::Unauthenticated => Code::Unauthenticated,
            Refusal::PermissionDenied { .. } => Code::PermissionDenied,
            Refusal::Overloaded | Refusal::Stopping => Code::Unavailable,
            Refusal::DeadlineExceeded => Code::DeadlineExceeded,
            Refusal::Panicked(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Refusal::UnknownMethod(_) => "METHOD_UNKNOWN",
            Refusal::Unauthenticated => "UNAUTHENTICATED",
            Refusal::PermissionDenied { .. } => "PERMISSION_DENIED",
            Refusal::Overloaded => "SERVER_OVERLOADED",
            Refusal::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Refusal::Stopping => "SERVER_STOPPING",
            Refusal::Panicked(_) => "INTERNAL",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Refusal::PermissionDenied { permission, .. } => vec![("permission", permission.clone())],
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::Overloaded => Some(Duration::from_millis(200)),
            Refusal::Stopping => Some(Duration::ZERO),
            _ => None,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Panicked(_) => from("mesh", refusal),
            // The other texts are written for clients. Above all, an overloaded server must not be made to
            // log every call that it turns away.
            _ => build("mesh", &refusal, refusal.to_string(), refusal.metadata()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failure {
        text: &'static str,
        code: Code,
        violations: Vec<Violation>,
    }

    impl ServiceError for Failure {
        fn code(&self) -> Code {
            self.code
        }
        fn reason(&self) -> &'static str {
            "THING_MISSING"
        }
        fn violations(&self) -> &[Violation] {
            &self.violations
        }
        fn retry_after(&self) -> Option<Duration> {
            Some(Duration::from_secs(3))
        }
    }

    fn answer(code: Code, text: &'static str) -> Status {
        let violations = vec![Violation { field: "quantity".to_owned(), description: "is zero".to_owned() }];
        from("thing", Failure { text, code, violations })
    }

    #[test]
    fn a_clients_error_is_told_with_its_details() {
        let status = answer(Code::InvalidArgument, "the request is wrong");
        assert_eq!((status.code(), status.message()), (tonic::Code::InvalidArgument, "the request is wrong"));
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("THING_MISSING", "thing.omnimesh"));
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "quantity");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(3)));
        assert!(details.precondition_failure().is_none());
    }

    #[test]
    fn a_failed_precondition_lists_its_conditions() {
        let details = answer(Code::FailedPrecondition, "not now").get_error_details();
        assert_eq!(details.precondition_failure().unwrap().violations[0].subject, "quantity");
        assert!(details.bad_request().is_none());
    }

    #[test]
    fn an_internal_error_tells_its_id_and_nothing_else() {
        for code in [Code::Internal, Code::Unavailable] {
            let status = answer(code, "password of the database is wrong");
            let id = status.get_details_error_info().unwrap().metadata["error_id"].clone();
            assert!(!status.message().contains("password") && status.message().contains(&id));
        }
    }
}
