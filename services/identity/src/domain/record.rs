//! Source records, their versions, and the keys that link them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::{
    GoldenId, SourceRef, Timestamp,
    contact::{self, Address},
};

/// Mailboxes that forms are filled with when there is no address: they say nothing of a person.
const PLACEHOLDER_MAILBOXES: [&str; 9] =
    ["noreply", "no-reply", "donotreply", "none", "na", "unknown", "nobody", "noemail", "no-email"];

/// What identifies a person to a system, normalised. Records that share one are of one person.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(String);

impl Key {
    /// The key of an e-mail address; none if the text is no address, or one that stands for "none".
    pub(crate) fn email(text: &str) -> Option<Self> {
        let address = contact::email(text)?;
        let placeholder =
            address.split_once('@').is_some_and(|(mailbox, _)| PLACEHOLDER_MAILBOXES.contains(&mailbox));
        (!placeholder).then(|| Self(format!("email:{address}")))
    }

    /// The key of a phone number; none if the text is no number, or one digit over and over.
    pub(crate) fn phone(text: &str) -> Option<Self> {
        let number = contact::phone(text)?;
        let subscriber = number.as_bytes().get(2..).unwrap_or_default();
        let placeholder = subscriber.windows(2).all(|pair| pair[0] == pair[1]);
        (!placeholder).then(|| Self(format!("phone:{number}")))
    }

    /// The key of a loyalty card.
    pub(crate) fn loyalty_card(text: &str) -> Option<Self> {
        contact::loyalty_card(text).map(|number| Self(format!("loyalty_card:{number}")))
    }

    /// A key as it was stored.
    pub(crate) fn from_trusted(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a record says of a person, as the source wrote it; what it does not say is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    pub(crate) given_name: String,
    pub(crate) family_name: String,
    pub(crate) email: String,
    pub(crate) phone: String,
    pub(crate) loyalty_card: String,
    pub(crate) address: Address,
}

impl Attributes {
    pub(crate) fn keys(&self) -> BTreeSet<Key> {
        [Key::email(&self.email), Key::phone(&self.phone), Key::loyalty_card(&self.loyalty_card)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// One version of a source record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) source: SourceRef,
    pub(crate) attributes: Attributes,
    /// When the source wrote this version.
    pub(crate) update_time: Timestamp,
}

/// A source record with all its versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SourceRecord {
    /// Whose it is; none until it is resolved for the first time.
    pub(crate) golden_id: Option<GoldenId>,
    pub(crate) versions: BTreeMap<Timestamp, Attributes>,
}

impl SourceRecord {
    /// Takes in a version, whichever time it arrives; of two with the same time the one that arrives later counts.
    /// False if it is known already.
    pub(crate) fn learn(&mut self, record: &Record) -> bool {
        let known = self.versions.insert(record.update_time, record.attributes.clone());
        known.as_ref() != Some(&record.attributes)
    }

    /// The keys of the newest version: older ones no longer link.
    pub(crate) fn keys(&self) -> BTreeSet<Key> {
        self.versions.last_key_value().map(|(_, attributes)| attributes.keys()).unwrap_or_default()
    }

    /// When the source first wrote the record.
    pub(crate) fn first_time(&self) -> Timestamp {
        self.versions.first_key_value().map(|(time, _)| *time).unwrap_or_default()
    }

    /// The versions that say something else than the one before. All versions are kept nevertheless: one that
    /// repeats its predecessor today stands against an older one that arrives tomorrow.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (Timestamp, &Attributes)> {
        let mut before = None;
        self.versions.iter().filter_map(move |(time, attributes)| {
            let differs = before != Some(attributes);
            before = Some(attributes);
            differs.then_some((*time, attributes))
        })
    }
}

/// What a person's records said, oldest first.
pub(crate) fn chronology(records: BTreeMap<SourceRef, SourceRecord>) -> Vec<Record> {
    let mut chronology: Vec<Record> = records
        .iter()
        .flat_map(|(source, record)| {
            record.changes().map(|(update_time, attributes)| Record {
                source: source.clone(),
                attributes: attributes.clone(),
                update_time,
            })
        })
        .collect();
    chronology.sort_by(|a, b| (a.update_time, &a.source).cmp(&(b.update_time, &b.source)));
    chronology
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(email: &str, time: i64) -> Record {
        Record {
            source: SourceRef::new("shop", "1").expect("valid"),
            attributes: Attributes { email: email.to_owned(), ..Attributes::default() },
            update_time: Timestamp::from_micros(time),
        }
    }

    #[test]
    fn placeholders_are_nobodys_keys() {
        for (key, expect) in [
            (Key::email("NoReply@shop.example"), None),
            (Key::email("maria@mail.example "), Some("email:maria@mail.example")),
            (Key::phone("999-999-9999"), None),
            (Key::phone("(513) 555-0142"), Some("phone:+15135550142")),
            (Key::loyalty_card("98 40"), Some("loyalty_card:9840")),
            (Key::loyalty_card(""), None),
        ] {
            assert_eq!(key.as_ref().map(Key::as_str), expect);
        }
    }

    #[test]
    fn versions_count_by_their_time_not_by_their_arrival() {
        let arrivals = [version("b@x.example", 2), version("a@x.example", 1), version("a@x.example", 3)];
        let mut record = SourceRecord::default();
        assert!(arrivals.iter().all(|version| record.learn(version)));
        assert!(!record.learn(&version("b@x.example", 2)), "a version that is known changes nothing");
        assert_eq!(record.keys(), BTreeSet::from([Key("email:a@x.example".to_owned())]));
        let times: Vec<i64> = record.changes().map(|(time, _)| time.micros()).collect();
        assert_eq!(times, [1, 2, 3]);
    }

    #[test]
    fn of_versions_with_one_time_the_last_arrival_counts() {
        for arrivals in [
            [version("a@x.example", 1), version("b@x.example", 1), version("c@x.example", 2)],
            [version("a@x.example", 1), version("c@x.example", 2), version("b@x.example", 1)],
            [version("c@x.example", 2), version("a@x.example", 1), version("b@x.example", 1)],
        ] {
            let mut record = SourceRecord::default();
            assert!(arrivals.iter().all(|version| record.learn(version)));
            let said: Vec<&str> = record.changes().map(|(_, attributes)| attributes.email.as_str()).collect();
            assert_eq!(said, ["b@x.example", "c@x.example"]);
        }
    }

    #[test]
    fn a_version_that_says_nothing_new_is_no_change() {
        let mut record = SourceRecord::default();
        for arrival in [version("a@x.example", 1), version("a@x.example", 2), version("b@x.example", 3)] {
            record.learn(&arrival);
        }
        let times: Vec<i64> = record.changes().map(|(time, _)| time.micros()).collect();
        assert_eq!(times, [1, 3]);
    }
}
