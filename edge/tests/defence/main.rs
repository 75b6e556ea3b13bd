//! The gateway against clients that mean harm, and its own changes while honest calls go on. All over real sockets.

mod backend;
mod drain;
mod edge;
mod flood;
mod frames;
mod honest;
mod overload;
mod protocol;
mod reload;
mod rotation;
mod slow;
mod smuggle;
mod web;

use std::future::Future;
use std::time::Duration;

/// How long anything may take that is waited for; nothing is expected to.
const DEADLINE: Duration = Duration::from_secs(60);

/// What comes of something that must end by itself.
async fn ends<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(DEADLINE, work).await.expect("it ends")
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waits = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while !holds() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, waits).await.unwrap_or_else(|_| panic!("{what}"));
}
