//! The service in a server of its own, with an identity log to feed it, and the orders that the tests speak of.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
};

use events::{Consumers, Cursor, Log, NewEvent, Position};
use futures::StreamExt;
use mesh::{Channel, Policy, ServerBuilder};
use omnimesh_proto::{
    event::v1::{StreamEventsRequest, event_service_client::EventServiceClient},
    identity::v1::{Identity, IdentityChanged, IdentityRecord},
    order::v1::{self as pb, order_service_client::OrderServiceClient},
    r#type::v1::SourceRef,
};
use order::Config;
use prost::Message;
use storage::{Database, sqlx::migrate::Migrator, testing::postgres_database};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic_types::StatusExt;
use types::Timestamp;
use uuid::Uuid;

/// The system and the place of orders that only mark the end of what a test looks at.
const LAST: &str = "last";

/// A running service on a fresh database.
pub(crate) struct Sandbox {
    pub(crate) client: OrderServiceClient<Channel>,
    events: EventServiceClient<Channel>,
    identity: (Database, Log),
    position: Position,
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
        let policy = Policy::new([
            ("test", ["*"].as_slice()),
            ("order", &["event.read", "order.read", "identity.read"]),
        ]);
        let mut server = ServerBuilder::new(mesh::Config::default(), policy, None);
        server.host("identity");
        let database =
            Database::open(&storage, "identity", &Migrator::DEFAULT).await.expect("identity's database");
        let log = Log::open("identity", &database).await.expect("identity's log");
        events::serve(&mut server, log.clone());
        let peers = server.host("order");
        order::register(Config::default(), &storage, &peers, &mut server).await.expect("registered");
        let position = server.shared::<Consumers>().0.positions().pop().expect("the consumer of identities");
        let peers = peers.for_workload("test");
        let client = OrderServiceClient::new(peers.channel("omnimesh.order.v1.OrderService"));
        let events = EventServiceClient::new(peers.channel_to("order", "omnimesh.event.v1.EventService"));
        let server = server.build().await.expect("built");
        let server = tokio::spawn(async move { server.serve(std::future::pending()).await.expect("served") });
        Self { client, events, identity: (database, log), position, server, _directory: directory }
    }

    /// Imports portions; returns how many orders were accepted and unchanged.
    pub(crate) async fn import(&self, portions: &[&[pb::SourceOrder]]) -> (i64, i64) {
        let answer = self.try_import(portions).await.expect("imported");
        (answer.accepted_count, answer.unchanged_count)
    }

    pub(crate) async fn try_import(
        &self,
        portions: &[&[pb::SourceOrder]],
    ) -> Result<pb::ImportOrdersResponse, tonic::Status> {
        let portions: Vec<_> =
            portions.iter().map(|orders| pb::ImportOrdersRequest { orders: orders.to_vec() }).collect();
        let answer = self.client.clone().import_orders(futures::stream::iter(portions)).await;
        answer.map(tonic::Response::into_inner)
    }

    /// Tells the service of persons, and waits until it has taken that in.
    pub(crate) async fn identify(&self, persons: &[Identity]) {
        let (database, log) = &self.identity;
        let event = |identity: &Identity| {
            let payload = IdentityChanged { identity: Some(identity.clone()), ..Default::default() };
            NewEvent::new(
                "omnimesh.identity.v1.IdentityChanged",
                identity.name.clone(),
                Timestamp::now(),
                &payload,
            )
        };
        let last = person(&Uuid::now_v7().to_string(), &[]);
        let mut tx = database.begin().await.expect("begun");
        let events: Vec<_> = persons.iter().chain([&last]).map(event).collect();
        log.publish(&mut tx, &events).await.expect("published");
        tx.commit().await.expect("committed");

        let mut batches = pin!(log.stream(Cursor::START, Vec::new(), true));
        let position = loop {
            let batch = batches.next().await.expect("an endless stream").expect("a batch");
            if let Some(event) = batch.events.iter().find(|event| event.subject == last.name) {
                break event.cursor.parse::<Cursor>().expect("a cursor");
            }
        };
        self.position
            .cursor
            .clone()
            .wait_for(|cursor| *cursor >= position)
            .await
            .expect("a running consumer");
    }

    pub(crate) async fn list(
        &self,
        request: pb::ListOrdersRequest,
    ) -> Result<pb::ListOrdersResponse, tonic::Status> {
        self.client.clone().list_orders(request).await.map(tonic::Response::into_inner)
    }

    /// Every standing order, newest first.
    pub(crate) async fn orders(&self) -> Vec<pb::Order> {
        let filter = format!("location_id != {LAST}");
        self.list(pb::ListOrdersRequest { page_size: 1000, filter, ..Default::default() })
            .await
            .expect("listed")
            .orders
    }

    pub(crate) async fn get(&self, name: &str) -> Result<pb::Order, tonic::Status> {
        let answer = self.client.clone().get_order(pb::GetOrderRequest { name: name.to_owned() }).await?;
        Ok(answer.into_inner().order.expect("an order"))
    }

    /// The order of record `source` (`system:id`).
    pub(crate) async fn lookup(&self, source: &str) -> Result<pb::Order, tonic::Status> {
        let request = pb::LookupOrderRequest { source: Some(source_ref(source)) };
        Ok(self.client.clone().lookup_order(request).await?.into_inner().order.expect("an order"))
    }

    /// Which records are one order, and that order's total.
    pub(crate) async fn partition(&self) -> BTreeMap<BTreeSet<String>, i64> {
        self.orders()
            .await
            .iter()
            .map(|order| (sources(order).into_iter().collect(), order.total_minor))
            .collect()
    }

    /// The standing orders as the events alone tell of them, of which each is newer than those whose records it has.
    pub(crate) async fn told(&self) -> BTreeMap<String, pb::Order> {
        // What was committed before an order comes before it, so that its event is the last to wait for.
        let mut last = order(&format!("{LAST}:{}", Uuid::now_v7()), 0);
        last.location_id = LAST.to_owned();
        self.import(&[&[last.clone()]]).await;
        let request = StreamEventsRequest { domain: "order".to_owned(), follow: true, ..Default::default() };
        let mut batches = self.events.clone().stream_events(request).await.expect("streamed").into_inner();
        let (mut orders, mut told) = (BTreeMap::new(), BTreeMap::new());
        loop {
            let batch = batches.message().await.expect("a batch").expect("an endless stream");
            for event in batch.events {
                let changed = pb::OrderChanged::decode(event.payload).expect("an OrderChanged");
                let order = changed.order.expect("an order");
                let time = Timestamp::try_from(order.update_time.expect("a time")).expect("a time");
                for source in sources(&order) {
                    let before = told.insert(source, time);
                    assert!(before < Some(time), "of orders with the same record the newer has it");
                }
                if order.sources.first().is_some_and(|source| source.source == last.source) {
                    return orders;
                }
                if order.merged_into.is_empty() {
                    orders.insert(order.name.clone(), order);
                } else {
                    orders.remove(&order.name);
                }
            }
        }
    }
}

/// The reason in a status' ErrorInfo.
pub(crate) fn reason(status: &tonic::Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The fields at fault.
pub(crate) fn fields(status: &tonic::Status) -> Vec<String> {
    let details = status.get_details_bad_request().into_iter();
    details.flat_map(|details| details.field_violations).map(|violation| violation.field).collect()
}

/// An order's records as `system:id`, the origin first.
pub(crate) fn sources(order: &pb::Order) -> Vec<String> {
    let sources = order.sources.iter().filter_map(|source| source.source.as_ref());
    sources.map(|source| format!("{}:{}", source.system, source.id)).collect()
}

/// What ties each record to the order.
pub(crate) fn rules(order: &pb::Order) -> Vec<pb::MatchRule> {
    order.sources.iter().map(pb::OrderSource::match_rule).collect()
}

pub(crate) fn source_ref(source: &str) -> SourceRef {
    let (system, id) = source.split_once(':').expect("system:id");
    SourceRef { system: system.to_owned(), id: id.to_owned() }
}

/// A person with these records (`system:id`).
pub(crate) fn person(golden_id: &str, records: &[&str]) -> Identity {
    let record = |source: &&str| IdentityRecord { source: Some(source_ref(source)), ..Default::default() };
    Identity {
        name: format!("identities/{golden_id}"),
        golden_id: golden_id.to_owned(),
        records: records.iter().map(record).collect(),
        ..Default::default()
    }
}

/// The golden id of person `number`.
pub(crate) fn golden_id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

/// Record `source` (`system:id`), version 1, placed `minutes` after the first of January 2017: two bananas and a
/// milk at store 1 for 3.50 dollars.
pub(crate) fn order(source: &str, minutes: i64) -> pb::SourceOrder {
    let channel = match source.split(':').next() {
        Some("marketplace") => pb::Channel::Marketplace,
        Some("pos") => pb::Channel::Pos,
        _ => pb::Channel::Web,
    };
    pb::SourceOrder {
        source: Some(source_ref(source)),
        version: 1,
        channel: channel.into(),
        location_id: "1".to_owned(),
        order_time: Some(minute(minutes)),
        status: pb::OrderStatus::Placed.into(),
        currency_code: "USD".to_owned(),
        lines: vec![line("banana", 2, 100), line("milk", 1, 250)],
        ..Default::default()
    }
}

pub(crate) fn minute(minutes: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: 1_483_228_800 + minutes * 60, nanos: 0 }
}

pub(crate) fn line(sku: &str, quantity: i64, amount_minor: i64) -> pb::OrderLine {
    pb::OrderLine { sku: sku.to_owned(), quantity, amount_minor, discount_minor: 0 }
}

/// How a test's order differs from the usual one.
pub(crate) trait With: Sized {
    fn version(self, version: i64) -> Self;
    fn naming(self, source: &str) -> Self;
    fn paid(self, psp_ref: &str, amount_minor: i64) -> Self;
    fn of(self, customer: &str) -> Self;
    fn lines(self, lines: Vec<pb::OrderLine>) -> Self;
}

impl With for pb::SourceOrder {
    fn version(mut self, version: i64) -> Self {
        self.version = version;
        self
    }

    fn naming(mut self, source: &str) -> Self {
        self.references.push(source_ref(source));
        self
    }

    fn paid(mut self, psp_ref: &str, amount_minor: i64) -> Self {
        self.payments.push(pb::Payment {
            psp_ref: psp_ref.to_owned(),
            method: "card".to_owned(),
            amount_minor,
            ..pb::Payment::default()
        });
        self
    }

    fn of(mut self, customer: &str) -> Self {
        self.customer = Some(source_ref(customer));
        self
    }

    fn lines(mut self, lines: Vec<pb::OrderLine>) -> Self {
        self.lines = lines;
        self
    }
}
