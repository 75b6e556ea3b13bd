//! Watches the length-prefixed messages of a request go by, without holding any, and ends a call for one too large.

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::google::protobuf::Any;
use http::StatusCode;
use omnimesh_proto::edge::v1::MessageLimit as Config;

use crate::body::Transform;
use crate::bootstrap::unpack;
use crate::call::Call;
use crate::filter::{Context, Filter, Flow};
use crate::problem::{Path, Problem};
use crate::reply::LocalReply;

const RESOURCE_EXHAUSTED: i32 = 8;
/// Five bytes before each message: a flag and the length.
const PREFIX: usize = 5;

/// Bounds each message that a client sends.
#[derive(Debug)]
pub(crate) struct MessageLimit {
    bytes: u32,
}

pub(crate) fn make(config: &Any, at: &Path<'_>, _: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    let config: Config = unpack(config, at)?;
    if config.max_message_bytes == 0 {
        return Err(at.field("max_message_bytes").problem("must be greater than 0"));
    }
    Ok(Arc::new(MessageLimit { bytes: config.max_message_bytes }))
}

impl Filter for MessageLimit {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        if call.is_grpc() {
            call.body.push(Box::new(MessageMeter::new(self.bytes)));
        }
        Flow::Continue
    }
}

impl Transform for MessageMeter {
    fn data(&mut self, data: Bytes) -> Result<Bytes, LocalReply> {
        match self.feed(&data) {
            Ok(()) => Ok(data),
            Err(TooLarge(length)) => {
                let message = format!("a message of {length} bytes is larger than the edge allows");
                let refused = LocalReply::new(StatusCode::TOO_MANY_REQUESTS, message, "message_too_large");
                Err(refused.with_grpc(RESOURCE_EXHAUSTED))
            }
        }
    }
}

/// A message was announced that is larger than allowed; carries its length.
#[derive(Debug, PartialEq, Eq)]
struct TooLarge(u32);

#[derive(Debug)]
struct MessageMeter {
    limit: u32,
    prefix: [u8; PREFIX],
    prefix_len: usize,
    remaining: usize,
}

impl MessageMeter {
    fn new(limit: u32) -> Self {
        Self { limit, prefix: [0; PREFIX], prefix_len: 0, remaining: 0 }
    }

    /// Follows the next bytes of the body. Chunks may cut messages and prefixes anywhere.
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TooLarge> {
        loop {
            let skipped = self.remaining.min(bytes.len());
            self.remaining -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (PREFIX - self.prefix_len).min(bytes.len());
            self.prefix[self.prefix_len..self.prefix_len + taken].copy_from_slice(&bytes[..taken]);
            self.prefix_len += taken;
            bytes = &bytes[taken..];
            if self.prefix_len == PREFIX {
                let [_, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length);
                if length > self.limit {
                    return Err(TooLarge(length));
                }
                self.prefix_len = 0;
                self.remaining = length as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_messages_across_any_chunking() {
        let body = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[1, 0, 0, 0, 2], b"de"].concat();
        for size in 1..=body.len() {
            let mut meter = MessageMeter::new(3);
            for chunk in body.chunks(size) {
                assert_eq!(meter.feed(chunk), Ok(()));
            }
            assert_eq!((meter.remaining, meter.prefix_len), (0, 0), "chunks of {size}");
        }
    }

    #[test]
    fn refuses_a_message_by_its_announced_length() {
        assert_eq!(MessageMeter::new(3).feed(&[0, 0, 0, 0, 4]), Err(TooLarge(4)));
    }
}
