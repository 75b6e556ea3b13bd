//! The time of day, injected so that tests decide it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time in microseconds since the Unix epoch, UTC: the form in which services store it.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is [advanced](Clock::advance). Clones share its time.
    pub fn fixed(micros: i64) -> Self {
        Self(Source::Fixed(Arc::new(AtomicI64::new(micros))))
    }

    /// Now, in microseconds since the Unix epoch, UTC.
    pub fn now_micros(&self) -> i64 {
        match &self.0 {
            // A machine whose clock stands before 1970 or after the year 294,000 has no usable time.
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
            Source::Fixed(micros) => micros.load(Ordering::SeqCst),
        }
    }

    /// Moves a fixed clock forward; the system's clock moves by itself.
    pub fn advance(&self, by: Duration) {
        if let Source::Fixed(micros) = &self.0 {
            micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    /// Now, as the certificate libraries take it.
    pub(crate) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.now_micros().unsigned_abs())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}
