//! What the catalog service does: one method per RPC.

mod watch;

use std::{collections::BTreeMap, slice};

use events::Log;
use storage::{Database, Tx};
use types::{Imported, Request, Sku, Timestamp, filter::Condition, page::Page};

use crate::{
    Error,
    domain::{Category, CategoryId, Correction, Import, Product},
    event, store,
};

/// A correction by an operator.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) request: Request,
    pub(crate) sku: Sku,
    pub(crate) correction: Correction,
    /// The product's etag as the caller saw it.
    pub(crate) etag: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Service {
    database: Database,
    log: Log,
}

impl Service {
    pub(crate) fn new(database: Database, log: Log) -> Self {
        Self { database, log }
    }

    pub(crate) async fn get_product(&self, sku: Sku) -> Result<Product, Error> {
        let mut products = store::products(&mut *self.database.reader().await?, [&sku]).await?;
        products.remove(&sku).ok_or(Error::ProductNotFound(sku))
    }

    pub(crate) async fn batch_get_products(&self, skus: Vec<Sku>) -> Result<Vec<Product>, Error> {
        let products = store::products(&mut *self.database.reader().await?, &skus).await?;
        skus.into_iter().map(|sku| products.get(&sku).cloned().ok_or(Error::ProductNotFound(sku))).collect()
    }

    pub(crate) async fn list_products(
        &self,
        page: &Page,
        filter: &[Condition],
    ) -> Result<(Vec<Product>, String), Error> {
        let mut reader = self.database.reader().await?;
        let products = store::list_products(&mut reader, filter, last_key(page), page.limit()).await?;
        Ok(page.cut(products, |product| vec![product.sku.to_string()]))
    }

    /// Takes in one portion; it is durable when this returns.
    pub(crate) async fn import_products(&self, imports: Vec<Import>) -> Result<Imported, Error> {
        let received = imports.len();
        // Of a product that comes twice the last word counts, here as between portions.
        let imports: BTreeMap<_, _> =
            imports.into_iter().map(|import| (import.sku.clone(), import)).collect();
        let mut tx = self.database.begin().await?;
        tx.lock("products").await?;
        let standing = store::products(tx.connection()?, imports.keys()).await?;
        let now = Timestamp::now();
        let mut changed = Vec::new();
        let mut categories = BTreeMap::new();
        for (sku, Import { content, path, .. }) in imports {
            let known = standing.get(&sku);
            if let Some(product) = Product::imported(sku, content, known, now) {
                changed.push(product);
                for category in path {
                    categories.entry(category.id.clone()).or_insert(category);
                }
            }
        }
        let accepted = changed.len();
        store::make_categories(tx.connection()?, &categories.into_values().collect::<Vec<_>>()).await?;
        self.put(&mut tx, &changed, &standing).await?;
        // Even if nothing was new: what made it known may not be durable yet.
        tx.commit().await?;
        Ok(Imported::new(received, accepted))
    }

    pub(crate) async fn update_product(&self, update: Update) -> Result<Product, Error> {
        let Update { request, sku, correction, etag } = update;
        let mut tx = self.database.begin().await?;
        if let Some(product) = tx.remembered(&request).await? {
            return Ok(product);
        }
        tx.lock("products").await?;
        let products = store::products(tx.connection()?, [&sku]).await?;
        let standing = products.get(&sku).ok_or_else(|| Error::ProductNotFound(sku.clone()))?;
        if etag.is_some_and(|etag| etag != standing.etag()) {
            return Err(Error::EtagMismatch(sku));
        }
        let product = standing.corrected(correction, Timestamp::now());
        if product != *standing {
            self.put(&mut tx, slice::from_ref(&product), &products).await?;
        }
        tx.remember(&request, &product).await?;
        tx.commit().await?;
        Ok(product)
    }

    /// Children of `parent`, or the top of the tree, each with how many products are in it.
    pub(crate) async fn list_categories(
        &self,
        page: &Page,
        parent: Option<CategoryId>,
    ) -> Result<(Vec<(Category, i64)>, String), Error> {
        let mut reader = self.database.reader().await?;
        if let Some(parent) = &parent
            && !store::category_exists(&mut reader, parent).await?
        {
            return Err(Error::CategoryNotFound(parent.clone()));
        }
        let categories =
            store::list_categories(&mut reader, parent.as_ref(), last_key(page), page.limit()).await?;
        Ok(page.cut(categories, |(category, _)| vec![category.id.to_string()]))
    }

    /// Writes products that changed, and tells of them and of what stood until then.
    async fn put(
        &self,
        tx: &mut Tx,
        products: &[Product],
        standing: &BTreeMap<Sku, Product>,
    ) -> Result<(), Error> {
        store::put_products(tx.connection()?, products).await?;
        let told =
            |product: &Product| event::product_changed(product.clone(), standing.get(&product.sku).cloned());
        self.log.publish(tx, &products.iter().map(told).collect::<Vec<_>>()).await?;
        Ok(())
    }
}

/// The last id of the page before; less than every id if there is none.
fn last_key(page: &Page) -> &str {
    page.after.as_deref().and_then(<[_]>::first).map_or("", String::as_str)
}
