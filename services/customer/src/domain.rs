//! Customers, and what their profiles are made of.

mod profile;

pub(crate) use profile::{
    Attributes, Correction, Evidence, Field, Period, Profile, Provenance, Record, Rule,
};

use std::{collections::BTreeMap, mem};

use serde::{Deserialize, Serialize};
use types::{GoldenId, SourceRef, Timestamp};

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Customer {
    pub(crate) golden_id: GoldenId,
    pub(crate) profile: Profile,
    pub(crate) merged_into: Option<GoldenId>,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    /// Version of the identity that the profile was made of.
    pub(crate) identity_version: i64,
    /// Counts the changes.
    pub(crate) revision: i64,
}

impl Customer {
    pub(crate) fn etag(&self) -> String {
        types::etag(&[self.golden_id.to_string().as_bytes(), &self.revision.to_le_bytes()])
    }
}

/// A customer with what the profile is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) customer: Customer,
    pub(crate) evidence: Evidence,
    /// Of each period of the evidence's history, oldest first.
    pub(crate) recorded: Vec<Recorded>,
}

/// When a period was recorded as it is now, and of which version of the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) time: Timestamp,
    pub(crate) identity_version: i64,
}

/// A period of a history, and how long it was held to be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// Its place in the history, from 1.
    pub(crate) number: i64,
    pub(crate) period: Period,
    pub(crate) recorded: Recorded,
    /// When something else was recorded in its place.
    pub(crate) superseded: Option<Timestamp>,
}

/// What a renewal changed in what is known of a customer's past and present.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// What stands now, oldest first.
    pub(crate) history: Vec<Version>,
    /// What stood until now.
    pub(crate) superseded: Vec<Version>,
}

impl Person {
    fn new(golden_id: GoldenId, create_time: Timestamp) -> Self {
        let customer = Customer {
            golden_id,
            profile: Profile::default(),
            merged_into: None,
            create_time,
            update_time: create_time,
            identity_version: 0,
            revision: 0,
        };
        Self { customer, evidence: Evidence::default(), recorded: Vec::new() }
    }

    /// Brings the profile in line with the evidence. Returns what that changes for anybody who saw `before`.
    pub(crate) fn renew(&mut self, before: Option<&Self>, now: Timestamp) -> Option<Renewal> {
        let history = self.evidence.history();
        let known = before.map(|before| before.evidence.history()).unwrap_or_default();
        if before.is_some_and(|before| before.customer.merged_into == self.customer.merged_into)
            && known == history
        {
            return None;
        }
        // What is recorded later bears a later time, whatever the clock does.
        let earliest = before.map(|before| Timestamp::from_micros(before.customer.update_time.micros() + 1));
        let now = earliest.map_or(now, |earliest| now.max(earliest));
        self.customer.profile = history.last().map(|period| period.profile.clone()).unwrap_or_default();
        self.customer.update_time = now;
        self.customer.identity_version = self.evidence.identity_version;
        self.customer.revision += 1;
        Some(self.record(&history, &known, now))
    }

    /// Notes since when each period of `history` is recorded: one that was `known` in its place still stands.
    fn record(&mut self, history: &[Period], known: &[Period], now: Timestamp) -> Renewal {
        let fresh = Recorded { time: now, identity_version: self.evidence.identity_version };
        let stands = |index: usize| known.get(index) == history.get(index);
        let recorded = |index| self.recorded.get(index).filter(|_| stands(index)).copied().unwrap_or(fresh);
        let recorded: Vec<_> = (0..history.len()).map(recorded).collect();
        let superseded = versions(known, &self.recorded, Some(now));
        let superseded = superseded.zip(0..).filter(|(_, index)| !stands(*index)).map(|(version, _)| version);
        let renewal = Renewal {
            superseded: superseded.collect(),
            history: versions(history, &recorded, None).collect(),
        };
        self.recorded = recorded;
        renewal
    }
}

/// A history with when each period of it was recorded.
fn versions<'p>(
    history: &'p [Period],
    recorded: &'p [Recorded],
    superseded: Option<Timestamp>,
) -> impl Iterator<Item = Version> + use<'p> {
    let periods = history.iter().cloned().zip(recorded.iter().copied()).zip(1..);
    periods.map(move |((period, recorded), number)| Version { number, period, recorded, superseded })
}

/// A person as the identity service tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdentityChange {
    pub(crate) golden_id: GoldenId,
    pub(crate) records: Vec<Record>,
    pub(crate) merged_into: Option<GoldenId>,
    pub(crate) create_time: Timestamp,
    pub(crate) version: i64,
}

/// Takes in what became of a person. Operators' corrections go with whoever absorbs it: they were about the same
/// human being.
pub(crate) fn apply(persons: &mut BTreeMap<GoldenId, Person>, change: IdentityChange) {
    let IdentityChange { golden_id, records, merged_into, create_time, version } = change;
    let person = persons.entry(golden_id).or_insert_with(|| Person::new(golden_id, create_time));
    person.customer.merged_into = merged_into;
    person.evidence.records = records;
    person.evidence.identity_version = version;
    let Some(survivor) = merged_into else { return };
    let corrections = mem::take(&mut person.evidence.corrections);
    person.evidence.records.clear();
    let survivor = persons.entry(survivor).or_insert_with(|| Person::new(survivor, create_time));
    survivor.evidence.corrections.extend(corrections);
    survivor.evidence.corrections.sort_by_key(|correction| correction.time);
}

/// What is known of a customer who is looked for, normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Clue {
    Source(SourceRef),
    Email(String),
    Phone(String),
    LoyaltyCard(String),
}

#[cfg(test)]
mod tests;
