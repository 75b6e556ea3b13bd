//! `omnimesh.identity.v1.IdentityService`.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use omnimesh_proto::identity::v1::{self as pb, identity_service_server::IdentityService};
use tonic::{Request, Response, Status, Streaming};
use types::Imported;

use crate::{Error, service::Service, wire};

pub(crate) struct Grpc(Service);

impl Grpc {
    pub(crate) fn new(service: Service) -> Self {
        Self(service)
    }
}

fn status(error: impl Into<Error>) -> Status {
    mesh::status::from("identity", error.into())
}

#[tonic::async_trait]
impl IdentityService for Grpc {
    async fn import_identity_records(
        &self,
        request: Request<Streaming<pb::ImportIdentityRecordsRequest>>,
    ) -> Result<Response<pb::ImportIdentityRecordsResponse>, Status> {
        let mut portions = request.into_inner();
        let mut imported = Imported::default();
        while let Some(portion) = portions.message().await? {
            let records = wire::records(portion).map_err(status)?;
            imported = imported + self.0.import_identity_records(records).await.map_err(status)?;
        }
        Ok(Response::new(wire::imported(imported)))
    }

    async fn get_identity(
        &self,
        request: Request<pb::GetIdentityRequest>,
    ) -> Result<Response<pb::GetIdentityResponse>, Status> {
        let golden_id = wire::golden_id("name", &request.get_ref().name).map_err(status)?;
        let identity = self.0.get_identity(golden_id).await.map_err(status)?;
        Ok(Response::new(pb::GetIdentityResponse { identity: Some(identity.into()) }))
    }

    async fn list_identities(
        &self,
        request: Request<pb::ListIdentitiesRequest>,
    ) -> Result<Response<pb::ListIdentitiesResponse>, Status> {
        let list = wire::list(request.get_ref()).map_err(status)?;
        let (identities, next_page_token) = self.0.list_identities(&list).await.map_err(status)?;
        let identities = identities.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListIdentitiesResponse { identities, next_page_token }))
    }

    async fn resolve_identity(
        &self,
        request: Request<pb::ResolveIdentityRequest>,
    ) -> Result<Response<pb::ResolveIdentityResponse>, Status> {
        let clue = wire::clue(request.into_inner()).map_err(status)?;
        let identity = self.0.resolve_identity(clue).await.map_err(status)?;
        Ok(Response::new(pb::ResolveIdentityResponse { identity: Some(identity.into()) }))
    }

    async fn merge_identities(
        &self,
        request: Request<pb::MergeIdentitiesRequest>,
    ) -> Result<Response<pb::MergeIdentitiesResponse>, Status> {
        let message = request.get_ref();
        let (one, other, named) = wire::merge(message).map_err(status)?;
        let identity = self.0.merge_identities(one, other, &message.etag, &named).await.map_err(status)?;
        Ok(Response::new(pb::MergeIdentitiesResponse { identity: Some(identity.into()) }))
    }

    type WatchIdentitiesStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchIdentitiesResponse, Status>> + Send>>;

    async fn watch_identities(
        &self,
        request: Request<pb::WatchIdentitiesRequest>,
    ) -> Result<Response<Self::WatchIdentitiesStream>, Status> {
        let (begin, filter) = wire::watch(request.get_ref()).map_err(status)?;
        let changes = self.0.watch_identities(begin, filter).await.map_err(status)?;
        Ok(Response::new(Box::pin(changes.map(|change| change.map(Into::into).map_err(status)))))
    }
}
