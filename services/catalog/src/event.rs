//! Events out: products that changed, and streams of them.

use events::{Change, Cursor, Event, Log, NewEvent};
use futures::{Stream, TryStreamExt};
use omnimesh_proto::catalog::v1::{self as pb, ProductChanged};

use crate::{
    Error,
    domain::{Product, product_name},
};

const PRODUCT_CHANGED: &str = "omnimesh.catalog.v1.ProductChanged";

/// Tells of a product as it is now, and as it was until then.
pub(crate) fn product_changed(product: Product, previous: Option<Product>) -> NewEvent {
    let (name, time) = (product_name(&product.sku), product.update_time);
    let payload = ProductChanged { product: Some(product.into()), previous: previous.map(Into::into) };
    NewEvent::new(PRODUCT_CHANGED, name, time, &payload)
}

/// What a watcher is to be told.
#[derive(Debug)]
pub(crate) enum Told {
    /// A product as it stood when the watch began.
    Initial(Product),
    /// A product that changed, with the event that told of it.
    Changed(pb::Product, Event),
    /// Everything up to here was told.
    Bookmark(Cursor),
}

/// Streams every change after `after`, for ever.
pub(crate) fn changes(log: &Log, after: Cursor) -> impl Stream<Item = Result<Told, Error>> + Send + use<> {
    let changes = events::watch::<ProductChanged>(log, PRODUCT_CHANGED, after);
    changes.map_err(Error::from).try_filter_map(|change| async {
        Ok(match change {
            Change::Bookmark(cursor) => Some(Told::Bookmark(cursor)),
            Change::Event { payload, event } => payload.product.map(|product| Told::Changed(product, event)),
        })
    })
}
