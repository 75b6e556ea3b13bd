//! The service in a server of its own, beside the persons that it derives customers from.

use customer::Config;
use events::Consumers;
use mesh::{Channel, Policy, ServerBuilder};
use omnimesh_proto::{
    customer::v1::{self as pb, customer_service_client::CustomerServiceClient},
    event::v1::{StreamEventsRequest, event_service_client::EventServiceClient},
    identity::v1::{Identity, identity_service_server::IdentityServiceServer},
};
use prost::Message;
use storage::testing::postgres_database;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic_types::StatusExt;

use crate::persons::{Persons, golden_id};

/// A running service on a fresh database.
pub(crate) struct Sandbox {
    pub(crate) client: CustomerServiceClient<Channel>,
    events: EventServiceClient<Channel>,
    persons: Persons,
    consumers: Consumers,
    server: JoinHandle<()>,
    _directory: TempDir,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Sandbox {
    /// The service on each engine, once it knows `persons`.
    pub(crate) async fn on_both_engines(persons: &[Identity]) -> Vec<Self> {
        let directory = TempDir::new().expect("a temporary directory");
        let sqlite = storage::Config { url: format!("sqlite:{}", directory.path().display()) };
        let postgres = postgres_database().await;
        let sandboxes = vec![
            Self::start(sqlite, directory).await,
            Self::start(postgres, TempDir::new().expect("a temporary directory")).await,
        ];
        for sandbox in &sandboxes {
            sandbox.tell(persons).await;
        }
        sandboxes
    }

    async fn start(storage: storage::Config, directory: TempDir) -> Self {
        let policy = Policy::new([
            ("test", ["customer.*", "event.read"].as_slice()),
            ("customer", ["identity.read", "event.read"].as_slice()),
        ]);
        let mut server = ServerBuilder::new(mesh::Config::default(), policy, None);
        let persons = Persons::open(&storage).await;
        server.host("identity");
        server.add(IdentityServiceServer::new(persons.clone()));
        events::serve(&mut server, persons.log.clone());
        let peers = server.host("customer");
        customer::register(Config::default(), &storage, &peers, &mut server).await.expect("registered");
        let (consumers, _) = server.shared::<Consumers>();
        let test = peers.for_workload("test");
        let client = CustomerServiceClient::new(test.channel("omnimesh.customer.v1.CustomerService"));
        let events = EventServiceClient::new(test.channel_to("customer", "omnimesh.event.v1.EventService"));
        let server = server.build().await.expect("built");
        let server = tokio::spawn(async move { server.serve(std::future::pending()).await.expect("served") });
        Self { client, events, persons, consumers, server, _directory: directory }
    }

    /// Tells of persons, and waits until the customers are derived.
    pub(crate) async fn tell(&self, persons: &[Identity]) {
        let end = self.persons.publish(persons).await;
        for mut position in self.consumers.positions() {
            position.cursor.wait_for(|cursor| *cursor >= end).await.expect("a running consumer");
        }
    }

    pub(crate) async fn get(&self, number: u8) -> Result<pb::Customer, Status> {
        let request = pb::GetCustomerRequest { name: name(number) };
        let answer = self.client.clone().get_customer(request).await?.into_inner();
        Ok(answer.customer.expect("a customer"))
    }

    /// The first `count` things that the service told.
    pub(crate) async fn told(&self, count: usize) -> Vec<pb::CustomerChanged> {
        let request = StreamEventsRequest {
            domain: "customer".to_owned(),
            follow: true,
            ..StreamEventsRequest::default()
        };
        let mut batches = self.events.clone().stream_events(request).await.expect("events").into_inner();
        let mut told = Vec::new();
        while told.len() < count {
            let batch = batches.message().await.expect("a batch").expect("an endless stream");
            told.extend(batch.events.into_iter().map(|event| {
                assert_eq!(event.r#type, "omnimesh.customer.v1.CustomerChanged");
                pb::CustomerChanged::decode(event.payload).expect("a payload")
            }));
        }
        told
    }
}

/// Resource name of customer `number`.
pub(crate) fn name(number: u8) -> String {
    format!("customers/{}", golden_id(number))
}

/// The reason in a status' ErrorInfo.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The fields at fault.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    let violations =
        status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}
