//! Threads that serve.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

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
        let thread =
            std::thread::Builder::new().name(name).spawn(move || runtime.block_on(ended.cancelled()))?;
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
