//! The identity service as customers see it: its log, and its answers about keys.

use std::pin::pin;

use events::{Cursor, Log, NewEvent};
use futures::{
    StreamExt,
    stream::{Empty, empty},
};
use omnimesh_proto::{
    identity::v1::{self as pb, identity_service_server::IdentityService, resolve_identity_request::Key},
    r#type::v1::SourceRef,
};
use storage::{Database, sqlx::migrate::Migrator};
use tonic::{Request, Response, Status, Streaming};

static NO_TABLES: Migrator = Migrator::DEFAULT;

/// Golden id number `number`.
pub(crate) fn golden_id(number: u8) -> String {
    format!("00000000-0000-7000-8000-0000000000{number:02}")
}

pub(crate) fn time(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

pub(crate) fn source(system: &str, id: &str) -> Option<SourceRef> {
    Some(SourceRef { system: system.to_owned(), id: id.to_owned() })
}

/// A version of record `1` of a system.
pub(crate) fn record(
    system: &str,
    seconds: i64,
    given_name: &str,
    family_name: &str,
    email: &str,
) -> pb::IdentityRecord {
    pb::IdentityRecord {
        source: source(system, "1"),
        given_name: given_name.to_owned(),
        family_name: family_name.to_owned(),
        email: email.to_owned(),
        update_time: time(seconds),
        ..pb::IdentityRecord::default()
    }
}

/// A person with these records.
pub(crate) fn person(number: u8, records: &[pb::IdentityRecord]) -> pb::Identity {
    pb::Identity {
        golden_id: golden_id(number),
        records: records.to_vec(),
        create_time: time(100),
        update_time: time(100),
        version: 1,
        ..pb::Identity::default()
    }
}

/// A person who has become a part of another.
pub(crate) fn merged(number: u8, into: u8) -> pb::Identity {
    pb::Identity { merged_into: golden_id(into), ..person(number, &[]) }
}

/// The log that customers are derived from.
#[derive(Debug, Clone)]
pub(crate) struct Persons {
    database: Database,
    pub(crate) log: Log,
}

impl Persons {
    pub(crate) async fn open(storage: &storage::Config) -> Self {
        let database = Database::open(storage, "identity", &NO_TABLES).await.expect("a database");
        let log = Log::open("identity", &database).await.expect("a log");
        Self { database, log }
    }

    /// Publishes persons, and waits until readers see them: in PostgreSQL another test's open transaction can hold
    /// them back. Returns where they end.
    pub(crate) async fn publish(&self, persons: &[pb::Identity]) -> Cursor {
        let mut cursor = self.log.head().await.expect("a head");
        let events: Vec<_> = persons
            .iter()
            .map(|person| {
                let event = pb::IdentityChanged { identity: Some(person.clone()), ..Default::default() };
                let now = types::Timestamp::from_micros(0);
                NewEvent::new("omnimesh.identity.v1.IdentityChanged", person.golden_id.clone(), now, &event)
            })
            .collect();
        let mut tx = self.database.begin().await.expect("begin");
        self.log.publish(&mut tx, &events).await.expect("published");
        tx.commit().await.expect("commit");
        let mut batches = pin!(self.log.stream(cursor, Vec::new(), true));
        let mut seen = 0;
        while seen < persons.len() {
            let batch = batches.next().await.expect("an endless stream").expect("a batch");
            seen += batch.events.len();
            cursor = batch.events.last().map_or(cursor, |event| event.cursor.parse().expect("a cursor"));
        }
        cursor
    }
}

/// Knows person 1 by the normalised keys and the record below, and nobody else.
#[tonic::async_trait]
impl IdentityService for Persons {
    async fn resolve_identity(
        &self,
        request: Request<pb::ResolveIdentityRequest>,
    ) -> Result<Response<pb::ResolveIdentityResponse>, Status> {
        let known = match request.into_inner().key {
            Some(Key::Email(email)) => email == "maria@x.example",
            Some(Key::Phone(phone)) => phone == "+15135550101",
            Some(Key::LoyaltyCard(number)) => number == "9801",
            Some(Key::Source(source)) => source.id == "1",
            None => false,
        };
        if !known {
            return Err(Status::not_found("nobody"));
        }
        Ok(Response::new(pb::ResolveIdentityResponse { identity: Some(person(1, &[])) }))
    }

    async fn import_identity_records(
        &self,
        _: Request<Streaming<pb::ImportIdentityRecordsRequest>>,
    ) -> Result<Response<pb::ImportIdentityRecordsResponse>, Status> {
        Err(Status::unimplemented("not asked by customers"))
    }

    async fn get_identity(
        &self,
        _: Request<pb::GetIdentityRequest>,
    ) -> Result<Response<pb::GetIdentityResponse>, Status> {
        Err(Status::unimplemented("not asked by customers"))
    }

    async fn list_identities(
        &self,
        _: Request<pb::ListIdentitiesRequest>,
    ) -> Result<Response<pb::ListIdentitiesResponse>, Status> {
        Err(Status::unimplemented("not asked by customers"))
    }

    async fn merge_identities(
        &self,
        _: Request<pb::MergeIdentitiesRequest>,
    ) -> Result<Response<pb::MergeIdentitiesResponse>, Status> {
        Err(Status::unimplemented("not asked by customers"))
    }

    type WatchIdentitiesStream = Empty<Result<pb::WatchIdentitiesResponse, Status>>;

    async fn watch_identities(
        &self,
        _: Request<pb::WatchIdentitiesRequest>,
    ) -> Result<Response<Self::WatchIdentitiesStream>, Status> {
        Ok(Response::new(empty()))
    }
}
