//! What collectors are told of calls, behind the calls: spans and log records wait in bounded queues and are sent in
//! batches.

mod collector;
pub(crate) mod otlp;
pub(crate) mod trace;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures::future::BoxFuture;
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::stats::{Counter, Scope};
pub(crate) use collector::Collector;

/// What is more than this waits nowhere: it is dropped and counted.
const QUEUE: usize = 16 << 10;
const BATCH: usize = 512;
/// The first of a batch waits at most so long.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a collector may take for what is left when the edge ends.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where what is to be sent waits.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T> {
    waiting: Sender<T>,
    dropped: Counter,
}

impl<T> Queue<T> {
    pub(crate) fn push(&self, item: T) {
        match self.waiting.try_send(item) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => self.dropped.inc(),
        }
    }
}

/// What counts the items of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    sent: Counter,
    dropped: Counter,
}

impl Figures {
    pub(crate) fn new(scope: &Scope, sent: &str, dropped: &str) -> Self {
        Self { sent: scope.counter(sent), dropped: scope.counter(dropped) }
    }
}

type Begin = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// The senders of a configuration, until there is a runtime for them.
#[derive(Default)]
pub(crate) struct Exports(RefCell<Vec<Begin>>);

impl fmt::Debug for Exports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exports").field(&self.0.borrow().len()).finish()
    }
}

impl Exports {
    /// A queue whose batches `collector` is sent, made a message by `wrap`.
    pub(crate) fn queue<T: Send + 'static, Q: Message + 'static>(
        &self,
        collector: Collector,
        wrap: impl Fn(Vec<T>) -> Q + Send + 'static,
        figures: Figures,
    ) -> Queue<T> {
        let (sender, receiver) = channel(QUEUE);
        let dropped = figures.dropped.clone();
        let send = move |batch: Vec<T>| {
            let (count, collector, figures) = (batch.len() as u64, collector.clone(), figures.clone());
            let message = wrap(batch);
            async move {
                match collector.tell(&message).await {
                    Ok(()) => figures.sent.add(count),
                    Err(error) => {
                        figures.dropped.add(count);
                        tracing::warn!(%error, %collector, "a collector did not take what it was sent");
                    }
                }
            }
        };
        self.0.borrow_mut().push(Box::new(move |stop| Box::pin(run(receiver, send, stop))));
        Queue { waiting: sender, dropped }
    }

    /// Begins to send.
    pub(crate) fn start(self, runtime: &Handle, exporting: &Exporting) {
        for begin in self.0.into_inner() {
            exporting.senders.spawn_on(begin(exporting.stop.clone()), runtime);
        }
    }
}

/// The senders that are at work.
#[derive(Debug, Default)]
pub(crate) struct Exporting {
    senders: TaskTracker,
    stop: CancellationToken,
}

impl Exporting {
    /// Sends what still waits, as far as collectors take it.
    pub(crate) async fn finish(&self) {
        self.stop.cancel();
        self.senders.close();
        if tokio::time::timeout(GOODBYE, self.senders.wait()).await.is_err() {
            tracing::warn!("collectors did not take all that there was to tell");
        }
    }
}

/// Sends batch by batch until nobody is left who could queue anything, or the edge ends.
async fn run<T, F: Future<Output = ()>>(
    mut waiting: Receiver<T>,
    send: impl Fn(Vec<T>) -> F,
    stop: CancellationToken,
) {
    let mut batch = Vec::new();
    loop {
        let mut due: Option<Instant> = None;
        while batch.len() < BATCH {
            let left = BATCH - batch.len();
            tokio::select! {
                count = waiting.recv_many(&mut batch, left) => match count {
                    0 => break,
                    _ => due = due.or(Some(Instant::now() + INTERVAL)),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => break,
                () = stop.cancelled(), if !waiting.is_closed() => waiting.close(),
            }
        }
        if batch.is_empty() {
            return;
        }
        send(std::mem::take(&mut batch)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn collect() -> (Arc<Mutex<Vec<usize>>>, impl Fn(Vec<usize>) -> std::future::Ready<()>) {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        (sizes, move |batch: Vec<usize>| {
            seen.lock().unwrap().push(batch.len());
            std::future::ready(())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_sent_when_it_is_due_or_a_batch() {
        let (sender, receiver) = channel(QUEUE);
        let (sizes, send) = collect();
        let running = tokio::spawn(run(receiver, send, CancellationToken::new()));
        sender.send(0).await.unwrap();
        tokio::time::sleep(INTERVAL * 2).await;
        assert_eq!(*sizes.lock().unwrap(), [1]);
        for item in 0..BATCH + 1 {
            sender.send(item).await.unwrap();
        }
        drop(sender);
        running.await.unwrap();
        assert_eq!(*sizes.lock().unwrap(), [1, BATCH, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_sends_what_is_left_and_takes_nothing_more() {
        let (sender, receiver) = channel(QUEUE);
        let (sizes, send) = collect();
        let stop = CancellationToken::new();
        sender.send(0).await.unwrap();
        stop.cancel();
        tokio::spawn(run(receiver, send, stop)).await.unwrap();
        assert_eq!(*sizes.lock().unwrap(), [1]);
        assert!(sender.send(1).await.is_err());
    }

    #[test]
    fn what_does_not_fit_the_queue_is_dropped_and_counted() {
        let (waiting, _receiver) = channel(1);
        let queue = Queue { waiting, dropped: Counter::default() };
        queue.push(1);
        queue.push(2);
        assert_eq!(queue.dropped.value(), 1);
    }
}
