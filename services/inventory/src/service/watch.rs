//! Changes of stock as they happen.

use futures::Stream;
use omnimesh_proto::inventory::v1::{self as pb, StockChanged};
use types::filter::{Condition, Operator, Value};

use super::Service;
use crate::{
    Error,
    event::{Begin, STOCK_CHANGED, Told},
};

impl Service {
    /// Streams changes of the stocks that `filter` lets through.
    pub(crate) fn watch_stock(
        &self,
        begin: Begin,
        filter: Vec<Condition>,
    ) -> impl Stream<Item = Result<Told, Error>> + Send + use<> {
        let service = self.clone();
        async_stream::try_stream! {
            // The head comes first: what changes while the initial state is read is told again, never left out.
            let after = match begin {
                Begin::After(cursor) => cursor,
                Begin::Now | Begin::WithInitial => service.log.head().await?,
            };
            if matches!(begin, Begin::WithInitial) {
                let mut page = service.next_stocks(&filter, None).await?;
                while !page.is_empty() {
                    let next = service.next_stocks(&filter, page.last()).await?;
                    for stock in std::mem::replace(&mut page, next) {
                        yield Told::Initial(stock);
                    }
                }
            }
            for await change in events::watch::<StockChanged>(&service.log, STOCK_CHANGED, after) {
                match change? {
                    events::Change::Bookmark(cursor) => yield Told::Bookmark(cursor),
                    events::Change::Event { payload: StockChanged { stock: Some(stock), .. }, event } => {
                        if filter.iter().all(|condition| holds(condition, &stock)) {
                            yield Told::Changed(stock, event);
                        }
                    }
                    events::Change::Event { .. } => {}
                }
            }
        }
    }
}

fn holds(condition: &Condition, stock: &pb::Stock) -> bool {
    let Value::Text(text) = &condition.value else { return false };
    let equal = match condition.field {
        "location_id" => stock.location_id == *text,
        _ => stock.sku == *text,
    };
    equal == (condition.operator == Operator::Equal)
}
