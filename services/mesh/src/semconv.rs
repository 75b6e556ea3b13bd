//! OpenTelemetry's names for what is measured about RPCs, in one place because they still change upstream
//! (release candidate as of semantic conventions 1.44).

/// Attribute: the RPC system, always [`GRPC`].
pub const RPC_SYSTEM: &str = "rpc.system.name";
/// Value of [`RPC_SYSTEM`].
pub const GRPC: &str = "grpc";
/// Attribute: the full method, `package.Service/Method`.
pub const RPC_METHOD: &str = "rpc.method";
/// Value of [`RPC_METHOD`] for methods that do not exist, so that callers cannot mint label values.
pub const OTHER: &str = "_OTHER";
/// Attribute: the status code's name, such as `NOT_FOUND`.
pub const RPC_STATUS: &str = "rpc.response.status_code";
/// Metric: histogram of server-side call durations, in seconds.
pub const SERVER_CALL_DURATION: &str = "rpc.server.call.duration";
/// Bucket boundaries of [`SERVER_CALL_DURATION`], in seconds.
pub const DURATION_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// The name of a status code, as attributes carry it.
pub fn code_name(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "CANCELLED",
        tonic::Code::Unknown => "UNKNOWN",
        tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
        tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        tonic::Code::NotFound => "NOT_FOUND",
        tonic::Code::AlreadyExists => "ALREADY_EXISTS",
        tonic::Code::PermissionDenied => "PERMISSION_DENIED",
        tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
        tonic::Code::Aborted => "ABORTED",
        tonic::Code::OutOfRange => "OUT_OF_RANGE",
        tonic::Code::Unimplemented => "UNIMPLEMENTED",
        tonic::Code::Internal => "INTERNAL",
        tonic::Code::Unavailable => "UNAVAILABLE",
        tonic::Code::DataLoss => "DATA_LOSS",
        tonic::Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// True for the codes that mean the server, not the caller, failed.
pub fn is_server_error(code: tonic::Code) -> bool {
    matches!(
        code,
        tonic::Code::Unknown
            | tonic::Code::DeadlineExceeded
            | tonic::Code::Unimplemented
            | tonic::Code::Internal
            | tonic::Code::Unavailable
            | tonic::Code::DataLoss
    )
}
