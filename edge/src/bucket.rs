//! Buckets of tokens that every worker takes from without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::r#type::v3::TokenBucket;

use crate::problem::{Path, Problem};
use crate::value;

const MIN_FILL_INTERVAL: Duration = Duration::from_millis(50);

/// Tokens that come back steadily, up to a maximum. Held as the time at which the bucket would have been empty, so that
/// one atomic number is all there is to share.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) max: u32,
    /// Nanoseconds until one token has come back.
    per_token: f64,
    began: Instant,
    /// Nanoseconds since `began` at which there was no token, offset by the time to fill the bucket.
    empty_at: AtomicU64,
    /// How long an empty bucket takes to be full.
    fill: u64,
}

impl Bucket {
    pub(crate) fn compile(config: &TokenBucket, at: &Path<'_>) -> Result<Self, Problem> {
        let interval = config.fill_interval.as_ref().map(value::duration).unwrap_or_default();
        if interval < MIN_FILL_INTERVAL {
            return Err(at.field("fill_interval").problem("must be at least 50ms"));
        }
        if config.max_tokens == 0 {
            return Err(at.field("max_tokens").problem("must be greater than 0"));
        }
        let tokens = value::number(config.tokens_per_fill.as_ref(), 1);
        if tokens == 0 {
            return Err(at.field("tokens_per_fill").problem("must be greater than 0"));
        }
        Ok(Self::new(config.max_tokens, interval.as_nanos() as f64 / f64::from(tokens)))
    }

    /// Of so many tokens, of which one comes back every `per_token` nanoseconds.
    pub(crate) fn new(max: u32, per_token: f64) -> Self {
        let fill = (f64::from(max) * per_token) as u64;
        // Full at the beginning: empty as long ago as it takes to fill.
        Self { max, per_token, began: Instant::now(), empty_at: AtomicU64::new(0), fill }
    }

    /// As full as it was made.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.max, self.per_token)
    }

    /// Tokens that come back in a nanosecond.
    pub(crate) fn rate(&self) -> f64 {
        1.0 / self.per_token
    }

    /// Takes so many tokens, or none if there are fewer.
    pub(crate) fn take(&self, tokens: u32) -> bool {
        self.take_at(self.now(), tokens)
    }

    /// Tokens that are there.
    pub(crate) fn left(&self) -> u32 {
        let filling = self.now().saturating_sub(self.empty_at.load(Ordering::Relaxed)).min(self.fill);
        // A rounding error must not hide a token.
        ((filling as f64 / self.per_token + 1e-6) as u32).min(self.max)
    }

    /// How long until there is one.
    pub(crate) fn wait(&self) -> Duration {
        let next = self.empty_at.load(Ordering::Relaxed).saturating_add(self.per_token as u64);
        Duration::from_nanos(next.saturating_sub(self.now()))
    }

    /// Now, on a clock on which the bucket was empty at 0 and full when it was made.
    fn now(&self) -> u64 {
        self.fill.saturating_add(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn take_at(&self, now: u64, tokens: u32) -> bool {
        let cost = (f64::from(tokens) * self.per_token) as u64;
        let taken = self.empty_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |empty_at| {
            // What does not fit is spilt.
            let empty_at = empty_at.max(now.saturating_sub(self.fill)).saturating_add(cost);
            (empty_at <= now).then_some(empty_at)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_steadily_up_to_the_maximum() {
        let second = 1_000_000_000;
        let bucket = Bucket::new(2, second as f64);
        let start = bucket.fill;
        for (after, expected) in [
            (0, true),
            (0, true),
            (0, false),
            (second - 1, false),
            (second, true),
            (second, false),
            (100 * second, true),
            (100 * second, true),
            (100 * second, false),
        ] {
            assert_eq!(bucket.take_at(start + after, 1), expected, "after {after} ns");
        }
    }

    #[test]
    fn workers_share_a_bucket() {
        let bucket = Bucket::new(1000, 1e15);
        let taken: usize = std::thread::scope(|scope| {
            let worker = || (0..400).filter(|_| bucket.take(1)).count();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!((taken, bucket.left()), (1000, 0));
        assert!(bucket.wait() > Duration::from_secs(1000));
    }

    #[test]
    fn a_bucket_that_cannot_be_filled_is_refused() {
        use envoy_types::pb::google::protobuf::{Duration as Interval, UInt32Value};
        let config = |max_tokens, tokens, nanos| TokenBucket {
            max_tokens,
            tokens_per_fill: Some(UInt32Value { value: tokens }),
            fill_interval: Some(Interval { seconds: 0, nanos }),
        };
        for (config, path) in [
            (config(0, 1, 100_000_000), "max_tokens"),
            (config(1, 0, 100_000_000), "tokens_per_fill"),
            (config(1, 1, 49_000_000), "fill_interval"),
        ] {
            assert_eq!(Bucket::compile(&config, &Path::root()).unwrap_err().path, path);
        }
        assert!(Bucket::compile(&config(1, 1, 50_000_000), &Path::root()).is_ok());
    }
}
