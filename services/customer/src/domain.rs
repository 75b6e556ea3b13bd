//! Customers, and what their profiles are made of.

mod profile;

pub(crate) use profile::{Attributes, Correction, Evidence, Field, Profile, Provenance, Record, Rule};

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
}

/// A profile's versions, each with the time from which it was true, oldest first.
pub(crate) type History = Vec<(Timestamp, Profile)>;

impl Person {
    fn new(golden_id: GoldenId, create_time: Timestamp) -> Self {
        let customer = Customer {
            golden_id,
            profile: Profile::default(),
            merged_into: None,
            create_time,
            update_time: create_time,
            revision: 0,
        };
        Self { customer, evidence: Evidence::default() }
    }

    /// Brings the profile in line with the evidence. Returns its history if that changes what anybody sees who saw
    /// `before`.
    pub(crate) fn renew(&mut self, before: Option<&Self>, now: Timestamp) -> Option<History> {
        let history = self.evidence.history();
        let seen = before.is_some_and(|before| {
            before.customer.merged_into == self.customer.merged_into && before.evidence.history() == history
        });
        if seen {
            return None;
        }
        self.customer.profile = history.last().map(|(_, profile)| profile.clone()).unwrap_or_default();
        self.customer.update_time = now;
        self.customer.revision += 1;
        Some(history)
    }
}

/// A person as the identity service tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdentityChange {
    pub(crate) golden_id: GoldenId,
    pub(crate) records: Vec<Record>,
    pub(crate) merged_into: Option<GoldenId>,
    pub(crate) create_time: Timestamp,
}

/// Takes in what became of a person. Operators' corrections go with whoever absorbs it: they were about the same
/// human being.
pub(crate) fn apply(persons: &mut BTreeMap<GoldenId, Person>, change: IdentityChange) {
    let IdentityChange { golden_id, records, merged_into, create_time } = change;
    let person = persons.entry(golden_id).or_insert_with(|| Person::new(golden_id, create_time));
    person.customer.merged_into = merged_into;
    person.evidence.records = records;
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
