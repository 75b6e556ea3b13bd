//! Orders, read together with their records in one statement and so in one state.

use std::collections::BTreeSet;

use storage::{
    Statement, insert_many,
    sqlx::{AnyConnection, Row, any::AnyRow},
};
use types::{OrderUid, Timestamp, filter::Condition};

use super::{CHUNK, Store, corrupt, sightings::sighting, text};
use crate::{
    Error,
    domain::{Order, Unified, unify},
};

const SELECT: &str = "SELECT o.order_uid, o.golden_id, o.location_id, o.order_time, o.merged_into, o.revision, \
    o.create_time, o.update_time, s.match_rule, s.record FROM (SELECT * FROM orders WHERE ";
const JOIN: &str = ") o LEFT JOIN source_orders s ON s.order_uid = o.order_uid";

/// A run of standing orders by time.
#[derive(Debug)]
pub(crate) struct Query {
    /// Conditions on columns of `orders`.
    pub(crate) filter: Vec<Condition>,
    pub(crate) newest_first: bool,
    pub(crate) after: Option<(Timestamp, OrderUid)>,
    pub(crate) limit: i64,
}

impl Store {
    /// Those of `order_uids` that exist.
    pub(crate) async fn orders(
        &self,
        connection: &mut AnyConnection,
        order_uids: &BTreeSet<OrderUid>,
    ) -> Result<Vec<Order>, Error> {
        let order_uids: Vec<_> = order_uids.iter().map(OrderUid::to_string).collect();
        let mut found = Vec::new();
        for chunk in order_uids.chunks(CHUNK) {
            let mut statement = Statement::new(SELECT);
            statement.push("order_uid IN (").bind_all(chunk.iter().map(String::as_str)).push(")");
            statement.push(JOIN).push(" ORDER BY o.order_uid");
            found.extend(orders(&statement.fetch_all(connection).await?)?);
        }
        Ok(found)
    }

    pub(crate) async fn list_orders(
        &self,
        connection: &mut AnyConnection,
        query: &Query,
    ) -> Result<Vec<Order>, Error> {
        let (beyond, order) = if query.newest_first {
            ("<", " ORDER BY order_time DESC, order_uid DESC")
        } else {
            (">", " ORDER BY order_time, order_uid")
        };
        let mut statement = Statement::new(SELECT);
        statement.push("merged_into = ''");
        statement.and(&query.filter);
        if let Some((time, order_uid)) = &query.after {
            statement.push(" AND (order_time, order_uid) ").push(beyond).push(" (").bind(time.micros());
            statement.push(", ").bind(order_uid.to_string()).push(")");
        }
        statement.push(order).push(" LIMIT ").bind(query.limit).push(JOIN);
        statement.push(&order.replace("order_time", "o.order_time").replace("order_uid", "o.order_uid"));
        orders(&statement.fetch_all(connection).await?)
    }

    pub(crate) async fn save_orders(
        &self,
        connection: &mut AnyConnection,
        orders: &[Order],
    ) -> Result<(), Error> {
        insert_many(
            connection,
            "INSERT INTO orders \
             (order_uid, golden_id, location_id, order_time, merged_into, revision, create_time, update_time) VALUES",
            "ON CONFLICT (order_uid) DO UPDATE SET golden_id = excluded.golden_id, \
             location_id = excluded.location_id, order_time = excluded.order_time, \
             merged_into = excluded.merged_into, revision = excluded.revision, update_time = excluded.update_time",
            orders,
            |row, order| {
                row.bind(order.uid.to_string())
                    .bind(text(order.unified.golden_id.as_ref()))
                    .bind(text(order.unified.location.as_ref()))
                    .bind(order.unified.order_time.micros())
                    .bind(text(order.merged_into.as_ref()))
                    .bind(order.revision)
                    .bind(order.create_time.micros())
                    .bind(order.update_time.micros());
            },
        )
        .await?;
        Ok(())
    }
}

/// Orders from rows in which the records of one order follow each other.
fn orders(rows: &[AnyRow]) -> Result<Vec<Order>, Error> {
    let mut uids = Vec::with_capacity(rows.len());
    for row in rows {
        uids.push((row.try_get::<&str, _>(0)?, row));
    }
    uids.chunk_by(|(one, _), (other, _)| one == other).map(order).collect()
}

fn order(rows: &[(&str, &AnyRow)]) -> Result<Order, Error> {
    let &(uid, head) = rows.first().ok_or_else(|| corrupt("an order without a row"))?;
    let uid: OrderUid = uid.parse().map_err(corrupt)?;
    let micros = |at: usize| head.try_get(at).map(Timestamp::from_micros);
    let merged_into = optional(head.try_get(4)?)?;
    let unified = match merged_into {
        Some(_) => Unified {
            golden_id: None,
            location: optional(head.try_get(2)?)?,
            order_time: micros(3)?,
            purchase: None,
        },
        None => {
            let members: Result<Vec<_>, _> =
                rows.iter().map(|(_, row)| sighting(row, uid, 8, None)).collect();
            unify(&members?).ok_or_else(|| corrupt(format!("order {uid} has no records")))?
        }
    };
    let unified = Unified { golden_id: optional(head.try_get(1)?)?, ..unified };
    let revision = head.try_get(5)?;
    Ok(Order { uid, unified, merged_into, revision, create_time: micros(6)?, update_time: micros(7)? })
}

fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Option<T>, Error> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(corrupt) }
}
