//! Telling of changes as they happen.

use events::Begin;
use futures::Stream;
use types::filter::Condition;

use super::Service;
use crate::{
    Error,
    domain::Order,
    event::{Told, changes},
    store::Query,
};

/// Orders that are read at one time.
const PAGE: i64 = 500;

impl Service {
    /// Streams changes of the orders that `filter` lets through.
    pub(crate) async fn watch_orders(
        &self,
        begin: Begin,
        filter: Vec<Condition>,
    ) -> Result<impl Stream<Item = Result<Told, Error>> + Send + use<>, Error> {
        let service = self.clone();
        // Before the caller is answered: what happens from then on is told.
        let after = begin.position(&service.log).await?;
        Ok(async_stream::try_stream! {
            if matches!(begin, Begin::WithInitial) {
                let mut page = service.standing_orders(&filter, None).await?;
                while !page.is_empty() {
                    let next = service.standing_orders(&filter, page.last()).await?;
                    for order in std::mem::replace(&mut page, next) {
                        yield Told::Initial(order);
                    }
                }
            }
            for await told in changes(&service.log, after) {
                let told = told?;
                if told.passes(&filter) {
                    yield told;
                }
            }
        })
    }

    /// The next orders after `after` by time, none at the end.
    async fn standing_orders(
        &self,
        filter: &[Condition],
        after: Option<&Order>,
    ) -> Result<Vec<Order>, Error> {
        let after = after.map(|order| (order.unified.order_time, order.uid));
        let query = Query { filter: filter.to_vec(), newest_first: false, after, limit: PAGE };
        self.store.list_orders(&mut *self.store.reader().await?, &query).await
    }
}
