//! The queries whose rows are on their way: what can be cancelled.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Actions beside those of every Flight SQL server, and what each does.
pub(super) const ACTIONS: [(&str, &str); 2] =
    [(CANCEL, "Cancels the query of a FlightInfo."), (CLOSE, "Ends a session. There are none to end.")];
pub(super) const CANCEL: &str = "CancelFlightInfo";
pub(super) const CLOSE: &str = "CloseSession";
/// In Arrow Flight, and in Arrow Flight SQL alike.
pub(super) const CANCELLED: i32 = arrow_flight::CancelStatus::Cancelled as i32;
pub(super) const CLOSED: i32 = 1;

/// Arrow Flight's answer to [`CLOSE`], which the crate has no type for.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CloseSessionResult {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// A name for a run that nobody else can guess, for whoever knows it may cancel it.
pub(super) fn name() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The queries that run in this process.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<String, CancellationToken>>>);

impl Running {
    /// Makes a query known for as long as the returned run lives.
    pub(super) fn begin(&self, name: String) -> Run {
        let cancelled = CancellationToken::new();
        self.lock(|runs| runs.insert(name.clone(), cancelled.clone()));
        Run { name, cancelled, running: self.clone() }
    }

    /// Cancels a query; false if it does not run here.
    pub(super) fn cancel(&self, name: &str) -> bool {
        let run = self.lock(|runs| runs.get(name).cloned());
        run.inspect(CancellationToken::cancel).is_some()
    }

    fn lock<T>(&self, act: impl FnOnce(&mut HashMap<String, CancellationToken>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A query that runs.
#[derive(Debug)]
pub(super) struct Run {
    name: String,
    cancelled: CancellationToken,
    running: Running,
}

impl Run {
    pub(super) async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.running.lock(|runs| runs.remove(&self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_is_cancelled_by_its_name_until_it_ends() {
        let running = Running::default();
        let run = running.begin(name());
        assert!(!running.cancel(&name()));
        assert!(running.cancel(&run.name));
        run.cancelled().await;
        let ended = run.name.clone();
        drop(run);
        assert!(!running.cancel(&ended));
    }
}
