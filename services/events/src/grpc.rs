//! `omnimesh.event.v1.EventService`: one for a process, whichever domains it hosts.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};

use futures::{Stream, StreamExt};
use mesh::{MAX_MESSAGE_BYTES, ServerBuilder, status};
use omnimesh_proto::event::v1::{
    StreamEventsRequest, StreamEventsResponse,
    event_service_server::{EventService, EventServiceServer},
};
use tonic::{Request, Response, Status};

use crate::{Batch, Error, Log, consumers::beside};

/// The service's full name: what a consumer asks its producer's role for.
pub const SERVICE: &str = "omnimesh.event.v1.EventService";

const DOMAIN: &str = "event";

/// The logs that a process hosts.
#[derive(Debug, Clone, Default)]
pub struct Directory(Arc<RwLock<BTreeMap<&'static str, Log>>>);

impl Directory {
    fn log(&self, domain: &str) -> Result<Log, Error> {
        let logs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        logs.get(domain).cloned().ok_or_else(|| Error::DomainNotHosted(domain.to_owned()))
    }

    /// Every log.
    pub fn logs(&self) -> Vec<Log> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Offers a domain's log to readers, and keeps its database from growing by answers that nobody asks for any more.
pub fn serve(server: &mut ServerBuilder, log: Log) {
    beside(server, log.database().clone().forget_answers());
    let (directory, new) = server.shared::<Directory>();
    directory.0.write().unwrap_or_else(PoisonError::into_inner).insert(log.domain(), log);
    if new {
        server.add(EventServiceServer::new(Grpc(directory)).max_encoding_message_size(MAX_MESSAGE_BYTES));
    }
}

struct Grpc(Directory);

#[tonic::async_trait]
impl EventService for Grpc {
    type StreamEventsStream = Pin<Box<dyn Stream<Item = Result<StreamEventsResponse, Status>> + Send>>;

    async fn stream_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let request = request.into_inner();
        let after = request.after_cursor.parse().map_err(|error: Error| status::from(DOMAIN, error))?;
        let log = self.0.log(&request.domain).map_err(|error| status::from(DOMAIN, error))?;
        let batches = log.stream(after, request.types, request.follow);
        Ok(Response::new(Box::pin(
            batches.map(|batch| batch.map(response).map_err(|error| status::from(DOMAIN, error))),
        )))
    }
}

fn response(batch: Batch) -> StreamEventsResponse {
    StreamEventsResponse { events: batch.events, cursor: batch.cursor.to_string() }
}
