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
    deny::{SHORTEST, is_qualified, spellings},
    sql::Snapshot,
};

/// What tells whose a value is: the table, and a query for person, whether it is so now, and value.
///
/// An id of a source is a value only together with its system: alone it may also be a product's or an order's number.
const KNOWN: &[(&str, &str)] = &[
    ("silver/users_scd", "SELECT golden_id, recorded_to IS NULL, email FROM silver.users_scd"),
    ("silver/users_scd", "SELECT golden_id, recorded_to IS NULL, phone FROM silver.users_scd"),
    ("silver/users_scd", "SELECT golden_id, recorded_to IS NULL, unnest(loyalty_cards) FROM silver.users_scd"),
    (
        "silver/users_scd",
        "SELECT golden_id, stands, concat(record['system'], '/', record['id']) FROM (
            SELECT golden_id, recorded_to IS NULL AS stands, unnest(source_refs) AS record FROM silver.users_scd
        )",
    ),
    (
        "silver/identity_links",
        "SELECT golden_id, recorded_to IS NULL, concat(source_system, '/', source_id) FROM silver.identity_links",
    ),
    (
        "silver/events_sessionized",
        "SELECT DISTINCT golden_id, true, visitor_id FROM silver.events_sessionized WHERE golden_id IS NOT NULL",
    ),
    (
        // The clickstream has no customers of its own.
        "silver/events_sessionized",
        "SELECT DISTINCT golden_id, true, concat('events/', customer_id) FROM silver.events_sessionized
        WHERE golden_id IS NOT NULL AND customer_id IS NOT NULL",
    ),
];
/// Likewise, what leads to a person without being looked for: ids without their systems.
const IDS: &[(&str, &str)] = &[
    (
        "silver/users_scd",
        "SELECT golden_id, stands, record['id'] FROM (
            SELECT golden_id, recorded_to IS NULL AS stands, unnest(source_refs) AS record FROM silver.users_scd
        )",
    ),
    (
        "silver/identity_links",
        "SELECT golden_id, recorded_to IS NULL, source_id FROM silver.identity_links",
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
        let mut subject = People::read(store, runtime).await?.find(given)?;
        let orders = orders(store, runtime, &subject.keys).await?;
        subject.keys.extend(orders);
        Ok(subject)
    }
}

/// The orders of whoever has any of `keys` for a golden id: they lead to nobody, but go as well.
async fn orders(
    store: &Store,
    runtime: &Arc<RuntimeEnv>,
    keys: &BTreeSet<String>,
) -> Result<BTreeSet<String>, Error> {
    let keys: Vec<_> = keys.iter().map(|key| format!("'{}'", key.replace('\'', "''"))).collect();
    let query = format!(
        "SELECT golden_id, true, order_uid FROM silver.orders_unified WHERE golden_id IN ({})",
        keys.join(", ")
    );
    let mut orders = BTreeSet::new();
    let told = |_: &str, order: &str, _: bool| {
        orders.insert(order.to_owned());
    };
    each(store, runtime, &[("silver/orders_unified", query.as_str())], told).await?;
    Ok(orders)
}

/// By value: whose it is, and whose it was.
#[derive(Debug, Default)]
struct Owners(BTreeMap<String, [BTreeSet<String>; 2]>);

impl Owners {
    fn add(&mut self, person: &str, value: &str, stands: bool) {
        let [now, before] = self.0.entry(value.to_owned()).or_default();
        if stands { now } else { before }.insert(person.to_owned());
    }

    /// Whose a value is; whose it was, if it is nobody's any more.
    fn of(&self, value: &str) -> Option<&BTreeSet<String>> {
        let [now, before] = self.0.get(value)?;
        Some(if now.is_empty() { before } else { now })
    }
}

/// What is known of everybody.
#[derive(Debug, Default)]
struct People {
    owners: Owners,
    values: BTreeMap<String, BTreeSet<String>>,
    /// Who has a value now.
    standing: BTreeSet<String>,
    /// Whose an id is in any system.
    ids: Owners,
}

impl People {
    async fn read(store: &Store, runtime: &Arc<RuntimeEnv>) -> Result<Self, Error> {
        let mut people = Self::default();
        each(store, runtime, KNOWN, |person, value, stands| people.add(person, value, stands)).await?;
        each(store, runtime, IDS, |person, id, stands| people.ids.add(person, id, stands)).await?;
        Ok(people)
    }

    fn add(&mut self, person: &str, value: &str, stands: bool) {
        self.owners.add(person, value, stands);
        self.values.entry(person.to_owned()).or_default().insert(value.to_owned());
        if stands {
            self.standing.insert(person.to_owned());
        }
    }

    fn find(&self, given: &[String]) -> Result<Subject, Error> {
        let is_short = |key: &String| key.trim().len() < SHORTEST && !is_qualified(key);
        if given.is_empty() || given.iter().any(is_short) {
            let reason = format!("need {SHORTEST} letters or more each; write a short id as <system>/<id>");
            return Err(InvalidRequest::new("keys", reason).into());
        }
        let mut persons = BTreeSet::new();
        for key in given {
            let spelled: Vec<_> = spellings(key).chain([key.trim().to_owned()]).collect();
            persons.extend(spelled.iter().filter(|key| self.values.contains_key(*key)).cloned());
            let owners = spelled.iter().filter_map(|key| self.owners.of(key)).chain(self.ids.of(key.trim()));
            persons.extend(owners.filter(|owners| owners.len() == 1).flatten().cloned());
        }
        self.merge(&mut persons);
        let is_theirs = |value: &str| self.owners.of(value).is_none_or(|owners| owners.is_subset(&persons));
        let is_their_id = |id: &str| self.ids.of(id).is_none_or(|owners| owners.is_subset(&persons));
        let is_of_others =
            |key: &String| !is_their_id(key.trim()) || !spellings(key).all(|key| is_theirs(&key));
        if persons.is_empty() && given.iter().any(is_of_others) {
            return Err(InvalidRequest::new(
                "keys",
                "are of several persons; name the person by a golden id, or an id as <system>/<id>",
            )
            .into());
        }
        let known = persons.iter().flat_map(|person| self.values.get(person)).flatten();
        let all: BTreeSet<_> = known.chain(&persons).chain(given).map(|key| key.trim().to_owned()).collect();
        // An id that has led to its person is known with its system.
        let has_led = |key: &str| self.owners.of(key).is_none() && self.ids.of(key).is_some();
        let is_key = |key: &String| {
            (key.len() >= SHORTEST || is_qualified(key)) && spellings(key).all(|key| is_theirs(&key))
        };
        let (led, values): (Vec<_>, Vec<_>) = all.into_iter().partition(|key| has_led(key));
        let count = values.len() + led.iter().filter(|id| !is_their_id(id)).count();
        let keys: BTreeSet<_> = values.into_iter().filter(is_key).collect();
        if keys.is_empty() {
            return Err(InvalidRequest::new("keys", "are nobody's that the lake knows").into());
        }
        Ok(Subject { left_out: (count - keys.len()) as u64, keys })
    }

    /// Adds those who have become a part of `persons`: all that they were known by is theirs now.
    fn merge(&self, persons: &mut BTreeSet<String>) {
        loop {
            let is_part = |values: &BTreeSet<String>| {
                let owners = || values.iter().filter_map(|value| self.owners.of(value));
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

/// Hands on what the queries tell, of those tables that there are.
async fn each(
    store: &Store,
    runtime: &Arc<RuntimeEnv>,
    queries: &[(&str, &str)],
    mut told: impl FnMut(&str, &str, bool),
) -> Result<(), Error> {
    for (table, query) in queries {
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
                    told(person, value, stands.unwrap_or_default());
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> People {
        let mut people = People::default();
        for (person, value, stands) in [
            ("golden-ada", "ada@example.com", true),
            ("golden-ada", "+15551234567", true),
            ("golden-ada", "shop/5", true),
            ("golden-ada", "shop/1082185", true),
            ("golden-bob", "pos/1082185", true),
            ("golden-bob", "pos/2082185", true),
            ("golden-bob", "+15551234567", true),
            ("golden-bob", "bob@example.com", true),
            // Ada was two persons once, and Bob had her card before it was known to be hers.
            ("golden-old", "ada@example.com", false),
            ("golden-bob", "card-000123", false),
            ("golden-ada", "card-000123", true),
        ] {
            people.add(person, value, stands);
        }
        for (person, id) in [
            ("golden-ada", "1082185"),
            ("golden-bob", "1082185"),
            ("golden-bob", "2082185"),
            ("golden-ada", "5"),
        ] {
            people.ids.add(person, id, true);
        }
        people
    }

    fn find(given: &[&str]) -> Result<Subject, Error> {
        people().find(&given.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_person_is_known_by_all_that_is_nobody_elses() {
        let ada = ["ada@example.com", "card-000123", "golden-ada", "golden-old", "shop/1082185", "shop/5"];
        for given in ["golden-ada", "ADA@example.com", "card-000123", "shop/5", "shop/1082185"] {
            let found = find(&[given]).unwrap();
            let keys = found.keys.iter().filter(|key| *key != given || ada.contains(&given));
            assert_eq!(keys.collect::<Vec<_>>(), ada, "{given}");
            assert_eq!(found.left_out, 1, "{given}");
        }
        let both = find(&["golden-ada", "bob@example.com"]).unwrap();
        assert!(both.keys.contains("+15551234567") && both.left_out == 0);
    }

    #[test]
    fn an_id_leads_to_its_person_and_is_no_key() {
        let bob = find(&["2082185"]).unwrap();
        assert!(bob.keys.contains("pos/2082185") && bob.keys.contains("pos/1082185"), "{bob:?}");
        assert!(!bob.keys.contains("2082185") && bob.left_out == 2, "{bob:?}");
        let error = find(&["1082185"]).unwrap_err().to_string();
        assert!(error.contains("several persons") && error.contains("<system>/<id>"), "{error}");
        let ada = find(&["1082185", "golden-ada"]).unwrap();
        assert!(!ada.keys.contains("1082185") && ada.left_out == 2, "{ada:?}");
    }

    #[test]
    fn what_is_of_several_persons_names_nobody() {
        let error = find(&["+1 555 123 4567"]).unwrap_err().to_string();
        assert!(error.contains("several persons"), "{error}");
        for short in ["5", "7"] {
            let error = find(&["golden-ada", short]).unwrap_err().to_string();
            assert!(error.contains("<system>/<id>"), "{error}");
        }
        assert!(find(&[]).is_err());
        assert_eq!(find(&["x/7"]).unwrap().keys.len(), 1);
        assert_eq!(find(&["unheard@example.com"]).unwrap().keys.len(), 1);
    }
}
