//! `users_scd`: customers' profiles, a row for each period in which one was true and was held to be so (a slowly changing
//! dimension of type 2, bitemporal).

use arrow::array::{BooleanArray, RecordBatch};
use omnimesh_proto::{
    customer::v1::{Customer, CustomerChanged, CustomerVersion},
    event::v1::Event,
    r#type::v1::{Address, SourceRef},
};
use prost_types::Timestamp;
use sha2::{Digest, Sha256};

use super::{Change, RECORDED_TO, Route, Source, Table, change_of_subject, decode, missing, once};
use crate::{
    Error, TableName,
    card::Card,
    columns::{Column, batch, integer, list, optional_text, record, text, time},
};

const NAME: &str = "users_scd";

const CARD: &str = "\
Customers' profiles through time: a row for each period in which one was true and was held to be so.
grain: one row per customer, period and recording
key: user_sk
owner: customer
freshness: seconds behind the events, at most `lake.linger_ms` and a commit
proto: omnimesh.customer.v1.Customer
column user_sk: The row: customer, beginning of the period, time of recording. [pii=quasi]
[from=history/superseded.customer.golden_id, history/superseded.valid_from_time,
history/superseded.record_from_time]
column golden_id: The person. [pii=quasi] [from=history/superseded.customer.golden_id]
column version: The row's place in the customer's history, from 1. [from=history/superseded.version]
column valid_from: When the profile became true, by the sources' own times.
[from=history/superseded.valid_from_time]
column valid_to: When the next one became true; null in the last. [from=history/superseded.valid_to_time]
column recorded_from: When it was recorded. [from=history/superseded.record_from_time]
column recorded_to: When something else was recorded in its place; null while it stands.
[from=history/superseded.record_to_time]
column is_current: Whether it is the customer's profile now. [from=history/superseded.valid_to_time,
history/superseded.record_to_time]
column given_name: First name. [pii=direct] [from=history/superseded.customer.given_name]
column family_name: Last name. [pii=direct] [from=history/superseded.customer.family_name]
column email: E-mail address. [pii=direct] [from=history/superseded.customer.email]
column phone: Phone number. [pii=direct] [from=history/superseded.customer.phone]
column addr: Postal address. [pii=direct] [from=history/superseded.customer.address]
column loyalty_cards: Numbers of the loyalty cards. [pii=direct]
[from=history/superseded.customer.loyalty_cards]
column attr_source: Where each value came from: the record, its time, and why it was preferred. [pii=direct]
[from=history/superseded.customer.provenance]
column source_refs: The records that the profile was made of; a loyalty card's number may be a record's id. [pii=direct]
[from=history/superseded.customer.source_refs]
column hash_diff: Digest of what the profile says. [pii=quasi] [from=history/superseded.customer.given_name,
history/superseded.customer.family_name, history/superseded.customer.email, history/superseded.customer.phone,
history/superseded.customer.address, history/superseded.customer.loyalty_cards]
column identity_version: Version of the identity that the profile was made of.
[from=history/superseded.customer.identity_version]
";

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
        let CustomerChanged { history, superseded, .. } = decode(SOURCE.event_type, event)?;
        change_of_subject(NAME, event, history.len() + superseded.len())
    }

    fn card(&self) -> Card {
        Card::parse(CARD)
    }

    fn change(&self, events: Vec<Event>) -> Result<Change, Error> {
        let mut rows = Vec::new();
        for event in &events {
            let CustomerChanged { history, superseded, .. } = decode(SOURCE.event_type, event)?;
            for version in history.into_iter().chain(superseded) {
                rows.push(Row::new(event, version)?);
            }
        }
        let rows = once(rows, |row| (row.user_sk.clone(), row.version.record_to_time.is_none()));
        Ok(Change::Record(batch_of(&rows)?))
    }
}

/// A version of a profile.
struct Row {
    user_sk: String,
    version: CustomerVersion,
    profile: Customer,
    hash_diff: String,
}

impl Row {
    fn new(event: &Event, mut version: CustomerVersion) -> Result<Self, Error> {
        let profile = version.customer.take().ok_or_else(|| missing(event, "profile of a version"))?;
        let profile = in_order(profile);
        let time = |time: Option<Timestamp>| time.ok_or_else(|| missing(event, "time of a version"));
        let (valid, recorded) = (time(version.valid_from_time)?, time(version.record_from_time)?);
        let user_sk = format!("{}:{valid}:{recorded}", profile.golden_id);
        Ok(Self { user_sk, hash_diff: hash_diff(&profile), version, profile })
    }

    fn is_current(&self) -> bool {
        self.version.valid_to_time.is_none() && self.version.record_to_time.is_none()
    }
}

/// Cards and records come in the order in which they arrived, which two runs over them need not share.
fn in_order(mut profile: Customer) -> Customer {
    profile.loyalty_cards.sort();
    profile.source_refs.sort_by(|a, b| (&a.system, &a.id).cmp(&(&b.system, &b.id)));
    profile
}

/// Digest of what a profile says. Where it changes there is a new row; a row may also be new because of where its values
/// come from.
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

fn batch_of(rows: &[Row]) -> Result<RecordBatch, Error> {
    let versions = || rows.iter().map(|row| &row.version);
    let profiles = || rows.iter().map(|row| &row.profile);
    Ok(batch(vec![
        text("user_sk", rows.iter().map(|row| row.user_sk.as_str())).key(1).volatile(),
        text("golden_id", profiles().map(|profile| profile.golden_id.as_str())).volatile(),
        integer("version", versions().map(|version| version.version)),
        time("valid_from", versions().map(|version| version.valid_from_time)),
        time("valid_to", versions().map(|version| version.valid_to_time)),
        time("recorded_from", versions().map(|version| version.record_from_time)).volatile(),
        time(RECORDED_TO, versions().map(|version| version.record_to_time)).volatile(),
        Column::new("is_current", BooleanArray::from_iter(rows.iter().map(|row| Some(row.is_current())))),
        optional_text("given_name", profiles().map(|profile| profile.given_name.as_str())),
        optional_text("family_name", profiles().map(|profile| profile.family_name.as_str())),
        optional_text("email", profiles().map(|profile| profile.email.as_str())),
        optional_text("phone", profiles().map(|profile| profile.phone.as_str())),
        addr(profiles()),
        loyalty_cards(profiles()),
        attr_source(profiles()),
        source_refs(profiles()),
        integer("identity_version", profiles().map(|profile| profile.identity_version)).volatile(),
        text("hash_diff", rows.iter().map(|row| row.hash_diff.as_str())),
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
