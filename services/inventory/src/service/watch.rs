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
    pub(crate) async fn watch_stock(
        &self,
        begin: Begin,
        filter: Vec<Condition>,
    ) -> Result<impl Stream<Item = Result<Told, Error>> + Send + use<>, Error> {
        let service = self.clone();
        // Before the caller is answered: what happens from then on is told.
        let after = begin.position(&service.log).await?;
        Ok(async_stream::try_stream! {
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
        })
    }
}
