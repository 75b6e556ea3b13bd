//! The service in a server of its own, and the persons that the tests speak of.

use std::collections::BTreeSet;

use identity::Config;
use mesh::{Channel, Policy, ServerBuilder};
use omnimesh_proto::{
    event::v1::{StreamEventsRequest, event_service_client::EventServiceClient},
    identity::v1::{self as pb, identity_service_client::IdentityServiceClient},
    r#type::v1::SourceRef,
};
use storage::testing::postgres_database;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic_types::StatusExt;

/// A running service on a fresh database.
pub(crate) struct Sandbox {
    pub(crate) client: IdentityServiceClient<Channel>,
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
        let directory = TempDir::new().expect("a temporary directory");
        let sqlite = storage::Config { url: format!("sqlite:{}", directory.path().display()) };
        let postgres = postgres_database().await;
        vec![
            Self::start(sqlite, directory).await,
            Self::start(postgres, TempDir::new().expect("a temporary directory")).await,
        ]
    }

    async fn start(storage: storage::Config, directory: TempDir) -> Self {
        let policy = Policy::new([("test", ["identity.*", "event.read"].as_slice())]);
        let mut server = ServerBuilder::new(mesh::Config::default(), policy, None);
        let peers = server.host("identity");
        identity::register(Config { max_records_per_key: 3 }, &storage, &peers, &mut server)
            .await
            .expect("registered");
        let peers = peers.for_workload("test");
        let client = IdentityServiceClient::new(peers.channel("omnimesh.identity.v1.IdentityService"));
        let events = EventServiceClient::new(peers.channel_to("identity", events::SERVICE));
        let server = server.build().await.expect("built");
        let server = tokio::spawn(async move { server.serve(std::future::pending()).await.expect("served") });
        Self { client, events, server, _directory: directory }
    }

    /// Imports portions; returns how many records were accepted and unchanged.
    pub(crate) async fn import(&self, portions: &[&[pb::IdentityRecord]]) -> (i64, i64) {
        let answer = self.try_import(portions).await.expect("imported");
        (answer.accepted_count, answer.unchanged_count)
    }

    pub(crate) async fn try_import(
        &self,
        portions: &[&[pb::IdentityRecord]],
    ) -> Result<pb::ImportIdentityRecordsResponse, tonic::Status> {
        let portions: Vec<_> = portions
            .iter()
            .map(|records| pb::ImportIdentityRecordsRequest { records: records.to_vec() })
            .collect();
        let answer = self.client.clone().import_identity_records(futures::stream::iter(portions)).await;
        answer.map(tonic::Response::into_inner)
    }

    /// The first changes that the events tell of, once there are `count`: on PostgreSQL an event stays unseen while
    /// any older transaction is open.
    pub(crate) async fn told(&self, count: usize) -> Vec<pb::IdentityChanged> {
        let request =
            StreamEventsRequest { domain: "identity".to_owned(), follow: true, ..Default::default() };
        let mut batches = self.events.clone().stream_events(request).await.expect("streamed").into_inner();
        let mut told = Vec::new();
        while told.len() < count {
            let batch = batches.message().await.expect("a batch").expect("an endless stream");
            let decode = |event| events::decode("omnimesh.identity.v1.IdentityChanged", event);
            told.extend(batch.events.iter().map(|event| decode(event).expect("an IdentityChanged")));
        }
        told
    }

    /// Everybody who stands, in the order of the list.
    pub(crate) async fn everybody(&self) -> Vec<pb::Identity> {
        let answer = self.client.clone().list_identities(pb::ListIdentitiesRequest::default()).await;
        answer.expect("listed").into_inner().identities
    }

    /// Which records are of one person, whoever it is.
    pub(crate) async fn partition(&self) -> BTreeSet<BTreeSet<String>> {
        self.everybody().await.iter().map(sources).collect()
    }

    /// Whose the record is.
    pub(crate) async fn owner(&self, source: &str) -> pb::Identity {
        self.resolve(pb::resolve_identity_request::Key::Source(source_ref(source))).await.expect("resolved")
    }

    pub(crate) async fn resolve(
        &self,
        key: pb::resolve_identity_request::Key,
    ) -> Result<pb::Identity, tonic::Status> {
        let answer =
            self.client.clone().resolve_identity(pb::ResolveIdentityRequest { key: Some(key) }).await?;
        Ok(answer.into_inner().identity.expect("an identity"))
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

/// Sources of a person's records as `system:id`.
pub(crate) fn sources(identity: &pb::Identity) -> BTreeSet<String> {
    let sources = identity.records.iter().filter_map(|record| record.source.clone());
    sources.map(|source| format!("{}:{}", source.system, source.id)).collect()
}

pub(crate) fn source_ref(source: &str) -> SourceRef {
    let (system, id) = source.split_once(':').expect("system:id");
    SourceRef { system: system.to_owned(), id: id.to_owned() }
}

/// A record of `source` (`system:id`) whose keys are `keys` (each an e-mail, `+phone` or `#card`), as of `seconds`.
pub(crate) fn record(source: &str, seconds: i64, keys: &[&str]) -> pb::IdentityRecord {
    let mut record = pb::IdentityRecord {
        source: Some(source_ref(source)),
        update_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        ..pb::IdentityRecord::default()
    };
    for key in keys {
        match key.as_bytes()[0] {
            b'+' => record.phone = (*key).to_owned(),
            b'#' => record.loyalty_card = key[1..].to_owned(),
            _ => record.email = (*key).to_owned(),
        }
    }
    record
}

pub(crate) fn set<const N: usize>(sources: [&str; N]) -> BTreeSet<String> {
    sources.map(str::to_owned).into()
}
