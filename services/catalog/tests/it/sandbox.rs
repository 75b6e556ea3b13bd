//! The service in a server of its own, and the products that the tests speak of.

use std::collections::BTreeMap;

use catalog::Config;
use mesh::{Channel, Policy, ServerBuilder};
use omnimesh_proto::{
    catalog::v1::{self as pb, catalog_service_client::CatalogServiceClient},
    event::v1::{StreamEventsRequest, event_service_client::EventServiceClient},
};
use prost::Message;
use storage::testing::postgres_database;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic_types::StatusExt;

/// A running service on a fresh database.
pub(crate) struct Sandbox {
    pub(crate) client: CatalogServiceClient<Channel>,
    events: EventServiceClient<Channel>,
    server: JoinHandle<()>,
    _directory: TempDir,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Sandbox {
    /// The service on each engine.
    pub(crate) async fn on_both_engines() -> Vec<Self> {
        vec![Self::on_sqlite().await, Self::start(Some(postgres_database().await)).await]
    }

    pub(crate) async fn on_sqlite() -> Self {
        Self::start(None).await
    }

    async fn start(storage: Option<storage::Config>) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let storage = storage
            .unwrap_or_else(|| storage::Config { url: format!("sqlite:{}", directory.path().display()) });
        let policy = Policy::new([("test", ["*"].as_slice())]);
        let mut server = ServerBuilder::new(mesh::Config::default(), policy, None);
        let peers = server.host("catalog");
        catalog::register(Config::default(), &storage, &peers, &mut server).await.expect("registered");
        let peers = peers.for_workload("test");
        let client = CatalogServiceClient::new(peers.channel("omnimesh.catalog.v1.CatalogService"));
        let events = EventServiceClient::new(peers.channel_to("catalog", "omnimesh.event.v1.EventService"));
        let server = server.build().await.expect("built");
        let server = tokio::spawn(async move { server.serve(std::future::pending()).await.expect("served") });
        Self { client, events, server, _directory: directory }
    }

    /// Imports portions; returns how many products were accepted and unchanged.
    pub(crate) async fn import(&self, portions: &[&[pb::ProductImport]]) -> (i64, i64) {
        let answer = self.try_import(portions).await.expect("imported");
        (answer.accepted_count, answer.unchanged_count)
    }

    pub(crate) async fn try_import(
        &self,
        portions: &[&[pb::ProductImport]],
    ) -> Result<pb::ImportProductsResponse, tonic::Status> {
        let portions: Vec<_> = portions
            .iter()
            .map(|products| pb::ImportProductsRequest { products: products.to_vec() })
            .collect();
        let answer = self.client.clone().import_products(futures::stream::iter(portions)).await;
        answer.map(tonic::Response::into_inner)
    }

    pub(crate) async fn get(&self, name: &str) -> Result<pb::Product, tonic::Status> {
        let answer = self.client.clone().get_product(pb::GetProductRequest { name: name.to_owned() }).await?;
        Ok(answer.into_inner().product.expect("a product"))
    }

    pub(crate) async fn list(
        &self,
        request: pb::ListProductsRequest,
    ) -> Result<pb::ListProductsResponse, tonic::Status> {
        self.client.clone().list_products(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn update(
        &self,
        request: pb::UpdateProductRequest,
    ) -> Result<pb::Product, tonic::Status> {
        Ok(self.client.clone().update_product(request).await?.into_inner().product.expect("a product"))
    }

    /// The children of `parent`.
    pub(crate) async fn categories(&self, parent: &str) -> Result<Vec<pb::Category>, tonic::Status> {
        let request =
            pb::ListCategoriesRequest { parent: parent.to_owned(), page_size: 1000, ..Default::default() };
        Ok(self.client.clone().list_categories(request).await?.into_inner().categories)
    }

    /// The first changes that the events tell of, once there are `count`: on PostgreSQL an event stays unseen while
    /// any older transaction is open. Each tells as well what stood until then.
    pub(crate) async fn told(&self, count: usize) -> Vec<pb::Product> {
        let request =
            StreamEventsRequest { domain: "catalog".to_owned(), follow: true, ..Default::default() };
        let mut batches = self.events.clone().stream_events(request).await.expect("streamed").into_inner();
        let mut products = Vec::new();
        let mut standing = BTreeMap::new();
        while products.len() < count {
            let batch = batches.message().await.expect("a batch").expect("an endless stream");
            products.extend(batch.events.into_iter().map(|event| {
                assert_eq!(event.r#type, "omnimesh.catalog.v1.ProductChanged");
                let changed = pb::ProductChanged::decode(event.payload).expect("a ProductChanged");
                let product = changed.product.expect("a product");
                assert_eq!(changed.previous, standing.insert(product.sku.clone(), product.clone()));
                product
            }));
        }
        products
    }
}

/// The reason in a status' ErrorInfo.
pub(crate) fn reason(status: &tonic::Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The fields at fault.
pub(crate) fn fields(status: &tonic::Status) -> Vec<String> {
    let violations =
        status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

/// What a source says of a shredded cheese.
pub(crate) fn cheese(sku: &str) -> pb::ProductImport {
    pb::ProductImport {
        sku: sku.to_owned(),
        title: "SHREDDED CHEESE".to_owned(),
        manufacturer_id: "69".to_owned(),
        brand: "Private".to_owned(),
        category_path: ["GROCERY", "CHEESE", "SHREDDED"].map(str::to_owned).to_vec(),
        package_size: "8 OZ".to_owned(),
    }
}

/// The same, called `title`.
pub(crate) fn called(title: &str, product: pb::ProductImport) -> pb::ProductImport {
    pb::ProductImport { title: title.to_owned(), ..product }
}

/// The same, in another category.
pub(crate) fn within(path: &[&str], product: pb::ProductImport) -> pb::ProductImport {
    pb::ProductImport { category_path: path.iter().map(|title| (*title).to_owned()).collect(), ..product }
}
