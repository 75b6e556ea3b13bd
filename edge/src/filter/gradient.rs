//! How many calls may be under way at once: a limit that follows how long they take, as Envoy's gradient controller
//! sets it.
//!
//! From time to time few calls are let through, which shows what a call takes where none waits for another. As long
//! as calls take hardly longer than that, the limit grows; the longer they take, the further it sinks. No call waits
//! here: what is above the limit is refused at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::stats::{Counter, Gauge, Scope};

/// Samples kept between two looks; more would hardly say more.
const MOST_SAMPLES: usize = 1000;
/// The limit was as low as it gets so many times: what is known of the time a call takes may be wrong.
const LOW_TOO_OFTEN: u32 = 5;

/// The names are Envoy's.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// 0 to 1.
    pub(super) sample_aggregate_percentile: f64,
    pub(super) max_concurrency_limit: u32,
    pub(super) min_concurrency_limit: u32,
    pub(super) concurrency_update_interval: Duration,
    pub(super) min_rtt: MinRtt,
    /// How much longer than that a call may take, as a share of it.
    pub(super) buffer: f64,
}

/// What a call takes where none waits for another.
#[derive(Clone, Debug)]
pub(super) enum MinRtt {
    Fixed(Duration),
    Measured {
        interval: Duration,
        /// The longest share of the interval by which a measurement is put off.
        jitter: f64,
        request_count: usize,
        /// The limit while it is measured.
        min_concurrency: u32,
    },
}

#[derive(Debug)]
pub(super) struct Gradient {
    settings: Settings,
    active: AtomicU32,
    state: Mutex<State>,
    stats: Stats,
}

#[derive(Debug)]
struct State {
    limit: u32,
    min_rtt: Duration,
    /// Calls that began before are of another limit.
    epoch: Instant,
    samples: Vec<Duration>,
    taken: usize,
    /// When the limit is looked at next.
    look: Instant,
    phase: Phase,
    low: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Fixed,
    /// The limit to go back to.
    Measuring(u32),
    MeasureAt(Instant),
}

/// `….gradient_controller.…`
#[derive(Debug)]
struct Stats {
    blocked: Counter,
    limit: Gauge,
    min_rtt: Gauge,
    measuring: Gauge,
    sample_rtt: Gauge,
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Permit {
    gradient: Arc<Gradient>,
    began: Instant,
}

impl Permit {
    /// The call has taken its time.
    pub(super) fn sample(&self, now: Instant) {
        self.gradient.sample(self.began, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gradient.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gradient {
    pub(super) fn new(settings: Settings, scope: &Scope, now: Instant) -> Self {
        let scope = scope.scope("gradient_controller");
        let stats = Stats {
            blocked: scope.counter("rq_blocked"),
            limit: scope.gauge("concurrency_limit"),
            min_rtt: scope.gauge("min_rtt_msecs"),
            measuring: scope.gauge("min_rtt_calculation_active"),
            sample_rtt: scope.gauge("sample_rtt_msecs"),
        };
        let mut state = State {
            limit: settings.min_concurrency_limit,
            min_rtt: Duration::ZERO,
            epoch: now,
            samples: Vec::new(),
            taken: 0,
            look: now + settings.concurrency_update_interval,
            phase: Phase::Fixed,
            low: 0,
        };
        match settings.min_rtt {
            MinRtt::Fixed(fixed) => state.min_rtt = fixed,
            MinRtt::Measured { .. } => state.phase = Phase::MeasureAt(now),
        }
        let gradient = Self { settings, active: AtomicU32::new(0), state: Mutex::new(state), stats };
        gradient.look(now);
        gradient
    }

    /// Lets a call through that may take `share` of the limit.
    pub(super) fn admit(self: &Arc<Self>, share: f64, now: Instant) -> Option<Permit> {
        let limit = f64::from(self.look(now));
        let active = self.active.fetch_add(1, Ordering::Relaxed);
        let permit = Permit { gradient: Arc::clone(self), began: now };
        // The least important call passes where there is no other.
        if f64::from(active) < (limit * share).max(1.0) {
            return Some(permit);
        }
        self.stats.blocked.inc();
        None
    }

    /// The limit as it is now.
    fn look(&self, now: Instant) -> u32 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.phase {
            Phase::MeasureAt(at) if at <= now => self.measure(&mut state, now),
            Phase::Fixed | Phase::MeasureAt(_) if state.look <= now => self.update(&mut state, now),
            _ => {}
        }
        self.stats.limit.set(state.limit.into());
        state.limit
    }

    fn sample(&self, began: Instant, now: Instant) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if began < state.epoch {
                return;
            }
            let at = state.taken % MOST_SAMPLES;
            state.taken += 1;
            let took = now.saturating_duration_since(began);
            match state.samples.get_mut(at) {
                Some(old) => *old = took,
                None => state.samples.push(took),
            }
            if let (Phase::Measuring(limit), &MinRtt::Measured { request_count, interval, jitter, .. }) =
                (state.phase, &self.settings.min_rtt)
                && state.taken >= request_count
            {
                state.min_rtt = self.aggregate(&mut state.samples).unwrap_or_default();
                self.stats.min_rtt.set(milliseconds(state.min_rtt));
                self.stats.measuring.set(0);
                let put_off = interval.mul_f64(jitter * rand::random::<f64>());
                state.phase = Phase::MeasureAt(now + interval + put_off);
                state.limit = limit;
                state.start_over(now, now + self.settings.concurrency_update_interval);
            }
        }
        self.look(now);
    }

    /// Lets few calls through until it is known again what they take.
    fn measure(&self, state: &mut State, now: Instant) {
        let MinRtt::Measured { min_concurrency, .. } = self.settings.min_rtt else { return };
        self.stats.measuring.set(1);
        state.phase = Phase::Measuring(state.limit);
        state.limit = min_concurrency;
        state.low = 0;
        state.start_over(now, now);
    }

    /// Moves the limit by what calls took since the last look.
    fn update(&self, state: &mut State, now: Instant) {
        state.look = now + self.settings.concurrency_update_interval;
        let Some(took) = self.aggregate(&mut state.samples) else { return };
        self.stats.sample_rtt.set(milliseconds(took));
        let due = state.min_rtt.mul_f64(1.0 + self.settings.buffer);
        let gradient = (due.as_secs_f64() / took.as_secs_f64().max(f64::EPSILON)).clamp(0.5, 2.0);
        let moved = f64::from(state.limit) * gradient;
        let Settings { min_concurrency_limit: min, max_concurrency_limit: max, .. } = self.settings;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between min and max")]
        let limit = (moved + moved.sqrt()).clamp(min.into(), max.into()) as u32;
        state.low = if limit == min && state.limit == min { state.low + 1 } else { 0 };
        state.limit = limit;
        state.start_over(state.epoch, state.look);
        if state.low >= LOW_TOO_OFTEN {
            self.measure(state, now);
        }
    }

    fn aggregate(&self, samples: &mut [Duration]) -> Option<Duration> {
        samples.sort_unstable();
        let last = samples.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index of at most a thousand"
        )]
        let at = (last as f64 * self.settings.sample_aggregate_percentile).round() as usize;
        samples.get(at).copied()
    }
}

impl State {
    fn start_over(&mut self, epoch: Instant, look: Instant) {
        self.samples.clear();
        self.taken = 0;
        self.epoch = epoch;
        self.look = look;
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats;

    const MS: Duration = Duration::from_millis(1);

    fn settings(min_rtt: MinRtt) -> Settings {
        Settings {
            sample_aggregate_percentile: 0.5,
            max_concurrency_limit: 1000,
            min_concurrency_limit: 3,
            concurrency_update_interval: 100 * MS,
            min_rtt,
            buffer: 0.25,
        }
    }

    fn gradient(min_rtt: MinRtt, now: Instant) -> Arc<Gradient> {
        let scope = stats::Stats::default().scope("shedding");
        Arc::new(Gradient::new(settings(min_rtt), &scope, now))
    }

    /// Calls that take this long, as many as may be, until the limit is looked at again; the limit then.
    fn interval(gradient: &Arc<Gradient>, now: &mut Instant, took: Duration) -> u32 {
        let permits: Vec<_> = std::iter::from_fn(|| gradient.admit(1.0, *now)).collect();
        for permit in permits {
            permit.sample(*now + took);
        }
        *now += took.max(101 * MS);
        gradient.look(*now)
    }

    #[test]
    fn the_limit_follows_how_long_calls_take() {
        for (took, limits) in [
            // As fast as alone: a quarter more each time, and a root of it.
            (10 * MS, vec![5, 8, 13]),
            (5 * MS, vec![8, 20, 46]),
            // A quarter slower is what is allowed for.
            (Duration::from_micros(12_500), vec![4, 6, 8]),
            // Four times slower: it halves at most.
            (40 * MS, vec![3, 3, 3]),
        ] {
            let mut now = Instant::now();
            let gradient = gradient(MinRtt::Fixed(10 * MS), now);
            let seen: Vec<_> = limits.iter().map(|_| interval(&gradient, &mut now, took)).collect();
            assert_eq!(seen, limits, "{took:?}");
        }
    }

    #[test]
    fn it_settles_where_a_backend_is_just_busy() {
        let mut now = Instant::now();
        let gradient = gradient(MinRtt::Fixed(10 * MS), now);
        let mut limit = 3;
        // Ten at a time take ten milliseconds; more wait for each other.
        for _ in 0..100 {
            limit = interval(&gradient, &mut now, MS * limit.max(10));
        }
        assert!((13..=20).contains(&limit), "{limit}");
    }

    #[test]
    fn what_calls_take_alone_is_measured_again_and_again() {
        let start = Instant::now();
        let measured = MinRtt::Measured {
            interval: Duration::from_secs(60),
            jitter: 0.0,
            request_count: 4,
            min_concurrency: 2,
        };
        let gradient = gradient(measured, start);
        assert_eq!(gradient.look(start), 2);
        for _ in 0..2 {
            let permits: Vec<_> = std::iter::from_fn(|| gradient.admit(1.0, start)).collect();
            assert_eq!(permits.len(), 2);
            permits.iter().for_each(|permit| permit.sample(start + 7 * MS));
        }
        assert_eq!(gradient.stats.min_rtt.value(), 7);
        assert_eq!(gradient.look(start + 8 * MS), 3);
        let before = gradient.admit(1.0, start + 59_999 * MS).unwrap();
        let later = start + 60_008 * MS;
        assert_eq!(gradient.look(later), 2);
        // A call of the time before says nothing of the time now.
        before.sample(later);
        assert_eq!(gradient.stats.measuring.value(), 1);
    }

    #[test]
    fn the_least_important_calls_go_first() {
        let now = Instant::now();
        let settings = Settings { min_concurrency_limit: 10, ..settings(MinRtt::Fixed(10 * MS)) };
        let gradient = Arc::new(Gradient::new(settings, &stats::Stats::default().scope("shedding"), now));
        let mut permits = Vec::new();
        for (share, more) in [(0.5, 5), (0.5, 0), (0.8, 3), (0.5, 0), (1.0, 2), (1.0, 0)] {
            let before = permits.len();
            permits.extend(std::iter::from_fn(|| gradient.admit(share, now)));
            assert_eq!(permits.len() - before, more, "{share}");
        }
        permits.truncate(4);
        assert!(gradient.admit(0.5, now).is_some());
        permits.clear();
        assert!(gradient.admit(0.0, now).is_some(), "nobody else is there");
        assert_eq!(gradient.stats.blocked.value(), 6);
    }
}
