//! What a client is answered, and the answers that the edge makes itself.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;

use crate::body::{Answer, ReplyBody, Transformed};
use crate::call::{Call, Protocol};
use crate::downstream::local_reply::LocalReplies;
use crate::flag::Flag;

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

const DEADLINE_EXCEEDED: i32 = 4;

/// A reply on its way down; filters may change it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ReplyBody,
    /// Whether the edge made it.
    pub(crate) local: bool,
    /// The upstream's end of a connection that goes over to another protocol.
    pub(crate) upgrade: Option<OnUpgrade>,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, headers: HeaderMap, body: Answer) -> Self {
        Self { status, headers, body: Transformed::new(body), local: false, upgrade: None }
    }
}

/// An answer that the edge makes: told in the words of the protocol that the client speaks.
#[derive(Clone, Debug)]
pub(crate) struct LocalReply {
    pub(crate) status: StatusCode,
    /// The gRPC status, where it is not the usual one of the HTTP status.
    pub(crate) grpc_status: Option<i32>,
    pub(crate) message: Cow<'static, str>,
    /// More headers, replacing what is there.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) details: Cow<'static, str>,
    pub(crate) flag: Option<Flag>,
}

impl LocalReply {
    pub(crate) fn new(
        status: StatusCode,
        message: impl Into<Cow<'static, str>>,
        details: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            grpc_status: None,
            message: message.into(),
            headers: Vec::new(),
            details: details.into(),
            flag: None,
        }
    }

    pub(crate) fn with_grpc(self, status: i32) -> Self {
        Self { grpc_status: Some(status), ..self }
    }

    pub(crate) fn with_flag(self, flag: Flag) -> Self {
        Self { flag: Some(flag), ..self }
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The gRPC status that a gRPC client is told.
    pub(crate) fn code(&self) -> i32 {
        self.grpc_status.unwrap_or_else(|| grpc_status_of(self.status))
    }

    /// Makes the reply, and notes on the call why it was made.
    pub(crate) fn render(mut self, call: &mut Call) -> Reply {
        if let Some(flag) = self.flag {
            call.flag(flag);
        }
        call.details = self.details.clone();
        let mut own = HeaderMap::new();
        for (name, value) in std::mem::take(&mut self.headers) {
            own.append(name, value);
        }
        if let Some(rules) = call.local_replies.clone() {
            self.rewrite(&rules, call, &mut own);
        }
        let (code, grpc) = (self.code(), call.protocol != Protocol::Http || call.is_grpc());
        let mut headers = HeaderMap::with_capacity(4 + own.len());
        let mut body = None;
        let mut status = self.status;
        if grpc {
            // Clients of gRPC-Web take the HTTP status for the answer, and 504 for a host that is not there.
            if call.protocol == Protocol::Grpc || code == DEADLINE_EXCEEDED {
                status = StatusCode::OK;
            }
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(GRPC_STATUS, HeaderValue::from(code));
            if let Ok(message) = HeaderValue::try_from(encode_message(&self.message))
                && !message.is_empty()
            {
                headers.insert(GRPC_MESSAGE, message);
                if call.protocol != Protocol::Grpc {
                    // The message was a body, which is empty now.
                    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
            }
        } else if !self.message.is_empty() {
            let text = Bytes::from(self.message.into_owned());
            headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            body = Some(text);
        }
        for name in own.keys() {
            headers.remove(name);
        }
        headers.extend(own);
        Reply { local: true, ..Reply::new(status, headers, Answer::Full(body)) }
    }
}

impl LocalReply {
    /// Makes of it what operators want; a gRPC client reads it as its protocol has it all the same.
    fn rewrite(&mut self, rules: &LocalReplies, call: &mut Call, headers: &mut HeaderMap) {
        let mut body = std::mem::take(&mut self.message).into_owned();
        let named = headers.get(CONTENT_TYPE).cloned();
        rules.rewrite(call, &mut self.status, &mut body, headers);
        let grpc = call.protocol != Protocol::Http || call.is_grpc();
        self.message = if grpc { body.trim_end().to_owned() } else { body }.into();
        if grpc {
            headers.remove(CONTENT_TYPE);
            headers.extend(named.map(|named| (CONTENT_TYPE, named)));
        }
    }
}

/// The gRPC status that an HTTP status without one means.
pub(crate) fn grpc_status_of(status: StatusCode) -> i32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// Whether headers are those of a gRPC message.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'+' || rest[0] == b';')
    })
}

/// A message as `grpc-message` carries it: printable ASCII, the rest percent-encoded.
pub(crate) fn encode_message(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
