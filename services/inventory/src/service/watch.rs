//! Changes of stock as they happen.

use events::Begin;
use futures::Stream;
use types::filter::Condition;

use super::Service;
use crate::{
    Error,
    event::{Told, changes},
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
            let after = begin.position(&service.log).await?;
            if matches!(begin, Begin::WithInitial) {
                let mut page = service.next_stocks(&filter, None).await?;
                while !page.is_empty() {
                    let next = service.next_stocks(&filter, page.last()).await?;
                    for stock in std::mem::replace(&mut page, next) {
                        yield Told::Initial(stock);
                    }
                }
            }
            for await told in changes(&service.log, after) {
                let told = told?;
                if told.passes(&filter) {
                    yield told;
                }
            }
        }
    }
}
