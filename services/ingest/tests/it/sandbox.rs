//! The service in a server of its own, on a database that outlives it.

use std::sync::Arc;

use futures::StreamExt;
use ingest::{Config, Definition};
use mesh::{Channel, Policy, ServerBuilder};
use omnimesh_proto::{
    event::v1::{Event, StreamEventsRequest, event_service_client::EventServiceClient},
    ingest::v1::{self as pb, ingest_service_client::IngestServiceClient},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic_types::StatusExt;

use crate::domains::{self, Domains};

/// A running service.
pub(crate) struct Sandbox {
    pub(crate) client: IngestServiceClient<Channel>,
    pub(crate) domains: Arc<Domains>,
    events: EventServiceClient<Channel>,
    storage: storage::Config,
    server: JoinHandle<()>,
    directory: Option<TempDir>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Sandbox {
    /// The service on a fresh SQLite database.
    pub(crate) async fn new(sources: Vec<Definition>) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let storage = storage::Config { url: format!("sqlite:{}", directory.path().display()) };
        let mut sandbox = Self::start(storage, Domains::new(), sources).await.expect("registered");
        sandbox.directory = Some(directory);
        sandbox
    }

    pub(crate) async fn start(
        storage: storage::Config,
        domains: Arc<Domains>,
        sources: Vec<Definition>,
    ) -> Result<Self, ingest::Error> {
        let policy = Policy::new([
            ("test", ["ingest.*", "event.*"].as_slice()),
            ("ingest", ["order.write", "identity.write", "catalog.write", "inventory.write"].as_slice()),
        ]);
        let mut server = ServerBuilder::new(mesh::Config::default(), policy, None);
        domains::serve(&mut server, &domains);
        let peers = server.host("ingest");
        ingest::register(Config { sources }, &storage, &peers, &mut server).await?;
        let peers = peers.for_workload("test");
        let client = IngestServiceClient::new(peers.channel("omnimesh.ingest.v1.IngestService"));
        let events = EventServiceClient::new(peers.channel_to("ingest", "omnimesh.event.v1.EventService"));
        let server = server.build().await.expect("built");
        let server = tokio::spawn(async move { server.serve(std::future::pending()).await.expect("served") });
        Ok(Self { client, domains, events, storage, server, directory: None })
    }

    /// The same service started again, as after a crash.
    pub(crate) async fn restart(mut self, sources: Vec<Definition>) -> Self {
        self.server.abort();
        let directory = self.directory.take();
        let again = Self::start(self.storage.clone(), Arc::clone(&self.domains), sources).await;
        let mut again = again.expect("registered");
        again.directory = directory;
        again
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

    pub(crate) async fn start_run(&self, system: &str) -> Result<tonic::Streaming<pb::RunSourceResponse>, Status> {
        let request = pb::RunSourceRequest { name: format!("sources/{system}") };
        Ok(self.client.clone().run_source(request).await?.into_inner())
    }

    pub(crate) async fn source(&self, system: &str) -> pb::Source {
        let request = pb::GetSourceRequest { name: format!("sources/{system}") };
        self.client.clone().get_source(request).await.expect("a source").into_inner().source.expect("a source")
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
        self.client.clone().list_quarantined_records(request).await.expect("records").into_inner().records
    }

    pub(crate) async fn replay(&self, name: &str, payload: &str, request_id: &str) -> Result<i64, Status> {
        let request = pb::ReplayQuarantinedRecordRequest {
            name: name.to_owned(),
            payload: payload.to_owned(),
            request_id: request_id.to_owned(),
        };
        Ok(self.client.clone().replay_quarantined_record(request).await?.into_inner().applied_count)
    }

    /// Every event so far.
    pub(crate) async fn events(&self) -> Vec<Event> {
        let request = StreamEventsRequest { domain: "ingest".to_owned(), ..StreamEventsRequest::default() };
        let client = self.events.clone().max_decoding_message_size(mesh::MAX_MESSAGE_BYTES);
        let batches = { client }.stream_events(request).await.expect("a stream").into_inner();
        batches.map(|batch| batch.expect("a batch").events).concat().await
    }
}

/// The reason in a status' ErrorInfo.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
