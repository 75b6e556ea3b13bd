//! One line per call, with the gRPC status that its client saw.

use crate::first::call::{Call, Outcome};

pub(crate) fn write(call: &Call, outcome: Outcome, bytes_read: usize, bytes_sent: usize) {
    let consumer = call.consumer.as_ref().and_then(|consumer| consumer.id.to_str().ok());
    tracing::info!(
        target: "edge::access",
        request_id = call.id.to_str().unwrap_or("-"),
        peer = call.peer.map(tracing::field::display),
        method = call.method.as_str(),
        path = &*call.path,
        protocol = call.protocol.map(crate::first::call::Protocol::name),
        consumer,
        http_status = outcome.http_status,
        grpc_status = outcome.grpc_status,
        bytes_read,
        bytes_sent,
        duration_us = u64::try_from(call.started.elapsed().as_micros()).unwrap_or(u64::MAX),
    );
}
