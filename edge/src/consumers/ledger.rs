//! What one consumer has left of its monthly quota on this edge.
//!
//! Edges lease portions of a quota from the database, which hands out no more than there is: so many edges together
//! never let more calls through. A call takes from the lease without asking anybody; the next portion is asked for
//! when half of the last is spent. An edge that ends well gives back what it has not spent; one that is killed loses
//! it, at most a portion.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::Month;

/// A portion is a thousandth of the quota, but at least this many calls.
const LEAST_PORTION: u64 = 100;

/// How many calls to lease: less and less towards the end, so that every edge gets of what is left.
pub(super) fn portion(quota: u64, leased: u64) -> u64 {
    let left = quota.saturating_sub(leased);
    (quota / 1000).max(LEAST_PORTION).min(left.div_ceil(4))
}

/// The calls of one consumer.
#[derive(Debug)]
pub(super) struct Ledger {
    state: Mutex<State>,
    /// A lease was asked for, and the answer is there.
    answered: Notify,
}

#[derive(Debug)]
struct State {
    month: Month,
    /// When the month ends.
    end: Timestamp,
    /// Calls of the last portion, and what is left of all of them.
    portion: u64,
    left: u64,
    /// Calls of the quota that nobody has leased, as the database said last.
    beyond: u64,
    lease: Lease,
    counts: Counts,
    /// Of the month before, which the database has yet to be told.
    before: Option<(Month, Counts)>,
}

/// How it stands with the next portion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lease {
    Idle,
    /// Nobody has answered yet.
    Asked,
    /// The database had none left; whether somebody has asked since.
    Exhausted {
        wanted: bool,
    },
    /// The database did not answer.
    Failed,
}

/// What the database is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Calls that were made.
    pub(super) used: u64,
    /// Those of them that no lease covers.
    pub(super) uncovered: u64,
    /// Leased calls that will not be made.
    pub(super) returned: u64,
}

/// What became of a call's wish to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is counted; so many are left.
    Counted { left: u64 },
    /// The next portion has to be waited for.
    Wait,
    /// Nothing is left before the month ends.
    Exhausted,
    /// It is not known whether anything is left.
    Failed,
}

impl Ledger {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { state: Mutex::new(State::of(Month::of(now))), answered: Notify::new() }
    }

    /// Counts a call; the second value says that the next portion is wanted now.
    pub(super) fn take(&self, quota: Option<u64>, now: Timestamp) -> (Taken, bool) {
        let mut state = self.state();
        state.turn(now);
        state.take(quota)
    }

    /// Counts a call that is let through without being covered.
    pub(super) fn take_uncovered(&self) {
        let counts = &mut self.state().counts;
        counts.used += 1;
        counts.uncovered += 1;
    }

    /// When the next portion is there, or is known not to come.
    pub(super) fn answered(&self) -> &Notify {
        &self.answered
    }

    /// When the month ends.
    pub(super) fn end(&self) -> Timestamp {
        self.state().end
    }

    /// Whether a portion is wanted from the database: where it had none before, another edge may have given some back.
    pub(super) fn wants_lease(&self) -> bool {
        !matches!(self.state().lease, Lease::Idle | Lease::Exhausted { wanted: false })
    }

    /// Whose calls the database should be told of; with `all`, what is left is given back.
    pub(super) fn settle(&self, all: bool, now: Timestamp) -> Vec<(Month, Counts)> {
        let mut state = self.state();
        state.turn(now);
        if all {
            state.counts.returned += std::mem::take(&mut state.left);
        }
        let current = (state.month, std::mem::take(&mut state.counts));
        let told = state.before.take().into_iter().chain([current]);
        told.filter(|(_, counts)| *counts != Counts::default()).collect()
    }

    /// Takes back what the database may not have been told. Whether it was is not known: so nothing is given back twice.
    pub(super) fn keep(&self, told: Vec<(Month, Counts)>) {
        let mut state = self.state();
        for (month, counts) in told {
            let counts = Counts { returned: 0, ..counts };
            if month == state.month {
                state.counts.add(counts);
            } else {
                state.before.get_or_insert((month, Counts::default())).1.add(counts);
            }
        }
    }

    /// The month for which a portion is leased.
    pub(super) fn month(&self) -> Month {
        self.state().month
    }

    /// The database's answer: what it leased, and what is beyond.
    pub(super) fn leased(&self, month: Month, granted: u64, beyond: u64) {
        let mut state = self.state();
        if month == state.month {
            state.left += granted;
            state.portion = granted;
            state.beyond = beyond;
            state.lease = if granted > 0 { Lease::Idle } else { Lease::Exhausted { wanted: false } };
        } else {
            // It came too late for its month.
            state.before.get_or_insert((month, Counts::default())).1.returned += granted;
        }
        drop(state);
        self.answered.notify_waiters();
    }

    /// The database did not answer: nobody waits for it until it does. Says whether that is news.
    pub(super) fn failed(&self) -> bool {
        let mut state = self.state();
        let news = !matches!(state.lease, Lease::Idle | Lease::Failed);
        if news {
            state.lease = Lease::Failed;
        }
        drop(state);
        self.answered.notify_waiters();
        news
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(month: Month) -> Self {
        Self {
            month,
            end: month.end(),
            portion: 0,
            left: 0,
            beyond: 0,
            lease: Lease::Idle,
            counts: Counts::default(),
            before: None,
        }
    }

    /// Begins the month of `now`, if it is another one. A lease ends with its month.
    fn turn(&mut self, now: Timestamp) {
        if now < self.end {
            return;
        }
        let mut old = std::mem::replace(self, Self::of(Month::of(now)));
        old.counts.returned += old.left;
        self.before = Some((old.month, old.counts));
    }

    fn take(&mut self, quota: Option<u64>) -> (Taken, bool) {
        if quota.is_none() {
            self.counts.used += 1;
            self.counts.uncovered += 1;
            return (Taken::Counted { left: 0 }, false);
        }
        if self.left > 0 {
            self.left -= 1;
            self.counts.used += 1;
            let low = self.left <= self.portion / 2 && self.lease == Lease::Idle && self.beyond > 0;
            if low {
                self.lease = Lease::Asked;
            }
            return (Taken::Counted { left: self.left + self.beyond }, low);
        }
        match self.lease {
            Lease::Exhausted { .. } => {
                self.lease = Lease::Exhausted { wanted: true };
                (Taken::Exhausted, false)
            }
            Lease::Failed => (Taken::Failed, false),
            Lease::Idle => {
                self.lease = Lease::Asked;
                (Taken::Wait, true)
            }
            Lease::Asked => (Taken::Wait, false),
        }
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.used += other.used;
        self.uncovered += other.uncovered;
        self.returned += other.returned;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_portion_is_small_against_the_quota_and_all_of_it_can_be_leased() {
        for (quota, leased, expected) in [
            (1_000_000, 0, 1000),
            (1_000_000, 999_000, 250),
            (50_000, 0, 100),
            (100, 0, 25),
            (100, 97, 1),
            (1, 0, 1),
            (0, 0, 0),
            (100, 100, 0),
            // It was more before the plan was changed.
            (100, 400, 0),
        ] {
            assert_eq!(portion(quota, leased), expected, "{leased} of {quota}");
        }
        for quota in [0, 1, 2, 7, 100, 12_345] {
            let mut leased = 0;
            while portion(quota, leased) > 0 {
                leased += portion(quota, leased);
            }
            assert_eq!(leased, quota);
        }
    }

    #[test]
    fn calls_take_from_the_lease_and_the_next_one_is_asked_for_ahead() {
        let now = at("2026-11-21T12:00:00Z");
        let (ledger, quota) = (Ledger::new(now), Some(10));
        assert_eq!(ledger.take(quota, now), (Taken::Wait, true));
        assert_eq!(ledger.take(quota, now), (Taken::Wait, false), "it is asked for once");
        assert!(ledger.wants_lease());
        ledger.leased(ledger.month(), 4, 6);
        for (left, ahead) in [(9, false), (8, true), (7, false), (6, false)] {
            assert_eq!(ledger.take(quota, now), (Taken::Counted { left }, ahead));
        }
        assert_eq!(ledger.take(quota, now), (Taken::Wait, false));
        ledger.leased(ledger.month(), 0, 0);
        assert!(!ledger.wants_lease());
        assert_eq!(ledger.take(quota, now), (Taken::Exhausted, false));
        assert!(ledger.wants_lease(), "another edge may give some back");
        let told = [(ledger.month(), Counts { used: 4, ..Counts::default() })];
        assert_eq!(ledger.settle(true, now), told);
        assert_eq!(ledger.settle(true, now), []);
    }

    #[test]
    fn a_database_that_does_not_answer_is_waited_for_once() {
        let now = at("2026-11-21T12:00:00Z");
        let (ledger, quota) = (Ledger::new(now), Some(10));
        assert_eq!(ledger.take(quota, now), (Taken::Wait, true));
        assert!(ledger.failed());
        assert!(!ledger.failed(), "it is news once");
        assert_eq!(ledger.take(quota, now), (Taken::Failed, false));
        ledger.take_uncovered();
        let told = ledger.settle(false, now);
        assert_eq!(told, [(ledger.month(), Counts { used: 1, uncovered: 1, returned: 0 })]);
        ledger.keep(told.clone());
        assert_eq!(ledger.settle(false, now), told, "what could not be told is told later");
        ledger.leased(ledger.month(), 3, 7);
        assert!(!ledger.failed());
        assert_eq!(ledger.take(quota, now), (Taken::Counted { left: 9 }, false), "a lease goes on");
    }

    #[test]
    fn a_lease_ends_with_its_month() {
        let (november, december) = (at("2026-11-30T23:59:59Z"), at("2026-12-01T00:00:00Z"));
        let (ledger, quota) = (Ledger::new(november), Some(10));
        let month = ledger.month();
        ledger.leased(month, 3, 7);
        assert_eq!(ledger.take(quota, november).0, Taken::Counted { left: 9 });
        assert_eq!(ledger.take(quota, december), (Taken::Wait, true));
        ledger.leased(month, 5, 0);
        assert_eq!(
            ledger.take(quota, december),
            (Taken::Wait, false),
            "what comes late is not of this month"
        );
        assert_eq!(ledger.take(None, december).0, Taken::Counted { left: 0 });
        assert_eq!(
            ledger.settle(false, december),
            [
                (month, Counts { used: 1, uncovered: 0, returned: 7 }),
                (ledger.month(), Counts { used: 1, uncovered: 1, returned: 0 }),
            ]
        );
    }
}
