//! The consumers that run in a process: started with its services, stopped with them.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use mesh::ServerBuilder;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Consumer, Cursor, Handler};

/// How far one consumer is.
#[derive(Debug, Clone)]
pub struct Position {
    /// The consumer's name.
    pub consumer: &'static str,
    /// The domain that it reads.
    pub domain: &'static str,
    /// Up to where everything is applied.
    pub cursor: watch::Receiver<Cursor>,
}

/// Every consumer of a process.
#[derive(Debug, Clone, Default)]
pub struct Consumers {
    tasks: TaskTracker,
    shutdown: CancellationToken,
    positions: Arc<Mutex<Vec<Position>>>,
}

impl Consumers {
    /// How far each consumer is.
    pub fn positions(&self) -> Vec<Position> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops every consumer and waits until all have.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Runs a consumer beside the services of `server`, from when it serves until the consumers are stopped.
pub fn consume(server: &mut ServerBuilder, consumer: Consumer, handler: impl Handler) {
    let position = consumer.position();
    run(server, position, consumer.run(handler));
}

/// Runs a consumer that keeps its cursor elsewhere than in a database, like [`consume`]; `consuming` is dropped when
/// the consumers are stopped.
pub fn run(
    server: &mut ServerBuilder,
    position: Position,
    consuming: impl Future<Output = Infallible> + Send + 'static,
) {
    let (consumers, _) = server.shared::<Consumers>();
    consumers.positions.lock().unwrap_or_else(PoisonError::into_inner).push(position);
    beside(server, consuming);
}

/// Does `work` beside the services of `server`, from when it serves until the consumers are stopped.
pub fn beside(server: &mut ServerBuilder, work: impl Future<Output = Infallible> + Send + 'static) {
    let (consumers, _) = server.shared::<Consumers>();
    let started = server.started();
    let shutdown = consumers.shutdown;
    consumers.tasks.spawn(async move {
        let work = async {
            started.cancelled().await;
            work.await
        };
        shutdown.run_until_cancelled(work).await;
    });
}
