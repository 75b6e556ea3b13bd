//! The service in a server of its own, beside a log that plays the order domain's part on the wire.

use std::time::Duration;

use events::{Directory, Log, NewEvent};
use futures::StreamExt;
use inventory::Config;
use mesh::{Channel, Policy, ServerBuilder};
use omnimesh_proto::{
    event::v1::{StreamEventsRequest, event_service_client::EventServiceClient},
    inventory::v1::{self as pb, inventory_service_client::InventoryServiceClient},
    order::v1::{Order, OrderChanged, OrderLine},
    r#type::v1::SourceRef,
};
use sqlx::migrate::Migrator;
use storage::{Database, testing::postgres_database};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic_types::StatusExt;
use types::Timestamp;

static NONE: Migrator = Migrator::DEFAULT;
const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const STOCK: &str = "locations/1/stocks/2";

/// A running service on a fresh database.
pub(crate) struct Sandbox {
    pub(crate) client: InventoryServiceClient<Channel>,
    events: EventServiceClient<Channel>,
    orders: Log,
    database: Database,
    consumers: events::Consumers,
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
        let directory = TempDir::new().expect("a temporary directory");
        let sqlite = storage::Config { url: format!("sqlite:{}", directory.path().display()) };
        vec![
            Self::start(sqlite, directory).await,
            Self::start(postgres_database().await, TempDir::new().expect("a temporary directory")).await,
        ]
    }

    async fn start(storage: storage::Config, directory: TempDir) -> Self {
        let policy = Policy::new([
            ("test", ["inventory.*", "event.read"].as_slice()),
            ("inventory", ["event.read"].as_slice()),
        ]);
        let mut server = ServerBuilder::new(mesh::Config::default(), policy, None);
        let database = Database::open(&storage, "orders", &NONE).await.expect("a database for orders");
        let orders = Log::open("order", &database).await.expect("a log of orders");
        events::serve(&mut server, orders.clone());
        server.host("order");
        let peers = server.host("inventory");
        inventory::register(Config::default(), &storage, &peers, &mut server).await.expect("registered");
        let test = peers.for_workload("test");
        let (consumers, _) = server.shared::<events::Consumers>();
        assert_eq!(server.shared::<Directory>().0.logs().len(), 2);
        let server = server.build().await.expect("built");
        let server = tokio::spawn(async move { server.serve(std::future::pending()).await.expect("served") });
        let client = InventoryServiceClient::new(test.channel("omnimesh.inventory.v1.InventoryService"));
        let events = EventServiceClient::new(test.channel_to("inventory", events::SERVICE));
        Self { client, events, orders, database, consumers, server, _directory: directory }
    }

    /// Imports movements; returns how many were accepted and unchanged.
    pub(crate) async fn import(&self, movements: &[pb::StockMovement]) -> (i64, i64) {
        let portion = pb::ImportStockMovementsRequest { movements: movements.to_vec() };
        let answer = self.client.clone().import_stock_movements(futures::stream::iter([portion])).await;
        let answer = answer.expect("imported").into_inner();
        (answer.accepted_count, answer.unchanged_count)
    }

    pub(crate) async fn on_hand(&self, name: &str) -> Option<i64> {
        let request = pb::GetStockRequest { name: name.to_owned() };
        let answer = self.client.clone().get_stock(request).await.ok()?;
        answer.into_inner().stock.map(|stock| stock.on_hand)
    }

    /// The events of stock from the first on, as soon as they tell of so many movements.
    pub(crate) async fn told(&self, movements: usize) -> Vec<pb::StockChanged> {
        let request = StreamEventsRequest {
            domain: "inventory".to_owned(),
            follow: true,
            ..StreamEventsRequest::default()
        };
        let mut client = self.events.clone().max_decoding_message_size(mesh::MAX_MESSAGE_BYTES);
        let mut batches = client.stream_events(request).await.expect("a stream").into_inner();
        let mut told: Vec<pb::StockChanged> = Vec::new();
        let all = async {
            while told.iter().map(|event| event.movements.len()).sum::<usize>() < movements {
                let batch = batches.next().await.expect("goes on").expect("no error");
                told.extend(batch.events.iter().map(|event| {
                    events::decode("omnimesh.inventory.v1.StockChanged", event).expect("a stock")
                }));
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("told in time");
        told
    }

    /// Publishes orders and waits until they are booked.
    pub(crate) async fn order(&self, orders: impl IntoIterator<Item = Order>) {
        let events: Vec<_> = orders
            .into_iter()
            .map(|order| {
                let name = format!("orders/{}", order.order_uid);
                let payload = OrderChanged { order: Some(order) };
                NewEvent::new("omnimesh.order.v1.OrderChanged", name, Timestamp::from_micros(1), &payload)
            })
            .collect();
        let mut tx = self.database.begin().await.expect("begin");
        self.orders.publish(&mut tx, &events).await.expect("published");
        tx.commit().await.expect("committed");
        let committed = self.orders.committed().await.expect("committed");
        let mut position = self.consumers.positions().remove(0).cursor;
        let booked = tokio::time::timeout(PATIENCE, position.wait_for(|cursor| *cursor >= committed));
        booked.await.expect("booked in time").expect("the consumer runs");
    }
}

/// A movement of the one stock that the tests speak of; `id` is its source's.
pub(crate) fn movement(kind: pb::MovementKind, quantity: i64, minute: i64, id: &str) -> pb::StockMovement {
    pb::StockMovement {
        sku: "2".to_owned(),
        location_id: "1".to_owned(),
        kind: kind.into(),
        quantity,
        event_time: Some(Timestamp::from_micros(minute * 60_000_000).into()),
        source: Some(SourceRef { system: "stock".to_owned(), id: id.to_owned() }),
        ..pb::StockMovement::default()
    }
}

/// An order of `quantity` of that product at that location.
pub(crate) fn order(order_uid: &str, quantity: i64, minute: i64) -> Order {
    Order {
        order_uid: order_uid.to_owned(),
        location_id: "1".to_owned(),
        order_time: Some(Timestamp::from_micros(minute * 60_000_000).into()),
        lines: vec![OrderLine { sku: "2".to_owned(), quantity, ..OrderLine::default() }],
        ..Order::default()
    }
}

/// The reason that a refusal gives.
pub(crate) fn reason(status: &tonic::Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}
