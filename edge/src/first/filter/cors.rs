//! Lets web pages of the edge's own origin, and of configured ones, call from a browser.
//!
//! A preflight is always answered here: a backend would not know what to do with it.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_LENGTH, HOST, ORIGIN, VARY,
};
use http::{HeaderValue, Method, StatusCode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

use crate::first::config::Cors;

/// What a page may read of a reply, besides the body: the status of a call that has no body.
const EXPOSED: &str = "grpc-status, grpc-message, grpc-status-details-bin, x-request-id";
/// Browsers ask again after a day.
const MAX_AGE_SECONDS: &str = "86400";

/// The request's origin, if its page may call.
pub(crate) fn allowed_origin(cors: &Cors, request: &RequestHeader) -> Option<HeaderValue> {
    let origin = request.headers.get(ORIGIN)?;
    let text = origin.to_str().ok()?;
    let configured = cors.allowed_origins.iter().any(|allowed| allowed == "*" || allowed == text);
    (configured || is_own_origin(request, text)).then(|| origin.clone())
}

fn is_own_origin(request: &RequestHeader, origin: &str) -> bool {
    let host = match request.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers.get(HOST).and_then(|host| host.to_str().ok()),
    };
    let origin = origin.split_once("://").map(|(_, host)| host);
    matches!((host, origin), (Some(host), Some(origin)) if host.eq_ignore_ascii_case(origin))
}

pub(crate) fn is_preflight(request: &RequestHeader) -> bool {
    request.method == Method::OPTIONS
        && request.headers.contains_key(ORIGIN)
        && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight: 204 with what is allowed, or a bare 403.
pub(crate) fn preflight(
    request: &RequestHeader,
    allowed: Option<&HeaderValue>,
) -> Result<Box<ResponseHeader>> {
    let Some(origin) = allowed else {
        let mut reply = ResponseHeader::build(StatusCode::FORBIDDEN, Some(2))?;
        reply.insert_header(VARY, "origin")?;
        reply.insert_header(CONTENT_LENGTH, "0")?;
        return Ok(Box::new(reply));
    };
    let mut reply = ResponseHeader::build(StatusCode::NO_CONTENT, Some(6))?;
    reply.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, origin)?;
    reply.insert_header(VARY, "origin")?;
    reply.insert_header(ACCESS_CONTROL_ALLOW_METHODS, "POST, OPTIONS")?;
    if let Some(headers) = request.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        reply.insert_header(ACCESS_CONTROL_ALLOW_HEADERS, headers)?;
    }
    reply.insert_header(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS)?;
    Ok(Box::new(reply))
}

/// Lets an allowed page read the reply.
pub(crate) fn mark_readable(reply: &mut ResponseHeader, allowed: Option<&HeaderValue>) -> Result<()> {
    let Some(origin) = allowed else { return Ok(()) };
    reply.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, origin)?;
    reply.append_header(VARY, "origin")?;
    reply.insert_header(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)?;
    Ok(())
}
