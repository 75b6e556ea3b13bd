//! Survivorship: which of many records' values becomes the customer's, and since when.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};
use types::{SourceRef, Timestamp, contact::Address};

/// A field of the profile that survives on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Field {
    GivenName,
    FamilyName,
    Email,
    Phone,
    Address,
}

impl Field {
    pub(crate) const ALL: [Self; 5] =
        [Self::GivenName, Self::FamilyName, Self::Email, Self::Phone, Self::Address];

    /// The field's name in the contract.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GivenName => "given_name",
            Self::FamilyName => "family_name",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Address => "address",
        }
    }
}

/// A person's values; what is not known is empty. E-mail and phone are normalised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    pub(crate) given_name: String,
    pub(crate) family_name: String,
    pub(crate) email: String,
    pub(crate) phone: String,
    pub(crate) address: Address,
}

impl Attributes {
    fn knows(&self, field: Field) -> bool {
        match field {
            Field::GivenName => !self.given_name.is_empty(),
            Field::FamilyName => !self.family_name.is_empty(),
            Field::Email => !self.email.is_empty(),
            Field::Phone => !self.phone.is_empty(),
            Field::Address => !self.address.is_empty(),
        }
    }

    fn agrees(&self, other: &Self, field: Field) -> bool {
        match field {
            Field::GivenName => self.given_name == other.given_name,
            Field::FamilyName => self.family_name == other.family_name,
            Field::Email => self.email == other.email,
            Field::Phone => self.phone == other.phone,
            Field::Address => self.address == other.address,
        }
    }

    fn take(&mut self, other: &Self, field: Field) {
        match field {
            Field::GivenName => self.given_name.clone_from(&other.given_name),
            Field::FamilyName => self.family_name.clone_from(&other.family_name),
            Field::Email => self.email.clone_from(&other.email),
            Field::Phone => self.phone.clone_from(&other.phone),
            Field::Address => self.address.clone_from(&other.address),
        }
    }
}

/// One version of a source record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) source: SourceRef,
    pub(crate) attributes: Attributes,
    /// Normalised; empty if the record names none.
    pub(crate) loyalty_card: String,
    pub(crate) update_time: Timestamp,
}

/// What an operator said of some fields. An empty value says that the customer has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Correction {
    pub(crate) fields: BTreeSet<Field>,
    pub(crate) attributes: Attributes,
    pub(crate) time: Timestamp,
}

/// The rule that chose a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rule {
    /// The newest record that knows the field; of equally new ones the first by system and id.
    MostRecent,
    /// An operator's word, which wins over every source.
    Operator,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Provenance {
    /// None for an operator's word.
    pub(crate) source: Option<SourceRef>,
    pub(crate) update_time: Timestamp,
    pub(crate) rule: Rule,
}

/// The golden profile of a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) attributes: Attributes,
    pub(crate) loyalty_cards: BTreeSet<String>,
    pub(crate) source_refs: BTreeSet<SourceRef>,
    pub(crate) provenance: BTreeMap<Field, Provenance>,
}

/// A profile and the time in which it was true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) from: Timestamp,
    /// None in the last period.
    pub(crate) to: Option<Timestamp>,
    pub(crate) profile: Profile,
}

/// What profiles are made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The identity's version that said so.
    pub(crate) identity_version: i64,
    pub(crate) records: Vec<Record>,
    /// Oldest first.
    pub(crate) corrections: Vec<Correction>,
}

impl Evidence {
    /// The profile as it was true at a time.
    pub(crate) fn profile(&self, at: Timestamp) -> Profile {
        let mut current: BTreeMap<&SourceRef, &Record> = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.update_time <= at) {
            let newest = current.entry(&record.source).or_insert(record);
            if newest.update_time < record.update_time {
                *newest = record;
            }
        }
        let mut profile = Profile {
            loyalty_cards: current.values().map(|record| record.loyalty_card.clone()).collect(),
            source_refs: current.keys().copied().cloned().collect(),
            ..Profile::default()
        };
        profile.loyalty_cards.remove("");
        for field in Field::ALL {
            let word = self.word(field, at).map(|correction| {
                let provenance =
                    Provenance { source: None, update_time: correction.time, rule: Rule::Operator };
                (&correction.attributes, provenance)
            });
            let newest = || {
                let knowing = current.values().filter(|record| record.attributes.knows(field));
                knowing.max_by_key(|record| (record.update_time, Reverse(&record.source))).map(|record| {
                    let (source, update_time) = (Some(record.source.clone()), record.update_time);
                    (&record.attributes, Provenance { source, update_time, rule: Rule::MostRecent })
                })
            };
            if let Some((attributes, provenance)) = word.or_else(newest) {
                profile.attributes.take(attributes, field);
                profile.provenance.insert(field, provenance);
            }
        }
        profile
    }

    /// The profile between the times at which it changed, oldest first, without overlap or gap.
    pub(crate) fn history(&self) -> Vec<Period> {
        let records = self.records.iter().map(|record| record.update_time);
        let times: BTreeSet<Timestamp> =
            records.chain(self.corrections.iter().map(|correction| correction.time)).collect();
        let mut history: Vec<Period> = Vec::new();
        for from in times {
            let profile = self.profile(from);
            match history.last_mut() {
                Some(last) if last.profile == profile => continue,
                Some(last) => last.to = Some(from),
                None => {}
            }
            history.push(Period { from, to: None, profile });
        }
        history
    }

    /// Takes in an operator's word, as far as it says something new.
    pub(crate) fn correct(&mut self, mut correction: Correction) {
        correction.fields.retain(|field| {
            let said = self.word(*field, correction.time);
            said.is_none_or(|said| !said.attributes.agrees(&correction.attributes, *field))
        });
        if !correction.fields.is_empty() {
            self.corrections.push(correction);
        }
    }

    /// The operators' last word on a field.
    fn word(&self, field: Field, at: Timestamp) -> Option<&Correction> {
        self.corrections
            .iter()
            .rev()
            .find(|correction| correction.time <= at && correction.fields.contains(&field))
    }
}

#[cfg(test)]
mod tests;
