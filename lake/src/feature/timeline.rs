//! When an entity's values changed, and when that became known: the rows of a view's table.
//!
//! Rows are only ever added. Each says from when on it is true and from when on it was known, so that what anybody could
//! have been told at a moment stays as it was, whatever comes to be known later. In the rows of an entity in the order in
//! which they become visible (the later of both times), event times never go back: a correction speaks of the present.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    fact::Purchase,
    view::{Subject, View},
};

/// Values of an entity from a moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) event_time: i64,
    pub(crate) known_at: i64,
    pub(crate) values: Vec<Option<i64>>,
}

/// The rows of an entity of which there were none: as they would have been written at the time, had there been a lake
/// that heard of each purchase when it became known. Nothing is known after `stamp`.
pub(crate) fn backfill(view: &'static View, subject: &Subject<'_>, stamp: i64) -> Vec<Row> {
    let event_times = view.event_times(subject);
    // On time, purchases are known when the values that they change become true; what comes late changes the present.
    let mut moments: BTreeSet<(i64, i64)> = event_times.iter().map(|time| (*time, *time)).collect();
    for purchase in subject.purchases.iter().chain(subject.order) {
        if purchase.known > view.counts_from(subject, purchase) {
            let present = event_times.range(..=purchase.known).next_back();
            moments.extend(present.map(|time| (purchase.known, *time)));
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut known = Known::new(subject.purchases);
    for (moment, event_time) in moments {
        let purchases = known.by(moment);
        let nothing = match subject.order {
            Some(order) => order.known > moment,
            None => purchases.is_empty(),
        };
        if nothing {
            continue;
        }
        let values = view.values(subject.order, purchases, event_time);
        if rows.last().is_none_or(|last| last.values != values) {
            rows.push(Row { event_time, known_at: moment.min(stamp), values });
        }
    }
    rows
}

/// The rows that make those which stand say what is known at `stamp`, for that moment and for what follows from it:
/// windows will leave purchases behind. `standing` has the values by event time.
pub(crate) fn advance(
    view: &'static View,
    subject: &Subject<'_>,
    standing: &BTreeMap<i64, Vec<Option<i64>>>,
    stamp: i64,
) -> Vec<Row> {
    let event_times = view.event_times(subject);
    // An order that is the entity is the time of its values, whenever they are looked at.
    let values = |time: i64| {
        view.values(subject.order, subject.purchases, subject.order.map_or(time, |order| order.at))
    };
    let mut rows = Vec::new();
    let mut say = |event_time: i64, values: &[Option<i64>]| {
        rows.push(Row { event_time, known_at: stamp, values: values.to_vec() });
    };
    let stood = standing.range(..=stamp).next_back();
    let stands = event_times.range(..=stamp).next_back();
    let mut before = None;
    if let Some(time) = stands.max(stood.map(|(time, _)| time)) {
        let now = values(*time);
        let counts = *time > stamp.saturating_sub(view.ttl);
        if counts && stood.is_none_or(|(_, stood)| *stood != now) {
            say(*time, &now);
        }
        before = Some(now);
    }
    let to_come: BTreeSet<_> =
        event_times.iter().chain(standing.keys()).filter(|time| **time > stamp).collect();
    for time in to_come {
        let then = values(*time);
        let is_said = match standing.get(time) {
            Some(said) => *said == then,
            None => before.as_ref() == Some(&then),
        };
        if !is_said {
            say(*time, &then);
        }
        before = Some(then);
    }
    rows
}

/// Purchases by when they happened, as far as they are known.
struct Known<'a> {
    all: &'a [Purchase],
    /// By when they became known; the next one that did is the last.
    to_come: Vec<&'a Purchase>,
    known: Vec<Purchase>,
}

impl<'a> Known<'a> {
    fn new(all: &'a [Purchase]) -> Self {
        let mut to_come: Vec<_> = all.iter().rev().collect();
        to_come.sort_by_key(|purchase| std::cmp::Reverse(purchase.known));
        Self { all, to_come, known: Vec::with_capacity(all.len()) }
    }

    fn by(&mut self, moment: i64) -> &[Purchase] {
        while let Some(purchase) = self.to_come.pop_if(|purchase| purchase.known <= moment) {
            let place = self.known.partition_point(|other| other.at <= purchase.at);
            self.known.insert(place, *purchase);
        }
        if self.to_come.is_empty() { self.all } else { &self.known }
    }
}

#[cfg(test)]
mod tests;
