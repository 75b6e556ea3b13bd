//! What the order service does: one method per RPC.

mod import;
mod link;
mod reunify;
mod watch;

use std::collections::{BTreeSet, HashMap};

use events::Log;
use storage::sqlx::AnyConnection;
use types::{OrderUid, SourceRef, Timestamp, filter::Condition, page::Page};

use crate::{
    Error,
    domain::Order,
    store::{Query, Store},
};

pub(crate) use link::{Link, Unlink};

/// What a list was asked for.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) page: Page,
    pub(crate) after: Option<(Timestamp, OrderUid)>,
    pub(crate) filter: Vec<Condition>,
    pub(crate) newest_first: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    store: Store,
    log: Log,
}

impl Service {
    pub(crate) fn new(store: Store, log: Log) -> Self {
        Self { store, log }
    }

    pub(crate) async fn get_order(&self, order_uid: OrderUid) -> Result<Order, Error> {
        self.order(&mut *self.store.reader().await?, order_uid).await
    }

    pub(crate) async fn batch_get_orders(&self, order_uids: Vec<OrderUid>) -> Result<Vec<Order>, Error> {
        let orders = self
            .store
            .orders(&mut *self.store.reader().await?, &order_uids.iter().copied().collect())
            .await?;
        let orders: HashMap<_, _> = orders.into_iter().map(|order| (order.uid, order)).collect();
        let order = |uid: OrderUid| orders.get(&uid).cloned().ok_or(Error::OrderNotFound(uid));
        order_uids.into_iter().map(order).collect()
    }

    pub(crate) async fn lookup_order(&self, source: SourceRef) -> Result<Order, Error> {
        let mut reader = self.store.reader().await?;
        let sighting = self.store.sightings(&mut reader, [&source]).await?.pop();
        let order_uid =
            sighting.and_then(|sighting| sighting.order_uid).ok_or(Error::SourceNotFound(source))?;
        self.order(&mut reader, order_uid).await
    }

    pub(crate) async fn list_orders(&self, list: List) -> Result<(Vec<Order>, String), Error> {
        let List { page, after, filter, newest_first } = list;
        let query = Query { filter, newest_first, after, limit: page.limit() };
        let orders = self.store.list_orders(&mut *self.store.reader().await?, &query).await?;
        let key = |order: &Order| vec![order.unified.order_time.micros().to_string(), order.uid.to_string()];
        Ok(page.cut(orders, key))
    }

    async fn order(&self, connection: &mut AnyConnection, order_uid: OrderUid) -> Result<Order, Error> {
        let order = self.store.orders(connection, &BTreeSet::from([order_uid])).await?.pop();
        order.ok_or(Error::OrderNotFound(order_uid))
    }
}
