//! Refusals that tell a client when to come back.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue};
use prost::Message;
use tonic_types::pb::{RetryInfo, Status};

use crate::call::{Call, Protocol};
use crate::reply::LocalReply;

const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

impl LocalReply {
    /// Tells how long to wait, and with `details` why: clients of gRPC in their status, the others and browsers in
    /// `retry-after`.
    pub(crate) fn with_wait(self, call: &Call, wait: Duration, mut details: Vec<prost_types::Any>) -> Self {
        // HTTP knows of no details, and gRPC of no such header.
        let told = match call.protocol {
            Protocol::Grpc => self,
            _ => {
                let seconds = HeaderValue::from(whole_seconds(wait).max(1));
                self.with_header(RETRY_AFTER, seconds)
            }
        };
        if !(call.protocol != Protocol::Http || call.is_grpc()) {
            return told;
        }
        let retry = RetryInfo { retry_delay: prost_types::Duration::try_from(wait).ok() };
        details.push(detail("google.rpc.RetryInfo", &retry));
        let status = Status { code: told.code(), message: told.message.to_string(), details };
        match HeaderValue::try_from(STANDARD_NO_PAD.encode(status.encode_to_vec())) {
            Ok(status) => told.with_header(DETAILS, status),
            Err(_) => told,
        }
    }
}

/// A message as one of a status' details.
pub(crate) fn detail(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

/// Rather more than less.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_told_in_its_own_words() {
        let refused = LocalReply::new(http::StatusCode::SERVICE_UNAVAILABLE, "busy", "overload");
        let header = |reply: &LocalReply, name: &str| {
            let found = reply.headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.to_str().unwrap().to_owned())
        };
        for (protocol, kind, retry_after) in [
            (Protocol::Http, "text/plain", Some("2")),
            (Protocol::Grpc, "application/grpc", None),
            (Protocol::GrpcWeb { text_reply: true }, "application/grpc", Some("2")),
        ] {
            let mut call = Call::sample("POST", "shop.example", "/a.B/C", &[("content-type", kind)]);
            call.protocol = protocol;
            let told = refused.clone().with_wait(&call, Duration::from_millis(1500), Vec::new());
            assert_eq!(header(&told, "retry-after").as_deref(), retry_after, "{protocol:?}");
            let details = header(&told, "grpc-status-details-bin");
            assert_eq!(details.is_some(), protocol != Protocol::Http, "{protocol:?}");
            let Some(details) = details else { continue };
            let status = Status::decode(&*STANDARD_NO_PAD.decode(details).unwrap()).unwrap();
            assert_eq!((status.code, &*status.message), (14, "busy"));
            let [retry] = &status.details[..] else { panic!("{status:?}") };
            assert_eq!(retry.type_url, "type.googleapis.com/google.rpc.RetryInfo");
            let delay = RetryInfo::decode(&*retry.value).unwrap().retry_delay.unwrap();
            assert_eq!((delay.seconds, delay.nanos), (1, 500_000_000));
        }
    }
}
