//! `omnimesh.ingest.v1.IngestService`.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use omnimesh_proto::ingest::v1::{self as pb, ingest_service_server::IngestService};
use tonic::{Request, Response, Status};

use crate::{Error, service::Service, wire};

pub(crate) struct Grpc(Service);

impl Grpc {
    pub(crate) fn new(service: Service) -> Self {
        Self(service)
    }
}

fn status(error: impl Into<Error>) -> Status {
    mesh::status::from("ingest", error.into())
}

#[tonic::async_trait]
impl IngestService for Grpc {
    type RunSourceStream = Pin<Box<dyn Stream<Item = Result<pb::RunSourceResponse, Status>> + Send>>;

    async fn run_source(
        &self,
        request: Request<pb::RunSourceRequest>,
    ) -> Result<Response<Self::RunSourceStream>, Status> {
        let system = wire::system(&request.get_ref().name).map_err(status)?;
        let progress = self.0.run_source(system).map_err(status)?;
        Ok(Response::new(Box::pin(progress.map(|progress| progress.map(Into::into).map_err(status)))))
    }

    async fn get_source(
        &self,
        request: Request<pb::GetSourceRequest>,
    ) -> Result<Response<pb::GetSourceResponse>, Status> {
        let system = wire::system(&request.get_ref().name).map_err(status)?;
        let source = self.0.get_source(system).await.map_err(status)?;
        Ok(Response::new(pb::GetSourceResponse { source: Some(source.into()) }))
    }

    async fn list_sources(
        &self,
        request: Request<pb::ListSourcesRequest>,
    ) -> Result<Response<pb::ListSourcesResponse>, Status> {
        let listing = wire::SourceListing::try_from(request.get_ref()).map_err(status)?;
        let (sources, next_page_token) = self.0.list_sources(&listing).await.map_err(status)?;
        let sources = sources.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListSourcesResponse { sources, next_page_token }))
    }

    async fn get_quarantined_record(
        &self,
        request: Request<pb::GetQuarantinedRecordRequest>,
    ) -> Result<Response<pb::GetQuarantinedRecordResponse>, Status> {
        let id = wire::record(&request.get_ref().name).map_err(status)?;
        let record = self.0.get_quarantined_record(id).await.map_err(status)?;
        Ok(Response::new(pb::GetQuarantinedRecordResponse { record: Some(record.into()) }))
    }

    async fn list_quarantined_records(
        &self,
        request: Request<pb::ListQuarantinedRecordsRequest>,
    ) -> Result<Response<pb::ListQuarantinedRecordsResponse>, Status> {
        let listing =
            request.into_inner().try_into().map_err(|error: types::InvalidRequest| status(error))?;
        let (records, next_page_token) = self.0.list_quarantined_records(listing).await.map_err(status)?;
        let records = records.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListQuarantinedRecordsResponse { records, next_page_token }))
    }

    async fn replay_quarantined_record(
        &self,
        request: Request<pb::ReplayQuarantinedRecordRequest>,
    ) -> Result<Response<pb::ReplayQuarantinedRecordResponse>, Status> {
        let replay = request.into_inner().try_into().map_err(|error: types::InvalidRequest| status(error))?;
        let applied_count = self.0.replay_quarantined_record(replay).await.map_err(status)?;
        Ok(Response::new(pb::ReplayQuarantinedRecordResponse { applied_count }))
    }

    type WatchSourcesStream = Pin<Box<dyn Stream<Item = Result<pb::WatchSourcesResponse, Status>> + Send>>;

    async fn watch_sources(
        &self,
        request: Request<pb::WatchSourcesRequest>,
    ) -> Result<Response<Self::WatchSourcesStream>, Status> {
        let begin = wire::watch_sources(request.get_ref()).map_err(status)?;
        let changes = self.0.watch_sources(begin).await.map_err(status)?;
        Ok(Response::new(Box::pin(changes.map(|change| change.map(Into::into).map_err(status)))))
    }
}
