//! Telling of changes as they happen.

use events::Begin;
use futures::Stream;

use super::Service;
use crate::{
    Error,
    domain::Product,
    event::{Told, changes},
    store,
};

/// Products that are read at one time.
const PAGE: i64 = 1_000;

impl Service {
    /// Streams changes of products.
    pub(crate) async fn watch_products(
        &self,
        begin: Begin,
    ) -> Result<impl Stream<Item = Result<Told, Error>> + Send + use<>, Error> {
        let service = self.clone();
        // Before the caller is answered: what happens from then on is told.
        let after = begin.position(&service.log).await?;
        Ok(async_stream::try_stream! {
            if matches!(begin, Begin::WithInitial) {
                let mut page = service.products_after(None).await?;
                while !page.is_empty() {
                    let next = service.products_after(page.last()).await?;
                    for product in std::mem::replace(&mut page, next) {
                        yield Told::Initial(product);
                    }
                }
            }
            for await told in changes(&service.log, after) {
                yield told?;
            }
        })
    }

    /// The next products by sku, none at the end.
    async fn products_after(&self, last: Option<&Product>) -> Result<Vec<Product>, Error> {
        let after = last.map_or("", |product| product.sku.as_str());
        store::list_products(&mut *self.database.reader().await?, &[], after, PAGE).await
    }
}
