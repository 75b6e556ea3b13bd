//! Customers and their evidence in the database. Everything is read and written in sets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, de::DeserializeOwned};
use storage::{
    Statement, insert_many,
    sqlx::{self, AnyConnection, Row, any::AnyRow, migrate::Migrator},
};
use types::{GoldenId, Timestamp, filter::Condition, page::Page};

use crate::domain::{Customer, Evidence, Person};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!();

type Result<T> = std::result::Result<T, storage::Error>;

/// Values of one `IN` list: few enough for every engine's limit on placeholders.
const LIST: usize = 500;

const CUSTOMER: &str =
    "c.golden_id, c.merged_into, c.profile, c.create_time, c.update_time, c.revision, c.identity_version";

/// What a list is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    GoldenId,
    FamilyName,
}

impl Order {
    /// The columns, of which the last tells customers apart.
    fn columns(self) -> &'static str {
        match self {
            Self::GoldenId => "c.golden_id",
            Self::FamilyName => "c.family_name, c.golden_id",
        }
    }

    /// What a page after this customer begins after.
    pub(crate) fn key(self, last: &Customer) -> Vec<String> {
        let golden_id = last.golden_id.to_string();
        match self {
            Self::GoldenId => vec![golden_id],
            Self::FamilyName => vec![last.profile.attributes.family_name.clone(), golden_id],
        }
    }
}

fn golden_id(text: &str) -> Result<GoldenId> {
    text.parse().map_err(|_| storage::Error::Corrupt(format!("`{text}` is no golden id")))
}

fn document<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| storage::Error::Corrupt(error.to_string()))
}

fn text<T: Serialize>(document: &T) -> Result<String> {
    serde_json::to_string(document).map_err(|error| storage::Error::Corrupt(error.to_string()))
}

/// Reads the columns of [`CUSTOMER`], which come first.
fn customer(row: &AnyRow) -> Result<Customer> {
    let merged_into: &str = row.try_get(1)?;
    Ok(Customer {
        golden_id: golden_id(row.try_get(0)?)?,
        merged_into: if merged_into.is_empty() { None } else { Some(golden_id(merged_into)?) },
        profile: document(row.try_get(2)?)?,
        create_time: Timestamp::from_micros(row.try_get(3)?),
        update_time: Timestamp::from_micros(row.try_get(4)?),
        revision: row.try_get(5)?,
        identity_version: row.try_get(6)?,
    })
}

async fn fetch_by_golden_id(
    connection: &mut AnyConnection,
    select: &str,
    golden_ids: &BTreeSet<GoldenId>,
) -> Result<Vec<AnyRow>> {
    let golden_ids: Vec<String> = golden_ids.iter().map(GoldenId::to_string).collect();
    let mut rows = Vec::new();
    for list in golden_ids.chunks(LIST) {
        let mut statement = Statement::default();
        statement
            .push(select)
            .push(" WHERE c.golden_id IN (")
            .bind_all(list.iter().map(String::as_str))
            .push(")");
        rows.extend(statement.fetch_all(connection).await?);
    }
    Ok(rows)
}

/// The customers that golden ids lead to, by the golden id asked for; those that never were are left out.
pub(crate) async fn standing(
    connection: &mut AnyConnection,
    golden_ids: &BTreeSet<GoldenId>,
) -> Result<BTreeMap<GoldenId, Customer>> {
    let select = format!("SELECT {CUSTOMER} FROM customers c");
    let mut standing = BTreeMap::new();
    let mut trails: Vec<(GoldenId, GoldenId)> =
        golden_ids.iter().map(|golden_id| (*golden_id, *golden_id)).collect();
    while !trails.is_empty() {
        let ends = trails.iter().map(|(_, end)| *end).collect();
        let mut customers = BTreeMap::new();
        for row in fetch_by_golden_id(connection, &select, &ends).await? {
            let customer = customer(&row)?;
            customers.insert(customer.golden_id, customer);
        }
        let mut further = Vec::new();
        for (asked, end) in trails {
            match customers.get(&end) {
                Some(Customer { merged_into: Some(next), .. }) => further.push((asked, *next)),
                Some(customer) => drop(standing.insert(asked, customer.clone())),
                None => {}
            }
        }
        trails = further;
    }
    Ok(standing)
}

/// Customers with their evidence, merged ones too.
pub(crate) async fn persons(
    connection: &mut AnyConnection,
    golden_ids: &BTreeSet<GoldenId>,
) -> Result<BTreeMap<GoldenId, Person>> {
    let select = format!(
        "SELECT {CUSTOMER}, e.identity_version, e.records, e.corrections, e.recorded \
         FROM customers c JOIN evidence e ON e.golden_id = c.golden_id"
    );
    let mut persons = BTreeMap::new();
    for row in fetch_by_golden_id(connection, &select, golden_ids).await? {
        let evidence = Evidence {
            identity_version: row.try_get(7)?,
            records: document(row.try_get(8)?)?,
            corrections: document(row.try_get(9)?)?,
        };
        let (customer, recorded) = (customer(&row)?, document(row.try_get(10)?)?);
        persons.insert(customer.golden_id, Person { customer, evidence, recorded });
    }
    Ok(persons)
}

/// A page of the customers that stand.
pub(crate) async fn customers_page(
    connection: &mut AnyConnection,
    conditions: &[Condition],
    order: Order,
    page: &Page,
) -> Result<Vec<Customer>> {
    let mut statement = Statement::default();
    statement
        .push("SELECT ")
        .push(CUSTOMER)
        .push(" FROM customers c WHERE c.merged_into = ''")
        .and(conditions);
    if let Some(after) = &page.after {
        statement.push(" AND (").push(order.columns()).push(") > (");
        statement.bind_all(after.iter().map(String::as_str)).push(")");
    }
    statement.push(" ORDER BY ").push(order.columns()).push(" LIMIT ").bind(page.limit());
    statement.fetch_all(connection).await?.iter().map(customer).collect()
}

/// Writes customers, new or changed.
pub(crate) async fn put_persons(connection: &mut AnyConnection, persons: &[Person]) -> Result<()> {
    let mut customers = Vec::with_capacity(persons.len());
    let mut evidence = Vec::with_capacity(persons.len());
    for person in persons {
        customers.push((&person.customer, text(&person.customer.profile)?));
        let Evidence { identity_version, records, corrections } = &person.evidence;
        let documents = [text(records)?, text(corrections)?, text(&person.recorded)?];
        evidence.push((person.customer.golden_id.to_string(), *identity_version, documents));
    }
    insert_many(
        connection,
        "INSERT INTO customers (golden_id, merged_into, family_name, email, phone, profile, create_time, \
         update_time, revision, identity_version) VALUES",
        "ON CONFLICT (golden_id) DO UPDATE SET merged_into = excluded.merged_into, \
         family_name = excluded.family_name, email = excluded.email, phone = excluded.phone, \
         profile = excluded.profile, update_time = excluded.update_time, revision = excluded.revision, \
         identity_version = excluded.identity_version",
        &customers,
        |row, (customer, profile)| {
            let attributes = &customer.profile.attributes;
            row.bind(customer.golden_id.to_string())
                .bind(customer.merged_into.map(|golden_id| golden_id.to_string()).unwrap_or_default())
                .bind(attributes.family_name.as_str())
                .bind(attributes.email.as_str())
                .bind(attributes.phone.as_str())
                .bind(profile.as_str())
                .bind(customer.create_time.micros())
                .bind(customer.update_time.micros())
                .bind(customer.revision)
                .bind(customer.identity_version);
        },
    )
    .await?;
    insert_many(
        connection,
        "INSERT INTO evidence (golden_id, identity_version, records, corrections, recorded) VALUES",
        "ON CONFLICT (golden_id) DO UPDATE SET identity_version = excluded.identity_version, \
         records = excluded.records, corrections = excluded.corrections, recorded = excluded.recorded",
        &evidence,
        |row, (golden_id, identity_version, [records, corrections, recorded])| {
            row.bind(golden_id.as_str())
                .bind(*identity_version)
                .bind(records.as_str())
                .bind(corrections.as_str())
                .bind(recorded.as_str());
        },
    )
    .await?;
    Ok(())
}
