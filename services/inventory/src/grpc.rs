//! `omnimesh.inventory.v1.InventoryService`: decode, call the service, encode.

use std::pin::Pin;

use futures::{Stream, StreamExt, TryStreamExt};
use mesh::status;
use omnimesh_proto::inventory::v1::{self as pb, inventory_service_server::InventoryService};
use tonic::{Request, Response, Status, Streaming};
use types::Imported;

use crate::{Error, service::Service, wire};

const DOMAIN: &str = "inventory";

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
impl InventoryService for Grpc {
    async fn get_stock(
        &self,
        request: Request<pb::GetStockRequest>,
    ) -> Result<Response<pb::GetStockResponse>, Status> {
        let id = wire::stock_id("name", &request.into_inner().name).map_err(refuse)?;
        let stock = self.0.get_stock(id).await.map_err(refuse)?;
        Ok(Response::new(pb::GetStockResponse { stock: Some(stock.into()) }))
    }

    async fn batch_get_stock(
        &self,
        request: Request<pb::BatchGetStockRequest>,
    ) -> Result<Response<pb::BatchGetStockResponse>, Status> {
        let ids = wire::batch_get_stock(&request.into_inner()).map_err(refuse)?;
        let stocks = self.0.batch_get_stock(ids).await.map_err(refuse)?;
        Ok(Response::new(pb::BatchGetStockResponse { stocks: stocks.into_iter().map(Into::into).collect() }))
    }

    async fn list_stocks(
        &self,
        request: Request<pb::ListStocksRequest>,
    ) -> Result<Response<pb::ListStocksResponse>, Status> {
        let (page, after, filter) = wire::list_stocks(&request.into_inner()).map_err(refuse)?;
        let (stocks, next_page_token) = self.0.list_stocks(page, after, &filter).await.map_err(refuse)?;
        let stocks = stocks.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListStocksResponse { stocks, next_page_token }))
    }

    async fn adjust_stock(
        &self,
        request: Request<pb::AdjustStockRequest>,
    ) -> Result<Response<pb::AdjustStockResponse>, Status> {
        let change = wire::adjust_stock(request.into_inner()).map_err(refuse)?;
        let stock = self.0.adjust_stock(change).await.map_err(refuse)?;
        Ok(Response::new(pb::AdjustStockResponse { stock: Some(stock.into()) }))
    }

    async fn record_physical_count(
        &self,
        request: Request<pb::RecordPhysicalCountRequest>,
    ) -> Result<Response<pb::RecordPhysicalCountResponse>, Status> {
        let change = wire::record_physical_count(request.into_inner()).map_err(refuse)?;
        let stock = self.0.record_physical_count(change).await.map_err(refuse)?;
        Ok(Response::new(pb::RecordPhysicalCountResponse { stock: Some(stock.into()) }))
    }

    async fn import_stock_movements(
        &self,
        request: Request<Streaming<pb::ImportStockMovementsRequest>>,
    ) -> Result<Response<pb::ImportStockMovementsResponse>, Status> {
        let portions =
            request.into_inner().map_err(|status| Error::StreamBroken(status.message().to_owned()));
        // One after the other, as the ledger's entries are numbered.
        let import = |sum: Imported, portion| async move {
            Ok(sum + self.0.import_stock_movements(wire::import_stock_movements(portion)?).await?)
        };
        let imported = portions.try_fold(Imported::default(), import).await.map_err(refuse)?;
        Ok(Response::new(wire::imported(imported)))
    }

    async fn list_stock_movements(
        &self,
        request: Request<pb::ListStockMovementsRequest>,
    ) -> Result<Response<pb::ListStockMovementsResponse>, Status> {
        let (id, page, after) = wire::list_stock_movements(&request.into_inner()).map_err(refuse)?;
        let (entries, next_page_token) =
            self.0.list_stock_movements(id, page, after).await.map_err(refuse)?;
        let movements = entries.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListStockMovementsResponse { movements, next_page_token }))
    }

    type WatchStockStream = Pin<Box<dyn Stream<Item = Result<pb::WatchStockResponse, Status>> + Send>>;

    async fn watch_stock(
        &self,
        request: Request<pb::WatchStockRequest>,
    ) -> Result<Response<Self::WatchStockStream>, Status> {
        let (begin, filter) = wire::watch_stock(&request.into_inner()).map_err(refuse)?;
        let told = self.0.watch_stock(begin, filter).await.map_err(refuse)?;
        Ok(Response::new(Box::pin(told.map(|told| told.map(Into::into).map_err(refuse)))))
    }
}
