//! The clock of a reply that its client does not take.
//!
//! A body that waits for room towards the client is not asked for more, so none of its call's clocks can ring. What
//! runs a stream looks instead: the body says by when it must be asked again, and a stream that is not asked by then
//! is given up.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use hyper::rt::Executor;
use tokio::time::Sleep;

thread_local! {
    /// By when the body of the stream that runs now must be asked again.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Says by when the body of the stream that runs now must be asked again, if ever.
pub(crate) fn expect(until: Option<Instant>) {
    UNTIL.set(until);
}

/// Runs the streams of connections, each with such a clock.
#[derive(Clone, Debug)]
pub(super) struct Streams;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::spawn(bounded(stream));
    }
}

/// Ends with the stream, or when its client has taken nothing for too long: dropped, a stream is reset.
async fn bounded<F: Future<Output = ()>>(stream: F) {
    let mut stream = pin!(stream);
    let mut until = None;
    let mut clock: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|cx| {
        UNTIL.set(until);
        let polled = stream.as_mut().poll(cx);
        until = UNTIL.take();
        let (Poll::Pending, Some(until)) = (polled, until) else { return polled };
        let at = tokio::time::Instant::from_std(until);
        let sleep = clock.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        // One that was put off rings early, which is cheaper than to set it anew each time.
        if sleep.deadline() > at || sleep.is_elapsed() {
            sleep.as_mut().reset(at);
        }
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) if Instant::now() < until => {
                sleep.as_mut().reset(at);
                sleep.as_mut().poll(cx)
            }
            polled => polled,
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_is_not_asked_in_time_is_given_up() {
        let soon = Instant::now() + Duration::from_millis(20);
        bounded(async move {
            expect(Some(soon));
            std::future::pending().await
        })
        .await;
        assert!(Instant::now() >= soon);
    }

    #[tokio::test]
    async fn a_stream_that_goes_on_or_waits_for_its_upstream_is_not() {
        let (ended, was) = tokio::sync::oneshot::channel();
        bounded(async move {
            for _ in 0..5 {
                expect(Some(Instant::now() + Duration::from_millis(200)));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            expect(None);
            tokio::time::sleep(Duration::from_millis(300)).await;
            ended.send(()).unwrap();
        })
        .await;
        was.await.unwrap();
    }
}
