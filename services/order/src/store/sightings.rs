//! Records of source systems, and the keys by which they find each other.

use std::collections::BTreeSet;

use storage::{
    Statement, insert_many,
    sqlx::{AnyConnection, Row, any::AnyRow},
};
use types::{GoldenId, OrderUid, SourceRef};

use super::{CHUNK, Store, by_system, corrupt, rows_of, rule, rule_number, source, text};
use crate::{Error, domain::Sighting};

const SELECT: &str = "SELECT s.order_uid, s.match_rule, s.record, l.golden_id FROM source_orders s \
    LEFT JOIN customer_links l ON l.system = s.customer_system AND l.id = s.customer_id";

/// A sighting from its columns `match_rule` (the one at `at`) and `record`.
pub(super) fn sighting(
    row: &AnyRow,
    order_uid: OrderUid,
    at: usize,
    golden_id: Option<GoldenId>,
) -> Result<Sighting, Error> {
    let record = serde_json::from_str(row.try_get(at + 1)?).map_err(corrupt)?;
    let mut sighting = Sighting::new(record, golden_id);
    sighting.order_uid = Some(order_uid);
    sighting.rule = rule(row.try_get(at)?)?;
    Ok(sighting)
}

fn sightings(rows: &[AnyRow]) -> Result<Vec<Sighting>, Error> {
    let read = |row: &AnyRow| {
        let golden_id: Option<&str> = row.try_get(3)?;
        let golden_id = golden_id.map(str::parse).transpose().map_err(corrupt)?;
        sighting(row, row.try_get::<&str, _>(0)?.parse().map_err(corrupt)?, 1, golden_id)
    };
    rows.iter().map(read).collect()
}

impl Store {
    pub(crate) async fn sightings(
        &self,
        connection: &mut AnyConnection,
        sources: impl IntoIterator<Item = &SourceRef>,
    ) -> Result<Vec<Sighting>, Error> {
        sightings(&rows_of(connection, SELECT, ["s.system", "s.id"], sources).await?)
    }

    pub(crate) async fn sightings_of_customers(
        &self,
        connection: &mut AnyConnection,
        customers: impl IntoIterator<Item = &SourceRef>,
    ) -> Result<Vec<Sighting>, Error> {
        sightings(&rows_of(connection, SELECT, ["s.customer_system", "s.customer_id"], customers).await?)
    }

    pub(crate) async fn sightings_of_orders(
        &self,
        connection: &mut AnyConnection,
        order_uids: &BTreeSet<OrderUid>,
    ) -> Result<Vec<Sighting>, Error> {
        let order_uids: Vec<_> = order_uids.iter().map(OrderUid::to_string).collect();
        let mut found = Vec::new();
        for chunk in order_uids.chunks(CHUNK) {
            let mut statement = Statement::new(SELECT);
            statement.push(" WHERE s.order_uid IN (").bind_all(chunk.iter().map(String::as_str)).push(")");
            found.extend(sightings(&statement.fetch_all(connection).await?)?);
        }
        Ok(found)
    }

    /// The records that are registered under any of these keys.
    pub(crate) async fn sharing(
        &self,
        connection: &mut AnyConnection,
        digests: &[i64],
    ) -> Result<BTreeSet<SourceRef>, Error> {
        let mut found = BTreeSet::new();
        for chunk in digests.chunks(CHUNK) {
            let mut statement = Statement::new("SELECT system, id FROM order_keys WHERE digest IN (");
            statement.bind_all(chunk.iter().copied()).push(")");
            for row in statement.fetch_all(connection).await? {
                found.insert(source(row.try_get(0)?, row.try_get(1)?)?);
            }
        }
        Ok(found)
    }

    pub(crate) async fn save_sightings(
        &self,
        connection: &mut AnyConnection,
        sightings: &[&Sighting],
    ) -> Result<(), Error> {
        let records: Result<Vec<_>, _> =
            sightings.iter().map(|sighting| serde_json::to_string(&sighting.record)).collect();
        let rows: Vec<_> = sightings.iter().zip(records.map_err(corrupt)?).collect();
        insert_many(
            connection,
            "INSERT INTO source_orders \
             (system, id, order_uid, match_rule, customer_system, customer_id, record) VALUES",
            "ON CONFLICT (system, id) DO UPDATE SET order_uid = excluded.order_uid, match_rule = excluded.match_rule, \
             customer_system = excluded.customer_system, customer_id = excluded.customer_id, record = excluded.record",
            &rows,
            |row, (sighting, record)| {
                let (source, customer) = (&sighting.record.source, sighting.record.customer.as_ref());
                row.bind(source.system.as_str())
                    .bind(source.id.as_str())
                    .bind(text(sighting.order_uid.as_ref()))
                    .bind(rule_number(sighting.rule))
                    .bind(customer.map(|customer| customer.system.as_str()))
                    .bind(customer.map(|customer| customer.id.as_str()))
                    .bind(record.as_str());
            },
        )
        .await?;
        Ok(())
    }

    pub(crate) async fn register_keys(
        &self,
        connection: &mut AnyConnection,
        sightings: &[&Sighting],
    ) -> Result<(), Error> {
        let keys = |sighting: &&Sighting| sighting.keys.registered().collect::<BTreeSet<_>>();
        let rows: Vec<_> = sightings
            .iter()
            .flat_map(|sighting| keys(sighting).into_iter().map(|digest| (digest, &sighting.record.source)))
            .collect();
        insert_many(
            connection,
            "INSERT INTO order_keys (digest, system, id) VALUES",
            "",
            &rows,
            |row, (digest, source)| {
                row.bind(*digest).bind(source.system.as_str()).bind(source.id.as_str());
            },
        )
        .await?;
        Ok(())
    }

    /// Forgets all keys of former versions.
    pub(crate) async fn forget_keys(
        &self,
        connection: &mut AnyConnection,
        formers: &[&Sighting],
    ) -> Result<(), Error> {
        for chunk in formers.chunks(CHUNK) {
            for (system, ids) in by_system(chunk.iter().map(|former| &former.record.source)) {
                let ours = chunk.iter().filter(|former| former.record.source.system.as_str() == system);
                let digests: Vec<_> = ours.flat_map(|former| former.keys.registered()).collect();
                for digests in digests.chunks(CHUNK) {
                    let mut statement = Statement::new("DELETE FROM order_keys WHERE system = ");
                    statement.bind(system).push(" AND id IN (").bind_all(ids.iter().copied());
                    statement.push(") AND digest IN (").bind_all(digests.iter().copied()).push(")");
                    statement.execute(connection).await?;
                }
            }
        }
        Ok(())
    }
}
