//! `omnimesh.catalog.v1.CatalogService`: decode, call the service, encode.

use std::pin::Pin;

use futures::{Stream, StreamExt, TryStreamExt};
use mesh::status;
use omnimesh_proto::catalog::v1::{self as pb, catalog_service_server::CatalogService};
use tonic::{Request, Response, Status, Streaming};
use types::Imported;

use crate::{Error, service::Service, wire};

const DOMAIN: &str = "catalog";

pub(crate) struct Grpc(Service);

impl Grpc {
    pub(crate) fn new(service: Service) -> Self {
        Self(service)
    }
}

fn refuse(error: impl Into<Error>) -> Status {
    status::from(DOMAIN, error.into())
}

#[tonic::async_trait]
impl CatalogService for Grpc {
    async fn get_product(
        &self,
        request: Request<pb::GetProductRequest>,
    ) -> Result<Response<pb::GetProductResponse>, Status> {
        let sku = wire::get_product(&request.into_inner()).map_err(refuse)?;
        let product = self.0.get_product(sku).await.map_err(refuse)?;
        Ok(Response::new(pb::GetProductResponse { product: Some(product.into()) }))
    }

    async fn batch_get_products(
        &self,
        request: Request<pb::BatchGetProductsRequest>,
    ) -> Result<Response<pb::BatchGetProductsResponse>, Status> {
        let skus = wire::batch_get_products(&request.into_inner()).map_err(refuse)?;
        let products = self.0.batch_get_products(skus).await.map_err(refuse)?;
        Ok(Response::new(pb::BatchGetProductsResponse {
            products: products.into_iter().map(Into::into).collect(),
        }))
    }

    async fn list_products(
        &self,
        request: Request<pb::ListProductsRequest>,
    ) -> Result<Response<pb::ListProductsResponse>, Status> {
        let (page, filter) = wire::list_products(&request.into_inner()).map_err(refuse)?;
        let (products, next_page_token) = self.0.list_products(&page, &filter).await.map_err(refuse)?;
        let products = products.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListProductsResponse { products, next_page_token }))
    }

    async fn import_products(
        &self,
        request: Request<Streaming<pb::ImportProductsRequest>>,
    ) -> Result<Response<pb::ImportProductsResponse>, Status> {
        let portions =
            request.into_inner().map_err(|status| Error::StreamBroken(status.message().to_owned()));
        // One after the other: a product that comes again replaces what came before.
        let import = |sum: Imported, portion| async move {
            Ok(sum + self.0.import_products(wire::import_products(portion)?).await?)
        };
        let imported = portions.try_fold(Imported::default(), import).await.map_err(refuse)?;
        Ok(Response::new(wire::imported(imported)))
    }

    async fn update_product(
        &self,
        request: Request<pb::UpdateProductRequest>,
    ) -> Result<Response<pb::UpdateProductResponse>, Status> {
        let update = wire::update_product(request.into_inner()).map_err(refuse)?;
        let product = self.0.update_product(update).await.map_err(refuse)?;
        Ok(Response::new(pb::UpdateProductResponse { product: Some(product.into()) }))
    }

    async fn list_categories(
        &self,
        request: Request<pb::ListCategoriesRequest>,
    ) -> Result<Response<pb::ListCategoriesResponse>, Status> {
        let (page, parent) = wire::list_categories(&request.into_inner()).map_err(refuse)?;
        let (categories, next_page_token) = self.0.list_categories(&page, parent).await.map_err(refuse)?;
        let categories = categories.into_iter().map(wire::category).collect();
        Ok(Response::new(pb::ListCategoriesResponse { categories, next_page_token }))
    }

    type WatchProductsStream = Pin<Box<dyn Stream<Item = Result<pb::WatchProductsResponse, Status>> + Send>>;

    async fn watch_products(
        &self,
        request: Request<pb::WatchProductsRequest>,
    ) -> Result<Response<Self::WatchProductsStream>, Status> {
        let begin = wire::watch_products(&request.into_inner()).map_err(refuse)?;
        let told = self.0.watch_products(begin).await.map_err(refuse)?;
        Ok(Response::new(Box::pin(told.map(|told| told.map(Into::into).map_err(refuse)))))
    }
}
