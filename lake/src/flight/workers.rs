//! Where queries run.

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

use super::Failure;
use crate::Error;

const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Threads for queries alone, so that they keep none from calls that take no time, with stacks for long expressions.
pub(super) struct Workers {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Workers {
    pub(super) fn start() -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .thread_name("lake-query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> AbortOnDropHandle<Result<T, Failure>> {
        AbortOnDropHandle::new(self.handle.spawn(work))
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        self.spawn(work).await.map_err(Error::Interrupted)?
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Waiting for threads is not allowed where calls are served.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
