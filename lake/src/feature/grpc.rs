//! `omnimesh.feature.v1.FeatureService`: decode, call the service, encode.

use std::pin::Pin;

use arrow::{array::RecordBatch, error::ArrowError, ipc::writer::StreamWriter};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use mesh::status;
use omnimesh_proto::feature::v1::{self as pb, feature_service_server::FeatureService};
use tonic::{Request, Response, Status};
use types::page::Page;

use super::{
    historical::Historical,
    service::{Entity, Service},
    wire,
};
use crate::Error;

const DOMAIN: &str = "feature";

pub(crate) struct Grpc(Service);

impl Grpc {
    pub(crate) fn new(service: Service) -> Self {
        Self(service)
    }
}

fn refuse(error: impl Into<Error>) -> Status {
    status::from(DOMAIN, error.into())
}

type Parts = Pin<Box<dyn Stream<Item = Result<pb::GetHistoricalFeaturesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl FeatureService for Grpc {
    async fn list_features(
        &self,
        request: Request<pb::ListFeaturesRequest>,
    ) -> Result<Response<pb::ListFeaturesResponse>, Status> {
        let request = request.into_inner();
        let page = Page::new(request.page_size, &request.page_token, &[]).map_err(refuse)?;
        let after = page.after.as_ref().and_then(|after| after.first());
        let is_before = |feature: &pb::Feature| after.is_some_and(|after| feature.name != *after);
        let skipped = usize::from(after.is_some());
        let features = wire::catalogue().skip_while(is_before).skip(skipped).take(page.size + 1).collect();
        let (features, next_page_token) =
            page.cut(features, |feature: &pb::Feature| vec![feature.name.clone()]);
        Ok(Response::new(pb::ListFeaturesResponse { features, next_page_token }))
    }

    async fn get_online_features(
        &self,
        request: Request<pb::GetOnlineFeaturesRequest>,
    ) -> Result<Response<pb::GetOnlineFeaturesResponse>, Status> {
        let request = request.into_inner();
        let asked = wire::features(&request.features).map_err(refuse)?;
        let ids = wire::entities(request.entities, &asked).map_err(refuse)?;
        let now = self.0.get_online_features(&asked, &ids).map_err(refuse)?;
        Ok(Response::new(pb::GetOnlineFeaturesResponse {
            as_of_time: Some(now.as_of.into()),
            features: asked.features.into_iter().map(|feature| feature.name).collect(),
            entities: now.entities.into_iter().map(Into::into).collect(),
        }))
    }

    type GetHistoricalFeaturesStream = Parts;

    async fn get_historical_features(
        &self,
        request: Request<pb::GetHistoricalFeaturesRequest>,
    ) -> Result<Response<Parts>, Status> {
        let request = request.into_inner();
        let asked = wire::features(&request.features).map_err(refuse)?;
        let spine = wire::spine(&request.spine).map_err(refuse)?;
        let answer = self.0.get_historical_features(&asked, spine, &request.version).await.map_err(refuse)?;
        let parts = parts(answer).map_err(refuse)?;
        Ok(Response::new(Box::pin(parts.map(|part| part.map_err(refuse)))))
    }
}

impl From<Entity> for pb::EntityFeatures {
    fn from(entity: Entity) -> Self {
        let values = entity.values.into_iter().map(|(unit, value)| wire::value(unit, value)).collect();
        let event_times = entity.event_times.into_iter().map(|(view, time)| (view, time.into())).collect();
        Self { values, event_times }
    }
}

/// The answer as one Arrow IPC stream, in parts.
fn parts(
    answer: Historical,
) -> Result<impl Stream<Item = Result<pb::GetHistoricalFeaturesResponse, Error>> + Send, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &answer.schema())?;
    let batches = answer.answer().map_ok(Some).chain(stream::iter([Ok(None)]));
    Ok(batches.map(move |batch: Result<Option<RecordBatch>, Error>| {
        match batch? {
            Some(batch) => writer.write(&batch)?,
            None => writer.finish()?,
        }
        Ok(pb::GetHistoricalFeaturesResponse { table: std::mem::take(writer.get_mut()) })
    }))
}
