//! The layers around every service, from the outermost inwards. Their order is the design.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use futures::FutureExt as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;
use tower::ServiceBuilder;

use super::body;
use super::observe::{self, Observer};
use crate::config::Limits;
use crate::deadline;
use crate::method::{Access, Method, Methods};
use crate::panic_text;
use crate::policy::{self, Policy};
use crate::status::Refusal;

/// Puts the stack around services.
pub(super) fn around(
    services: Routes,
    methods: Methods,
    limits: &Limits,
    policy: Policy,
    stopping: CancellationToken,
) -> Routes {
    let layers = ServiceBuilder::new()
        // Looks up the method; the span and the measurement cover all that follows, refusals included.
        .layer(from_fn_with_state(Arc::new(Observer::new(methods)), observe::observe))
        // Inside the span, so that the log line of a panic belongs to its trace; outside everything that could
        // panic.
        .layer(from_fn(catch_panic))
        // Streams would outlast any drain time.
        .layer(from_fn_with_state(stopping, end_streams))
        // Before any work is done for the call: turning it away must cost next to nothing.
        .layer(from_fn_with_state(Arc::new(Semaphore::new(limits.concurrent_calls)), shed))
        // The clock runs for authorisation too.
        .layer(from_fn_with_state(limits.unary_timeout(), deadline::enforce))
        // Last: a service sees only calls that are allowed.
        .layer(from_fn_with_state(Arc::new(policy), policy::authorise));
    Routes::from(services.into_axum_router().layer(layers)).prepare()
}

/// A panic while a call is handled is that call's INTERNAL; the server goes on.
async fn catch_panic(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => Status::from(Refusal::Panicked(panic_text(panic.as_ref()).to_owned())).into_http(),
    }
}

/// Ends server streams when the server stops.
async fn end_streams(State(stopping): State<CancellationToken>, request: Request, next: Next) -> Response {
    let streams = request.extensions().get::<Arc<Method>>().is_some_and(|method| method.server_streaming);
    let response = next.run(request).await;
    if !streams {
        return response;
    }
    body::end_when(response, async move {
        stopping.cancelled_owned().await;
        Refusal::Stopping
    })
}

/// Turns calls away at once when too many are being handled: waiting in a queue, they would only time out.
async fn shed(State(slots): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    // Health must answer under load, or an orchestrator restarts a server for being busy.
    let is_open =
        request.extensions().get::<Arc<Method>>().is_some_and(|method| method.access == Access::Open);
    if is_open {
        return next.run(request).await;
    }
    let Ok(_slot) = slots.try_acquire() else { return Status::from(Refusal::Overloaded).into_http() };
    next.run(request).await
}
