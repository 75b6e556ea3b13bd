//! What the edge says to a client: the shapes of a reply in each protocol.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::{HttpTask, ServerSession};

use crate::first::call::{Call, Outcome, Protocol};
use crate::first::filter::{cors, grpc_web};
use crate::first::status::Rejection;

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The header of the reply that was begun, if one was.
pub(crate) fn begun(session: &ServerSession) -> Option<&ResponseHeader> {
    session.response_written().filter(|header| !header.status.is_informational())
}

/// Sends a reply that is a header and nothing else.
pub(crate) async fn header_only(session: &mut ServerSession, header: Box<ResponseHeader>) -> Result<()> {
    session.response_duplex_vec(vec![HttpTask::Header(header, true)]).await.map(drop)
}

/// Begins a reply that goes on.
pub(crate) async fn begin(
    session: &mut ServerSession,
    call: &Call,
    mut header: Box<ResponseHeader>,
) -> Result<()> {
    finish_header(&mut header, call)?;
    // HTTP/1 needs to know where the body ends.
    if session.req_header().version == Version::HTTP_11 {
        header.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    session.write_response_header(header).await
}

/// Adds what every reply to a call carries.
fn finish_header(header: &mut ResponseHeader, call: &Call) -> Result<()> {
    header.insert_header(REQUEST_ID, &call.id)?;
    cors::mark_readable(header, call.allowed_origin.as_ref())
}

/// Ends a call that has no message: the trailers become the header.
pub(crate) async fn trailers_only(
    session: &mut ServerSession,
    call: &Call,
    mut header: Box<ResponseHeader>,
) -> Result<()> {
    finish_header(&mut header, call)?;
    if call.protocol != Some(Protocol::Grpc) {
        header.insert_header(CONTENT_LENGTH, "0")?;
    }
    header_only(session, header).await
}

/// Ends a reply that was begun.
pub(crate) async fn end(
    session: &mut ServerSession,
    protocol: Option<Protocol>,
    trailers: HeaderMap,
) -> Result<()> {
    match protocol {
        Some(Protocol::GrpcWeb { text_reply, .. }) => {
            let frame = grpc_web::trailer_frame(&trailers);
            let frame = if text_reply { grpc_web::encode_text(&frame) } else { frame };
            session.write_response_body(frame, true).await
        }
        _ => session.write_response_trailers(trailers).await,
    }
}

/// Passes on one piece of the reply's body.
pub(crate) async fn data(session: &mut ServerSession, protocol: Protocol, bytes: Bytes) -> Result<()> {
    let bytes = match protocol {
        Protocol::GrpcWeb { text_reply: true, .. } if !bytes.is_empty() => grpc_web::encode_text(&bytes),
        _ => bytes,
    };
    session.write_response_body(bytes, false).await
}

/// Tells the client why its call ends here, wherever its reply stands.
pub(crate) async fn reject(
    session: &mut ServerSession,
    call: &Call,
    rejection: &Rejection,
) -> Result<Outcome> {
    let status = HeaderValue::from(rejection.code as i32);
    let message = rejection.encoded_message();
    let outcome =
        |http: StatusCode| Outcome { http_status: http.as_u16(), grpc_status: Some(rejection.code as i32) };
    if let Some(begun) = begun(session) {
        let outcome = outcome(begun.status);
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert(GRPC_STATUS, status);
        if let Ok(message) = HeaderValue::try_from(message) {
            trailers.insert(GRPC_MESSAGE, message);
        }
        end(session, call.protocol, trailers).await?;
        return Ok(outcome);
    }
    // gRPC clients look for the status only under HTTP 200.
    let http = match call.protocol {
        Some(Protocol::Grpc) => StatusCode::OK,
        _ => rejection.http,
    };
    let mut header = Box::new(ResponseHeader::build(http, Some(8))?);
    if let Some(protocol) = call.protocol {
        header.insert_header(CONTENT_TYPE, grpc_web::reply_type(protocol, None))?;
    }
    if http == StatusCode::METHOD_NOT_ALLOWED {
        header.insert_header(ALLOW, "POST, OPTIONS")?;
    }
    header.insert_header(GRPC_STATUS, status)?;
    header.insert_header(GRPC_MESSAGE, message)?;
    trailers_only(session, call, header).await?;
    Ok(outcome(http))
}
