//! The service in a server of its own, beside the domains that it sends to, on databases that outlive them.

use std::collections::BTreeMap;

use futures::StreamExt;
use ingest::{Config, Definition};
use mesh::{Channel, MAX_MESSAGE_BYTES, Policy, ServerBuilder};
use omnimesh_proto::{
    catalog::v1::{GetProductRequest, Product, catalog_service_client::CatalogServiceClient},
    event::v1::{Event, StreamEventsRequest, event_service_client::EventServiceClient},
    identity::v1::{
        Identity, IdentityRecord, ResolveIdentityRequest, identity_service_client::IdentityServiceClient,
        resolve_identity_request::Key,
    },
    ingest::v1::{self as pb, ingest_service_client::IngestServiceClient},
    inventory::v1::{GetStockRequest, inventory_service_client::InventoryServiceClient},
    order::v1::{ListOrdersRequest, LookupOrderRequest, Order, order_service_client::OrderServiceClient},
    r#type::v1::SourceRef,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic_types::StatusExt;

/// What ingest may do, as the binary grants it.
pub(crate) const GRANTS: &[&str] = &["order.write", "identity.write", "catalog.write", "inventory.write"];

/// A running service.
pub(crate) struct Sandbox {
    pub(crate) client: IngestServiceClient<Channel>,
    pub(crate) identities: IdentityServiceClient<Channel>,
    pub(crate) orders: OrderServiceClient<Channel>,
    products: CatalogServiceClient<Channel>,
    stocks: InventoryServiceClient<Channel>,
    events: EventServiceClient<Channel>,
    pub(crate) storage: storage::Config,
    consumers: events::Consumers,
    server: JoinHandle<()>,
    directory: Option<TempDir>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Sandbox {
    /// The service on fresh SQLite databases.
    pub(crate) async fn new(sources: Vec<Definition>) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let storage = storage::Config { url: format!("sqlite:{}", directory.path().display()) };
        let mut sandbox = Self::start(storage, sources, GRANTS).await.expect("registered");
        sandbox.directory = Some(directory);
        sandbox
    }

    /// The service on fresh PostgreSQL databases.
    pub(crate) async fn on_postgres(sources: Vec<Definition>) -> Self {
        Self::start(storage::testing::postgres_database().await, sources, GRANTS).await.expect("registered")
    }

    /// The service on each engine.
    pub(crate) async fn on_both_engines(sources: impl Fn() -> Vec<Definition>) -> [Self; 2] {
        [Self::new(sources()).await, Self::on_postgres(sources()).await]
    }

    pub(crate) async fn start(
        storage: storage::Config,
        sources: Vec<Definition>,
        grants: &'static [&'static str],
    ) -> Result<Self, ingest::Error> {
        let all: &[&str] =
            &["ingest.*", "event.read", "order.read", "identity.read", "catalog.read", "inventory.read"];
        let reads: &[&str] = &["event.read"];
        let policy = Policy::new([("test", all), ("ingest", grants), ("order", reads), ("inventory", reads)]);
        let mut server = ServerBuilder::new(mesh::Config::default(), policy, None);
        let peers = server.host("ingest");
        ingest::register(Config { sources }, &storage, &peers, &mut server).await?;
        let own = server.host("identity");
        identity::register(identity::Config::default(), &storage, &own, &mut server)
            .await
            .expect("registered");
        let own = server.host("catalog");
        catalog::register(catalog::Config::default(), &storage, &own, &mut server).await.expect("registered");
        let own = server.host("order");
        order::register(order::Config::default(), &storage, &own, &mut server).await.expect("registered");
        let own = server.host("inventory");
        inventory::register(inventory::Config::default(), &storage, &own, &mut server)
            .await
            .expect("registered");

        let peers = peers.for_workload("test");
        let events = EventServiceClient::new(peers.channel_to("ingest", events::SERVICE));
        let orders = OrderServiceClient::new(peers.channel("omnimesh.order.v1.OrderService"));
        let (consumers, _) = server.shared::<events::Consumers>();
        let client = IngestServiceClient::new(peers.channel("omnimesh.ingest.v1.IngestService"));
        let identities = IdentityServiceClient::new(peers.channel("omnimesh.identity.v1.IdentityService"));
        let products = CatalogServiceClient::new(peers.channel("omnimesh.catalog.v1.CatalogService"));
        let stocks = InventoryServiceClient::new(peers.channel("omnimesh.inventory.v1.InventoryService"));
        let server = server.build().await.expect("built");
        let server = tokio::spawn(async move { server.serve(std::future::pending()).await.expect("served") });
        Ok(Self {
            client,
            identities,
            orders: orders.max_decoding_message_size(MAX_MESSAGE_BYTES),
            products,
            stocks,
            events: events.max_decoding_message_size(MAX_MESSAGE_BYTES),
            storage,
            consumers,
            server,
            directory: None,
        })
    }

    /// The same service started again, as after a crash.
    pub(crate) async fn restart(mut self, sources: Vec<Definition>, grants: &'static [&'static str]) -> Self {
        self.stop().await;
        let mut again = Self::start(self.storage.clone(), sources, grants).await.expect("registered");
        again.directory = self.directory.take();
        again
    }

    pub(crate) async fn stop(&mut self) {
        self.server.abort();
        self.consumers.stop().await;
    }

    /// Runs a source to its end; returns the last message.
    pub(crate) async fn run(&self, system: &str) -> Result<pb::RunSourceResponse, Status> {
        let mut progress = self.start_run(system).await?;
        let mut last = pb::RunSourceResponse::default();
        while let Some(message) = progress.message().await? {
            last = message;
        }
        assert!(last.done);
        Ok(last)
    }

    /// Runs a source to its end as soon as the run before, which nobody reads any more, has ended what it was at.
    pub(crate) async fn run_when_free(&self, system: &str) {
        let mut outcome = self.run(system).await;
        while outcome.as_ref().is_err_and(|status| reason(status) == "RUN_IN_PROGRESS") {
            outcome = self.run(system).await;
        }
        outcome.expect("a run");
    }

    pub(crate) async fn start_run(
        &self,
        system: &str,
    ) -> Result<tonic::Streaming<pb::RunSourceResponse>, Status> {
        let request = pb::RunSourceRequest { name: format!("sources/{system}") };
        Ok(self.client.clone().run_source(request).await?.into_inner())
    }

    pub(crate) async fn source(&self, system: &str) -> pb::Source {
        let request = pb::GetSourceRequest { name: format!("sources/{system}") };
        self.client
            .clone()
            .get_source(request)
            .await
            .expect("a source")
            .into_inner()
            .source
            .expect("a source")
    }

    /// Landed, applied and quarantined records and complete objects of an entity.
    pub(crate) async fn counts(&self, system: &str, entity: &str) -> [i64; 4] {
        let source = self.source(system).await;
        let entity = source.entities.into_iter().find(|found| found.entity == entity).expect("an entity");
        [entity.landed_count, entity.applied_count, entity.quarantined_count, entity.object_count]
    }

    /// Position, reason and payload of every quarantined record, by position.
    pub(crate) async fn quarantined(&self) -> Vec<(String, String, String)> {
        let records = self.records("").await;
        let mut records: Vec<_> =
            records.into_iter().map(|record| (record.position, record.reason, record.payload)).collect();
        records.sort();
        records
    }

    pub(crate) async fn records(&self, filter: &str) -> Vec<pb::QuarantinedRecord> {
        let request = pb::ListQuarantinedRecordsRequest {
            page_size: 1000,
            filter: filter.to_owned(),
            ..pb::ListQuarantinedRecordsRequest::default()
        };
        self.list_records(request).await.expect("records").records
    }

    pub(crate) async fn list_records(
        &self,
        request: pb::ListQuarantinedRecordsRequest,
    ) -> Result<pb::ListQuarantinedRecordsResponse, Status> {
        let mut client = self.client.clone().max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(client.list_quarantined_records(request).await?.into_inner())
    }

    pub(crate) async fn replay(&self, name: &str, payload: &str, request_id: &str) -> Result<i64, Status> {
        let request = pb::ReplayQuarantinedRecordRequest {
            name: name.to_owned(),
            payload: payload.to_owned(),
            request_id: request_id.to_owned(),
        };
        Ok(self.client.clone().replay_quarantined_record(request).await?.into_inner().applied_count)
    }

    /// Every event of a domain so far, which on PostgreSQL may be fewer than there are.
    pub(crate) async fn events(&self, domain: &str) -> Vec<Event> {
        let request = StreamEventsRequest { domain: domain.to_owned(), ..StreamEventsRequest::default() };
        let batches = self.events.clone().stream_events(request).await.expect("a stream").into_inner();
        batches.map(|batch| batch.expect("a batch").events).concat().await
    }

    /// Our own events of a type, from the first on, for ever.
    pub(crate) async fn follow(&self, r#type: &str) -> impl futures::Stream<Item = Event> + Unpin + use<> {
        let request = StreamEventsRequest {
            domain: "ingest".to_owned(),
            types: vec![r#type.to_owned()],
            follow: true,
            ..StreamEventsRequest::default()
        };
        let batches = self.events.clone().stream_events(request).await.expect("a stream").into_inner();
        batches.flat_map(|batch| futures::stream::iter(batch.expect("a batch").events))
    }

    /// The order that a record is of.
    pub(crate) async fn order(&self, system: &str, id: &str) -> Order {
        let request = LookupOrderRequest { source: Some(source_ref(system, id)) };
        self.orders
            .clone()
            .lookup_order(request)
            .await
            .expect("an order")
            .into_inner()
            .order
            .expect("an order")
    }

    /// Every order, by the first of its records.
    pub(crate) async fn all_orders(&self) -> BTreeMap<String, Order> {
        let mut orders = BTreeMap::new();
        let mut request = ListOrdersRequest { page_size: 1000, ..ListOrdersRequest::default() };
        loop {
            let page = self.orders.clone().list_orders(request.clone()).await.expect("a page").into_inner();
            for order in page.orders {
                let source = order.sources[0].source.clone().expect("a source");
                orders.insert(format!("{}:{}", source.system, source.id), order);
            }
            if page.next_page_token.is_empty() {
                return orders;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// The person that a record is of.
    pub(crate) async fn identity(&self, system: &str, id: &str) -> Identity {
        let request = ResolveIdentityRequest { key: Some(Key::Source(source_ref(system, id))) };
        let answer = self.identities.clone().resolve_identity(request).await.expect("a person");
        answer.into_inner().identity.expect("a person")
    }

    /// A person's record as identity took it.
    pub(crate) async fn person(&self, system: &str, id: &str) -> IdentityRecord {
        let of_record = |record: &IdentityRecord| record.source == Some(source_ref(system, id));
        self.identity(system, id).await.records.into_iter().find(of_record).expect("a record")
    }

    pub(crate) async fn product(&self, sku: &str) -> Product {
        let request = GetProductRequest { name: format!("products/{sku}") };
        self.products
            .clone()
            .get_product(request)
            .await
            .expect("a product")
            .into_inner()
            .product
            .expect("a product")
    }

    pub(crate) async fn on_hand(&self, name: &str) -> i64 {
        let request = GetStockRequest { name: name.to_owned() };
        self.stocks
            .clone()
            .get_stock(request)
            .await
            .expect("a stock")
            .into_inner()
            .stock
            .expect("a stock")
            .on_hand
    }
}

pub(crate) fn source_ref(system: &str, id: &str) -> SourceRef {
    SourceRef { system: system.to_owned(), id: id.to_owned() }
}

/// The reason in a status' ErrorInfo.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
