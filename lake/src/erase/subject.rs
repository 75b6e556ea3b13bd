//! Whose keys they are, and what else the lake knows that person by.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{array::AsArray, compute::cast, datatypes::DataType};
use datafusion::execution::runtime_env::RuntimeEnv;
use types::InvalidRequest;

use crate::{
    Error, TableName,
    dataset::Store,
    deny::{SHORTEST, spellings},
    sql::Snapshot,
};

/// What tells whose a value is: the table, and a query for person, whether it is so now, and value.
const KNOWN: &[(&str, &str)] = &[
    ("silver/users_scd", "SELECT golden_id, recorded_to IS NULL, email FROM silver.users_scd"),
    ("silver/users_scd", "SELECT golden_id, recorded_to IS NULL, phone FROM silver.users_scd"),
    ("silver/users_scd", "SELECT golden_id, recorded_to IS NULL, unnest(loyalty_cards) FROM silver.users_scd"),
    (
        "silver/users_scd",
        "SELECT golden_id, stands, unnest([record['id'], concat(record['system'], '/', record['id'])]) FROM (
            SELECT golden_id, recorded_to IS NULL AS stands, unnest(source_refs) AS record FROM silver.users_scd
        )",
    ),
    (
        "silver/identity_links",
        "SELECT golden_id, recorded_to IS NULL, unnest([source_id, concat(source_system, '/', source_id)])
        FROM silver.identity_links",
    ),
    (
        "silver/events_sessionized",
        "SELECT DISTINCT golden_id, true, visitor_id FROM silver.events_sessionized WHERE golden_id IS NOT NULL",
    ),
];

/// A person, by all that stands for nobody else.
#[derive(Debug, Default)]
pub(super) struct Subject {
    pub(super) keys: BTreeSet<String>,
    /// Values that are left out: those that are others' as well, and those too short to be told from other values.
    pub(super) left_out: u64,
}

impl Subject {
    pub(super) async fn of(
        store: &Store,
        runtime: &Arc<RuntimeEnv>,
        given: &[String],
    ) -> Result<Self, Error> {
        People::read(store, runtime).await?.find(given)
    }
}

/// What is known of everybody.
#[derive(Debug, Default)]
struct People {
    /// By value: whose it is, and whose it was.
    owners: BTreeMap<String, [BTreeSet<String>; 2]>,
    values: BTreeMap<String, BTreeSet<String>>,
    /// Who has a value now.
    standing: BTreeSet<String>,
}

impl People {
    async fn read(store: &Store, runtime: &Arc<RuntimeEnv>) -> Result<Self, Error> {
        let mut people = Self::default();
        for (table, query) in KNOWN {
            let name: TableName = table.parse()?;
            let Some(dataset) = store.load(&name).await? else { continue };
            let mut snapshot = Snapshot::default();
            snapshot.insert(name, dataset);
            for rows in snapshot.context(runtime)?.sql(query).await?.collect().await? {
                let [person, stands, value] = rows.columns() else { continue };
                let (person, value) = (cast(person, &DataType::Utf8)?, cast(value, &DataType::Utf8)?);
                let texts = person.as_string::<i32>().iter().zip(value.as_string::<i32>());
                for ((person, value), stands) in texts.zip(stands.as_boolean()) {
                    if let (Some(person), Some(value)) = (person, value) {
                        people.add(person, value, stands.unwrap_or_default());
                    }
                }
            }
        }
        Ok(people)
    }

    fn add(&mut self, person: &str, value: &str, stands: bool) {
        let [now, before] = self.owners.entry(value.to_owned()).or_default();
        if stands { now } else { before }.insert(person.to_owned());
        self.values.entry(person.to_owned()).or_default().insert(value.to_owned());
        if stands {
            self.standing.insert(person.to_owned());
        }
    }

    /// Whose a value is; whose it was, if it is nobody's any more.
    fn owners(&self, value: &str) -> Option<&BTreeSet<String>> {
        let [now, before] = self.owners.get(value)?;
        Some(if now.is_empty() { before } else { now })
    }

    fn find(&self, given: &[String]) -> Result<Subject, Error> {
        let is_short = |key: &String| key.trim().len() < SHORTEST && !key.contains('/');
        if given.is_empty() || given.iter().any(is_short) {
            let reason = format!("need {SHORTEST} letters or more each; write a short id as <system>/<id>");
            return Err(InvalidRequest::new("keys", reason).into());
        }
        let mut persons = BTreeSet::new();
        for key in given {
            let spelled: Vec<_> = spellings(key).chain([key.trim().to_owned()]).collect();
            persons.extend(spelled.iter().filter(|key| self.values.contains_key(*key)).cloned());
            let owners = spelled.iter().filter_map(|key| self.owners(key));
            persons.extend(owners.filter(|owners| owners.len() == 1).flatten().cloned());
        }
        self.merge(&mut persons);
        let is_theirs = |value: &str| self.owners(value).is_none_or(|owners| owners.is_subset(&persons));
        let of_others = given.iter().filter(|key| !spellings(key).all(|key| is_theirs(&key))).count();
        if persons.is_empty() && of_others > 0 {
            return Err(InvalidRequest::new(
                "keys",
                "are of several persons; name the person by a golden id",
            )
            .into());
        }
        let known = persons.iter().flat_map(|person| self.values.get(person)).flatten();
        let all: BTreeSet<_> = known.chain(&persons).chain(given).map(|key| key.trim().to_owned()).collect();
        let is_key = |key: &String| key.len() >= SHORTEST && spellings(key).all(|key| is_theirs(&key));
        let count = all.len();
        let keys: BTreeSet<_> = all.into_iter().filter(is_key).collect();
        if keys.is_empty() {
            return Err(InvalidRequest::new("keys", "are nobody's that the lake knows").into());
        }
        Ok(Subject { left_out: (count - keys.len()) as u64, keys })
    }

    /// Adds those who have become a part of `persons`: all that they were known by is theirs now.
    fn merge(&self, persons: &mut BTreeSet<String>) {
        loop {
            let is_part = |values: &BTreeSet<String>| {
                let owners = || values.iter().filter_map(|value| self.owners(value));
                owners().next().is_some() && owners().all(|owners| owners.is_subset(persons))
            };
            let gone = self.values.iter().filter(|(person, _)| !self.standing.contains(*person));
            let parts: Vec<_> = gone
                .filter(|(person, values)| !persons.contains(*person) && is_part(values))
                .map(|(person, _)| person.clone())
                .collect();
            if parts.is_empty() {
                return;
            }
            persons.extend(parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> People {
        let mut people = People::default();
        for (person, value, stands) in [
            ("golden-ada", "ada@example.com", true),
            ("golden-ada", "+15551234567", true),
            ("golden-ada", "5", true),
            ("golden-ada", "shop/5", true),
            ("golden-bob", "+15551234567", true),
            ("golden-bob", "bob@example.com", true),
            // Ada was two persons once, and Bob had her card before it was known to be hers.
            ("golden-old", "ada@example.com", false),
            ("golden-bob", "card-000123", false),
            ("golden-ada", "card-000123", true),
        ] {
            people.add(person, value, stands);
        }
        people
    }

    fn find(given: &[&str]) -> Result<Subject, Error> {
        people().find(&given.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_person_is_known_by_all_that_is_nobody_elses() {
        let ada = ["ada@example.com", "card-000123", "golden-ada", "golden-old", "shop/5"];
        for given in ["golden-ada", "ADA@example.com", "card-000123", "shop/5"] {
            let found = find(&[given]).unwrap();
            let keys = found.keys.iter().filter(|key| *key != given || ada.contains(&given));
            assert_eq!(keys.collect::<Vec<_>>(), ada, "{given}");
            assert_eq!(found.left_out, 2, "{given}");
        }
        let both = find(&["golden-ada", "bob@example.com"]).unwrap();
        assert!(both.keys.contains("+15551234567") && both.left_out == 1);
    }

    #[test]
    fn what_is_of_several_persons_names_nobody() {
        let error = find(&["+1 555 123 4567"]).unwrap_err().to_string();
        assert!(error.contains("several persons"), "{error}");
        for short in ["5", "7"] {
            let error = find(&["golden-ada", short]).unwrap_err().to_string();
            assert!(error.contains("<system>/<id>"), "{error}");
        }
        assert!(find(&[]).is_err() && find(&["x/7"]).is_err());
        assert_eq!(find(&["unheard@example.com"]).unwrap().keys.len(), 1);
    }
}
