//! What the database is told.

use std::collections::{BTreeMap, BTreeSet};

use storage::{Statement, insert_many, sqlx::AnyConnection};
use types::{SourceRef, Timestamp};

use super::{LIST, source_text};
use crate::domain::{Identity, Key, Link, Record};

type Result<T> = std::result::Result<T, storage::Error>;

/// Keeps versions that were not known, and puts corrected ones in the place of those with the same time.
pub(crate) async fn put_versions(connection: &mut AnyConnection, records: &[Record]) -> Result<()> {
    // One statement cannot write a row twice.
    let last: BTreeMap<_, _> =
        records.iter().map(|record| ((&record.source, record.update_time), record)).collect();
    let records: Vec<&Record> = last.into_values().collect();
    insert_many(
        connection,
        "INSERT INTO record_versions (source, update_time, given_name, family_name, email, phone, loyalty_card, \
         street, city, postcode, country_code) VALUES",
        "ON CONFLICT (source, update_time) DO UPDATE SET given_name = excluded.given_name, \
         family_name = excluded.family_name, email = excluded.email, phone = excluded.phone, \
         loyalty_card = excluded.loyalty_card, street = excluded.street, city = excluded.city, \
         postcode = excluded.postcode, country_code = excluded.country_code",
        &records,
        |row, record| {
            let attributes = &record.attributes;
            row.bind(source_text(&record.source))
                .bind(record.update_time.micros())
                .bind(attributes.given_name.as_str())
                .bind(attributes.family_name.as_str())
                .bind(attributes.email.as_str())
                .bind(attributes.phone.as_str())
                .bind(attributes.loyalty_card.as_str())
                .bind(attributes.address.street.as_str())
                .bind(attributes.address.city.as_str())
                .bind(attributes.address.postcode.as_str())
                .bind(attributes.address.country_code.as_str());
        },
    )
    .await?;
    Ok(())
}

/// Puts new keys in the place of all that these records held.
pub(crate) async fn replace_keys(
    connection: &mut AnyConnection,
    keys: &BTreeMap<SourceRef, BTreeSet<Key>>,
) -> Result<()> {
    let sources: Vec<String> = keys.keys().map(source_text).collect();
    for list in sources.chunks(LIST) {
        let mut statement = Statement::new("DELETE FROM record_keys WHERE source IN (");
        statement.bind_all(list.iter().map(String::as_str)).push(")");
        statement.execute(connection).await?;
    }
    let rows: Vec<(String, &Key)> =
        keys.iter().flat_map(|(source, keys)| keys.iter().map(|key| (source_text(source), key))).collect();
    insert_many(
        connection,
        "INSERT INTO record_keys (source, record_key) VALUES",
        "",
        &rows,
        |row, (source, key)| {
            row.bind(source.as_str()).bind(key.as_str());
        },
    )
    .await?;
    Ok(())
}

/// Makes records these persons'.
pub(crate) async fn put_links(connection: &mut AnyConnection, links: &[&Link]) -> Result<()> {
    insert_many(
        connection,
        "INSERT INTO records (source, golden_id, link_time) VALUES",
        "ON CONFLICT (source) DO UPDATE SET golden_id = excluded.golden_id, link_time = excluded.link_time",
        links,
        |row, link| {
            row.bind(source_text(&link.source))
                .bind(link.golden_id.to_string())
                .bind(link.link_time.micros());
        },
    )
    .await?;
    Ok(())
}

/// Writes persons, new or changed.
pub(crate) async fn put_identities(connection: &mut AnyConnection, identities: &[Identity]) -> Result<()> {
    insert_many(
        connection,
        "INSERT INTO identities (golden_id, merged_into, create_time, update_time, revision) VALUES",
        "ON CONFLICT (golden_id) DO UPDATE SET merged_into = excluded.merged_into, \
         update_time = excluded.update_time, revision = excluded.revision",
        identities,
        |row, identity| {
            row.bind(identity.golden_id.to_string())
                .bind(identity.merged_into.map(|golden_id| golden_id.to_string()).unwrap_or_default())
                .bind(identity.create_time.micros())
                .bind(identity.update_time.micros())
                .bind(identity.revision);
        },
    )
    .await?;
    Ok(())
}

/// Keeps that an operator said that two records are of one person.
pub(crate) async fn put_must_link(
    connection: &mut AnyConnection,
    source: &SourceRef,
    other: &SourceRef,
    now: Timestamp,
) -> Result<()> {
    let mut statement = Statement::new("INSERT INTO must_links (source, other, create_time) VALUES (");
    statement.bind_all([source_text(source), source_text(other)]).push(", ").bind(now.micros());
    statement.push(") ON CONFLICT DO NOTHING");
    statement.execute(connection).await?;
    Ok(())
}
