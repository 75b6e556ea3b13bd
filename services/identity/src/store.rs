//! Persons, records and keys in the database. Everything is read and written in sets.

mod read;
mod write;

pub(crate) use read::{
    chronicle, holders, identities, identities_page, key_counts, members, must_links, owner_of_source,
    owners_of_key, standing, versions,
};
pub(crate) use write::{put_identities, put_links, put_must_link, put_versions, replace_keys};

use storage::sqlx::{self, Row, any::AnyRow, migrate::Migrator};
use types::{GoldenId, SourceRef, System, Timestamp, contact::Address};

use crate::domain::{Attributes, Record};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!();

/// Values of one `IN` list: few enough for every engine's limit on placeholders.
const LIST: usize = 500;

/// Systems' names hold no slash, so this is unique.
fn source_text(source: &SourceRef) -> String {
    format!("{}/{}", source.system, source.id)
}

fn source(text: &str) -> Result<SourceRef, storage::Error> {
    let (system, id) = text
        .split_once('/')
        .ok_or_else(|| storage::Error::Corrupt(format!("`{text}` is no source record")))?;
    Ok(SourceRef { system: System::from_trusted(system.to_owned()), id: id.to_owned() })
}

fn golden_id(text: &str) -> Result<GoldenId, storage::Error> {
    text.parse().map_err(|_| storage::Error::Corrupt(format!("`{text}` is no golden id")))
}

const VERSION: &str = "v.source, v.update_time, v.given_name, v.family_name, v.email, v.phone, v.loyalty_card, \
    v.street, v.city, v.postcode, v.country_code";

/// Reads the columns of [`VERSION`], which come first.
fn version(row: &AnyRow) -> Result<Record, storage::Error> {
    Ok(Record {
        source: source(row.try_get(0)?)?,
        update_time: Timestamp::from_micros(row.try_get(1)?),
        attributes: Attributes {
            given_name: row.try_get(2)?,
            family_name: row.try_get(3)?,
            email: row.try_get(4)?,
            phone: row.try_get(5)?,
            loyalty_card: row.try_get(6)?,
            address: Address {
                street: row.try_get(7)?,
                city: row.try_get(8)?,
                postcode: row.try_get(9)?,
                country_code: row.try_get(10)?,
            },
        },
    })
}
