//! The consumers that run in a process: started with its services, stopped with them.

use std::sync::{Arc, Mutex, PoisonError};

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

    /// Notes a consumer that keeps its cursor elsewhere than in a database.
    pub fn track(&self, position: Position) {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).push(position);
    }

    /// Tells a task of this process when to stop.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Runs `task` until it ends by itself; `stop` waits for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Stops every consumer and waits until all have.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Starts a consumer beside the services of `server`.
pub fn consume(server: &mut ServerBuilder, consumer: Consumer, handler: impl Handler) {
    let (consumers, _) = server.shared::<Consumers>();
    consumers.track(consumer.position());
    let shutdown = consumers.shutdown_token();
    consumers.spawn(consumer.run(handler, shutdown));
}
