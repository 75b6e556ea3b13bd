//! Threads that serve.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// How often a worker looks up by itself. A timer that is due before all others costs a system call, which wakes the
/// thread that sets it; before this one's next tick hardly any is due.
const TICK: Duration = Duration::from_millis(500);

/// A thread with a runtime of its own: what it serves never moves to another thread.
pub(crate) struct Worker {
    pub(crate) handle: Handle,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(name: String) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
        let ended = end.clone();
        let ticking = async {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
            }
        };
        let serving = move || runtime.block_on(ended.run_until_cancelled_owned(ticking)).unwrap_or(());
        let thread = std::thread::Builder::new().name(name).spawn(serving)?;
        Ok(Self { handle, end, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // A worker that panicked has ended, too.
            let _ = thread.join();
        }
    }
}
