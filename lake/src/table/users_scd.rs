//! `users_scd`: customers' profiles in valid time, a row for each period (slowly changing dimension, type 2).

use arrow::array::{BooleanArray, RecordBatch};
use omnimesh_proto::{
    customer::v1::{Customer, CustomerChanged, CustomerVersion},
    event::v1::Event,
    r#type::v1::{Address, SourceRef},
};
use prost_types::Timestamp;
use sha2::{Digest, Sha256};

use super::{Change, Route, Source, Stale, Table, decode, missing, state_of_subject};
use crate::{
    Error, TableName,
    columns::{Column, batch, integer, list, optional_text, record, text, time},
};

const NAME: &str = "users_scd";

static SOURCE: Source = Source {
    consumer: "lake.users_scd<-customer",
    domain: "customer",
    event_type: "omnimesh.customer.v1.CustomerChanged",
};

pub(super) struct UsersScd;

impl Table for UsersScd {
    fn source(&self) -> &'static Source {
        &SOURCE
    }

    fn owns(&self, name: &TableName) -> bool {
        name.as_str() == NAME
    }

    fn route(&self, event: &Event) -> Result<Route, Error> {
        state_of_subject(NAME, event)
    }

    /// An event carries the whole history, so a customer's rows are replaced as a whole: a merge or a late record may
    /// have moved every period.
    fn change(&self, events: Vec<Event>) -> Result<Change, Error> {
        let mut periods = Vec::new();
        let mut golden_ids = Vec::new();
        for event in events {
            let CustomerChanged { customer, history } = decode(SOURCE.event_type, &event)?;
            let customer = customer.ok_or_else(|| missing(&event, "customer"))?;
            if customer.merged_into.is_empty() {
                periods.extend(self::periods(&customer.golden_id, history, &event)?);
            }
            golden_ids.push(customer.golden_id);
        }
        Ok(Change::Upsert { rows: rows(&periods)?, stale: Stale { column: "golden_id", values: golden_ids } })
    }
}

/// A profile and the time it was true.
struct Period {
    user_sk: String,
    golden_id: String,
    version: i64,
    valid_from: Timestamp,
    valid_to: Option<Timestamp>,
    recorded_from: Option<Timestamp>,
    profile: Customer,
    hash_diff: String,
}

/// Each version lasts until the next; of versions from the same moment the last one holds.
fn periods(golden_id: &str, history: Vec<CustomerVersion>, event: &Event) -> Result<Vec<Period>, Error> {
    let mut versions: Vec<(Timestamp, Customer)> = Vec::with_capacity(history.len());
    for version in history {
        let valid_from = version.valid_from_time.ok_or_else(|| missing(event, "time of a version"))?;
        let profile = in_order(version.customer.ok_or_else(|| missing(event, "profile of a version"))?);
        match versions.last_mut() {
            Some(last) if last.0 == valid_from => last.1 = profile,
            _ => versions.push((valid_from, profile)),
        }
    }
    let starts: Vec<_> = versions.iter().map(|(valid_from, _)| *valid_from).skip(1).collect();
    let ends = starts.into_iter().map(Some).chain([None]);
    let periods =
        versions.into_iter().zip(ends).zip(1..).map(|(((valid_from, profile), valid_to), version)| Period {
            user_sk: format!("{golden_id}:{valid_from}"),
            golden_id: golden_id.to_owned(),
            version,
            valid_from,
            valid_to,
            recorded_from: event.record_time,
            hash_diff: hash_diff(&profile),
            profile,
        });
    Ok(periods.collect())
}

/// Cards and records come in the order in which they arrived, which two runs over them need not share.
fn in_order(mut profile: Customer) -> Customer {
    profile.loyalty_cards.sort();
    profile.source_refs.sort_by(|a, b| (&a.system, &a.id).cmp(&(&b.system, &b.id)));
    profile
}

/// Digest of what a profile says: it differs between neighbouring versions.
fn hash_diff(profile: &Customer) -> String {
    let address = profile.address.clone().unwrap_or_default();
    let said = [
        &profile.given_name,
        &profile.family_name,
        &profile.email,
        &profile.phone,
        &address.street,
        &address.city,
        &address.postcode,
        &address.country_code,
    ];
    let mut hash = Sha256::new();
    for value in said.into_iter().chain(&profile.loyalty_cards) {
        hash.update(value.len().to_le_bytes());
        hash.update(value);
    }
    hex::encode(hash.finalize())
}

fn rows(periods: &[Period]) -> Result<RecordBatch, Error> {
    let profiles = || periods.iter().map(|period| &period.profile);
    Ok(batch(vec![
        text("user_sk", periods.iter().map(|period| period.user_sk.as_str())).key(1).volatile(),
        text("golden_id", periods.iter().map(|period| period.golden_id.as_str())).volatile(),
        integer("version", periods.iter().map(|period| period.version)),
        time("valid_from", periods.iter().map(|period| Some(period.valid_from))),
        time("valid_to", periods.iter().map(|period| period.valid_to)),
        time("recorded_from", periods.iter().map(|period| period.recorded_from)).volatile(),
        Column::new(
            "is_current",
            BooleanArray::from_iter(periods.iter().map(|period| Some(period.valid_to.is_none()))),
        ),
        optional_text("given_name", profiles().map(|profile| profile.given_name.as_str())),
        optional_text("family_name", profiles().map(|profile| profile.family_name.as_str())),
        optional_text("email", profiles().map(|profile| profile.email.as_str())),
        optional_text("phone", profiles().map(|profile| profile.phone.as_str())),
        addr(profiles()),
        loyalty_cards(profiles()),
        attr_source(profiles()),
        source_refs(profiles()),
        text("hash_diff", periods.iter().map(|period| period.hash_diff.as_str())),
    ])?)
}

fn addr<'a>(profiles: impl Iterator<Item = &'a Customer> + Clone) -> Column {
    let part = |name, part: fn(&Address) -> &str| {
        optional_text(name, profiles.clone().map(|profile| profile.address.as_ref().map_or("", part)))
    };
    record(
        "addr",
        vec![
            part("line", |address| &address.street),
            part("city", |address| &address.city),
            part("postcode", |address| &address.postcode),
            part("country", |address| &address.country_code),
        ],
    )
}

fn loyalty_cards<'a>(profiles: impl Iterator<Item = &'a Customer> + Clone) -> Column {
    let lengths = profiles.clone().map(|profile| profile.loyalty_cards.len());
    let cards = profiles.flat_map(|profile| &profile.loyalty_cards).map(String::as_str);
    list("loyalty_cards", lengths, text("item", cards))
}

fn attr_source<'a>(profiles: impl Iterator<Item = &'a Customer> + Clone) -> Column {
    let lengths = profiles.clone().map(|profile| profile.provenance.len());
    let sorted = profiles.flat_map(|profile| {
        let mut attributes: Vec<_> = profile.provenance.iter().collect();
        attributes.sort_by_key(|(column, _)| *column);
        attributes
    });
    let attributes: Vec<_> = sorted.collect();
    let records = || attributes.iter().map(|(_, provenance)| provenance.source.as_ref());
    let items = record(
        "item",
        vec![
            text("column", attributes.iter().map(|(column, _)| column.as_str())),
            text("system", records().map(|source| source.map_or("", |source| source.system.as_str()))),
            text("id", records().map(|source| source.map_or("", |source| source.id.as_str()))),
            time("updated_at", attributes.iter().map(|(_, provenance)| provenance.update_time)),
            optional_text("rule", attributes.iter().map(|(_, provenance)| provenance.rule.as_str())),
        ],
    );
    list("attr_source", lengths, items)
}

fn source_refs<'a>(profiles: impl Iterator<Item = &'a Customer> + Clone) -> Column {
    let lengths = profiles.clone().map(|profile| profile.source_refs.len());
    let all = || profiles.clone().flat_map(|profile| &profile.source_refs);
    let items = record(
        "item",
        vec![
            text("system", all().map(|source: &SourceRef| source.system.as_str())),
            text("id", all().map(|source| source.id.as_str())),
        ],
    );
    list("source_refs", lengths, items)
}
