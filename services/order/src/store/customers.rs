//! Persons behind customers' records.

use std::collections::{BTreeMap, BTreeSet};

use storage::{
    Statement, insert_many,
    sqlx::{AnyConnection, Row, any::AnyRow},
};
use types::{GoldenId, SourceRef};

use super::{CHUNK, Store, by_system, corrupt, rows_of, source};
use crate::{Error, domain::CustomerLinks};

const SELECT: &str = "SELECT system, id, golden_id FROM customer_links";

fn link(row: &AnyRow) -> Result<(SourceRef, GoldenId), Error> {
    Ok((source(row.try_get(0)?, row.try_get(1)?)?, row.try_get::<&str, _>(2)?.parse().map_err(corrupt)?))
}

impl Store {
    pub(crate) async fn golden_ids(
        &self,
        connection: &mut AnyConnection,
        customers: &BTreeSet<&SourceRef>,
    ) -> Result<BTreeMap<SourceRef, GoldenId>, Error> {
        let rows = rows_of(connection, SELECT, ["system", "id"], customers.iter().copied()).await?;
        rows.iter().map(link).collect()
    }

    /// The links of these persons.
    pub(crate) async fn customer_links(
        &self,
        connection: &mut AnyConnection,
        golden_ids: &BTreeSet<GoldenId>,
    ) -> Result<CustomerLinks, Error> {
        let golden_ids: Vec<_> = golden_ids.iter().map(GoldenId::to_string).collect();
        let mut links = BTreeMap::new();
        for chunk in golden_ids.chunks(CHUNK) {
            let mut statement = Statement::new(SELECT);
            statement.push(" WHERE golden_id IN (").bind_all(chunk.iter().map(String::as_str)).push(")");
            for row in statement.fetch_all(connection).await? {
                links.extend([link(&row)?]);
            }
        }
        Ok(CustomerLinks(links))
    }

    pub(crate) async fn save_customer_links(
        &self,
        connection: &mut AnyConnection,
        links: &[(&SourceRef, &GoldenId)],
    ) -> Result<(), Error> {
        insert_many(
            connection,
            "INSERT INTO customer_links (system, id, golden_id) VALUES",
            "ON CONFLICT (system, id) DO UPDATE SET golden_id = excluded.golden_id",
            links,
            |row, (source, golden_id)| {
                row.bind(source.system.as_str()).bind(source.id.as_str()).bind(golden_id.to_string());
            },
        )
        .await?;
        Ok(())
    }

    pub(crate) async fn delete_customer_links(
        &self,
        connection: &mut AnyConnection,
        sources: impl IntoIterator<Item = &SourceRef>,
    ) -> Result<(), Error> {
        for (system, ids) in by_system(sources) {
            for ids in ids.chunks(CHUNK) {
                let mut statement = Statement::new("DELETE FROM customer_links WHERE system = ");
                statement.bind(system).push(" AND id IN (").bind_all(ids.iter().copied()).push(")");
                statement.execute(connection).await?;
            }
        }
        Ok(())
    }
}
