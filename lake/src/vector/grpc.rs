//! `omnimesh.feature.v1.VectorService`: decode, call, encode.

use std::sync::Arc;

use omnimesh_proto::feature::v1::{
    self as pb, search_vectors_request::Query as PbQuery, vector_service_server::VectorService,
};
use tonic::{Request, Response, Status};
use types::{InvalidRequest, Violations};

use super::serve::{Found, Neighbour, Query, Search, Vectors};
use crate::grpc::refuse;

const DEFAULT_K: usize = 10;
const MAX_K: usize = 1000;

#[derive(Debug)]
pub(crate) struct Grpc(Arc<Vectors>);

impl Grpc {
    pub(crate) fn new(vectors: Arc<Vectors>) -> Self {
        Self(vectors)
    }
}

#[tonic::async_trait]
impl VectorService for Grpc {
    async fn search_vectors(
        &self,
        request: Request<pb::SearchVectorsRequest>,
    ) -> Result<Response<pb::SearchVectorsResponse>, Status> {
        let search = search(request.into_inner()).map_err(refuse)?;
        let found = self.0.search_vectors(&search).map_err(refuse)?;
        Ok(Response::new(found.into()))
    }
}

fn search(request: pb::SearchVectorsRequest) -> Result<Search, InvalidRequest> {
    let mut violations = Violations::default();
    if request.table.is_empty() {
        violations.add("table", "is missing: name a table of the layer embeddings");
    }
    let k = match usize::try_from(request.k) {
        Ok(0) => DEFAULT_K,
        Ok(k) if k <= MAX_K => k,
        _ => {
            violations.add("k", format!("is {}, not from 1 to {MAX_K}", request.k));
            DEFAULT_K
        }
    };
    let query = match request.query {
        Some(PbQuery::Vector(vector)) => Some(Query::Vector(vector.values)),
        Some(PbQuery::EntityId(entity)) if !entity.is_empty() => Some(Query::Entity(entity)),
        Some(PbQuery::Text(text)) if !text.trim().is_empty() => Some(Query::Text(text)),
        _ => {
            violations.add("query", "is missing: give a `vector`, an `entity_id` or a `text`");
            None
        }
    };
    violations.finish(query.map(|query| Search { table: request.table, query, k, filter: request.filter }))
}

impl From<Found> for pb::SearchVectorsResponse {
    fn from(Found { hits, version, model_id, recall }: Found) -> Self {
        let hits = hits.into_iter().map(Into::into).collect();
        Self { hits, table_version: version.cast_signed(), model_id, recall_at_10: recall }
    }
}

impl From<Neighbour> for pb::VectorHit {
    fn from(Neighbour { entity, similarity, text, attributes }: Neighbour) -> Self {
        let attributes = attributes.into_iter().map(|(column, value)| (column.to_owned(), value)).collect();
        Self { entity_id: entity, similarity, text, attributes }
    }
}
