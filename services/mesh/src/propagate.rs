//! What a call takes with it to a peer: the trace it belongs to and the time it has left.

use opentelemetry::global;
use opentelemetry::propagation::Injector;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::deadline::Deadline;

/// Interceptor of every channel to a peer.
#[derive(Debug, Clone, Copy)]
pub struct Propagate;

impl Interceptor for Propagate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(deadline) = Deadline::current()
            && !request.metadata().contains_key("grpc-timeout")
        {
            request.set_timeout(deadline.remaining());
        }
        let span = tracing::Span::current();
        if !span.is_disabled() {
            let context = span.context();
            global::get_text_map_propagator(|propagator| {
                propagator.inject_context(&context, &mut Metadata(request.metadata_mut()));
            });
        }
        Ok(request)
    }
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (key.parse::<MetadataKey<Ascii>>(), value.parse()) {
            self.0.insert(key, value);
        }
    }
}
