//! How values are spread: counted in buckets of two significant digits, as Envoy counts them, without a lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// In percent.
pub(crate) const QUANTILES: [f64; 10] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0];
/// Values below this have a bucket each.
const EXACT: u64 = 100;
/// Buckets of a power of ten: 10 to 99 times its tenth.
const PER_DECADE: usize = 90;
/// Up to 10^11, which is three years in milliseconds.
const DECADES: usize = 9;
const BUCKETS: usize = EXACT as usize + DECADES * PER_DECADE;

/// Counts values. A decade takes memory once a value falls into it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The exact ones, then a decade each.
    counts: [OnceLock<Box<[AtomicU64]>>; 1 + DECADES],
    interval: Mutex<Interval>,
}

/// What was counted when the interval began, and in the interval before it.
#[derive(Debug, Default)]
struct Interval {
    begun_with: Counts,
    last: Counts,
}

impl Histogram {
    pub(crate) fn record(&self, value: u64) {
        let bucket = bucket(value);
        let (part, at, len) = match bucket.checked_sub(EXACT as usize) {
            None => (0, bucket, EXACT as usize),
            Some(above) => (1 + above / PER_DECADE, above % PER_DECADE, PER_DECADE),
        };
        let counts = self.0.counts[part].get_or_init(|| (0..len).map(|_| AtomicU64::new(0)).collect());
        counts[at].fetch_add(1, Ordering::Relaxed);
    }

    /// Records how many milliseconds have passed.
    pub(crate) fn record_since(&self, began: Instant) {
        self.record_time(began.elapsed());
    }

    /// Records a time in milliseconds.
    pub(crate) fn record_time(&self, time: Duration) {
        self.record(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// All that was ever recorded.
    pub(crate) fn cumulative(&self) -> Counts {
        let mut counts = BTreeMap::new();
        let mut first = 0;
        for (part, decade) in self.0.counts.iter().enumerate() {
            for (at, count) in decade.get().into_iter().flatten().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    counts.insert(first + at, count);
                }
            }
            first += if part == 0 { EXACT as usize } else { PER_DECADE };
        }
        Counts(counts)
    }

    /// What was recorded in the interval that ended last.
    pub(crate) fn interval(&self) -> Counts {
        self.lock().last.clone()
    }

    pub(super) fn next_interval(&self) {
        let now = self.cumulative();
        let mut interval = self.lock();
        interval.last = now.without(&interval.begun_with);
        interval.begun_with = now;
    }

    fn lock(&self) -> MutexGuard<'_, Interval> {
        self.0.interval.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bucket(value: u64) -> usize {
    let (mut digits, mut decade) = (value, 0);
    while digits >= EXACT {
        digits /= 10;
        decade += 1;
    }
    // Two digits fit into any usize.
    let digits = usize::try_from(digits).unwrap_or(0);
    let above = |decade: usize| EXACT as usize + (decade - 1) * PER_DECADE + digits - 10;
    if decade == 0 { digits } else { above(decade).min(BUCKETS - 1) }
}

/// From where to where a bucket goes.
fn bounds(bucket: usize) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "buckets are few")]
    let number = |digits: usize| digits as f64;
    let Some(above) = bucket.checked_sub(EXACT as usize) else {
        // Two significant digits: tenths below ten.
        let width = if bucket == 0 {
            0.0
        } else if bucket < 10 {
            0.1
        } else {
            1.0
        };
        return (number(bucket), width);
    };
    let scale = (0..=above / PER_DECADE).fold(1.0, |scale, _| scale * 10.0);
    (number(above % PER_DECADE + 10) * scale, scale)
}

/// How many values fell into each bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<usize, u64>);

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
impl Counts {
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The value below which so many percent lie; `None` where nothing was recorded.
    pub(crate) fn quantile(&self, percent: f64) -> Option<f64> {
        let rank = (self.total() as f64 * percent / 100.0).ceil().max(1.0);
        let mut before = 0.0;
        self.0.iter().find_map(|(&bucket, &count)| {
            let (within, count) = (rank - before, count as f64);
            before += count;
            let (lower, width) = bounds(bucket);
            // The values of a bucket are taken to be spread evenly over it.
            (within <= count).then_some(lower + width * within / (count + 1.0))
        })
    }

    /// How many values are not above `limit`.
    pub(crate) fn up_to(&self, limit: f64) -> u64 {
        self.0.iter().take_while(|(bucket, _)| bounds(**bucket).0 <= limit).map(|(_, count)| count).sum()
    }

    /// The sum of all values, each taken for the middle of its bucket.
    pub(crate) fn sum(&self) -> f64 {
        let middle = |(lower, width): (f64, f64)| {
            if lower == 0.0 { 0.0 } else { lower + width * lower / (2.0 * lower + width) }
        };
        // Not `sum`: that of nothing is -0.
        self.0.iter().fold(0.0, |sum, (bucket, count)| sum + middle(bounds(*bucket)) * *count as f64)
    }

    fn without(&self, before: &Self) -> Self {
        let new = |(bucket, count): (&usize, &u64)| {
            let new = count - before.0.get(bucket).copied().unwrap_or(0).min(*count);
            (new > 0).then_some((*bucket, new))
        };
        Self(self.0.iter().filter_map(new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[u64]) -> Counts {
        let histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value));
        histogram.cumulative()
    }

    #[test]
    fn a_value_falls_into_the_bucket_that_holds_it() {
        for value in (0..2_000).chain([9_999, 10_000, 123_456, 99_999_999_999]) {
            let (lower, width) = bounds(bucket(value));
            let value = value as f64;
            assert!(lower <= value && (value < lower + width || width == 0.0), "{value}: {lower}+{width}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    /// The figures are those that Envoy 1.40 showed for the same values.
    #[test]
    fn quantiles_are_envoys() {
        let show = |values: &[u64]| {
            let counts = counts(values);
            QUANTILES.map(|percent| counts.quantile(percent).unwrap())
        };
        let expected = [1.05, 1.05, 9.05, 10.5, 25.5, 25.5, 25.5, 25.5, 25.5, 25.5];
        assert_eq!(show(&[10, 1, 25, 9]), expected);
        assert_eq!(show(&[1, 1, 1, 1]), [1.02, 1.02, 1.04, 1.06, 1.08, 1.08, 1.08, 1.08, 1.08, 1.08]);
        assert_eq!(show(&[0]), [0.0; 10]);
    }

    #[test]
    fn sums_and_limits_are_envoys() {
        assert!(counts(&[]).sum().is_sign_positive());
        let counts = counts(&[1, 9, 10, 25]);
        assert!((counts.sum() - 46.063_729_359_146_98).abs() < 1e-9);
        assert_eq!([0.5, 1.0, 5.0, 10.0, 25.0, 50.0].map(|limit| counts.up_to(limit)), [0, 1, 1, 3, 4, 4]);
        assert_eq!(Counts::default().quantile(50.0), None);
    }

    #[test]
    fn an_interval_has_what_was_recorded_in_it() {
        let histogram = Histogram::default();
        histogram.record(5);
        histogram.record(500);
        assert_eq!(histogram.interval().total(), 0);
        histogram.next_interval();
        histogram.record(5);
        assert_eq!(histogram.interval().total(), 2);
        histogram.next_interval();
        assert_eq!((histogram.interval().total(), histogram.cumulative().total()), (1, 3));
    }
}
