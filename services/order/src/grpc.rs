//! `omnimesh.order.v1.OrderService`: decode, call the service, encode.

use std::pin::Pin;

use futures::{Stream, StreamExt, TryStreamExt};
use mesh::status;
use omnimesh_proto::order::v1::{self as pb, order_service_server::OrderService};
use tonic::{Request, Response, Status, Streaming};
use types::Imported;

use crate::{Error, service::Service, wire};

const DOMAIN: &str = "order";

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
impl OrderService for Grpc {
    async fn import_orders(
        &self,
        request: Request<Streaming<pb::ImportOrdersRequest>>,
    ) -> Result<Response<pb::ImportOrdersResponse>, Status> {
        let portions =
            request.into_inner().map_err(|status| Error::StreamBroken(status.message().to_owned()));
        // One after the other: of records that turn out to be one order, the first to come has its name.
        let import = |sum: Imported, portion| async move {
            Ok(sum + self.0.import_orders(wire::import_orders(portion)?).await?)
        };
        let imported = portions.try_fold(Imported::default(), import).await.map_err(refuse)?;
        Ok(Response::new(wire::imported(imported)))
    }

    async fn get_order(
        &self,
        request: Request<pb::GetOrderRequest>,
    ) -> Result<Response<pb::GetOrderResponse>, Status> {
        let order_uid = wire::order_uid("name", &request.into_inner().name).map_err(refuse)?;
        let order = self.0.get_order(order_uid).await.map_err(refuse)?;
        Ok(Response::new(pb::GetOrderResponse { order: Some(order.into()) }))
    }

    async fn batch_get_orders(
        &self,
        request: Request<pb::BatchGetOrdersRequest>,
    ) -> Result<Response<pb::BatchGetOrdersResponse>, Status> {
        let order_uids = wire::batch_get_orders(&request.into_inner()).map_err(refuse)?;
        let orders = self.0.batch_get_orders(order_uids).await.map_err(refuse)?;
        Ok(Response::new(pb::BatchGetOrdersResponse { orders: orders.into_iter().map(Into::into).collect() }))
    }

    async fn lookup_order(
        &self,
        request: Request<pb::LookupOrderRequest>,
    ) -> Result<Response<pb::LookupOrderResponse>, Status> {
        let source = wire::lookup_order(request.into_inner()).map_err(refuse)?;
        let order = self.0.lookup_order(source).await.map_err(refuse)?;
        Ok(Response::new(pb::LookupOrderResponse { order: Some(order.into()) }))
    }

    async fn list_orders(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        let list = wire::list_orders(&request.into_inner()).map_err(refuse)?;
        let (orders, next_page_token) = self.0.list_orders(list).await.map_err(refuse)?;
        let orders = orders.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListOrdersResponse { orders, next_page_token }))
    }

    async fn link_orders(
        &self,
        request: Request<pb::LinkOrdersRequest>,
    ) -> Result<Response<pb::LinkOrdersResponse>, Status> {
        let link = wire::link_orders(request.into_inner()).map_err(refuse)?;
        let order = self.0.link_orders(link).await.map_err(refuse)?;
        Ok(Response::new(pb::LinkOrdersResponse { order: Some(order.into()) }))
    }

    async fn unlink_order(
        &self,
        request: Request<pb::UnlinkOrderRequest>,
    ) -> Result<Response<pb::UnlinkOrderResponse>, Status> {
        let unlink = wire::unlink_order(request.into_inner()).map_err(refuse)?;
        let (order, unlinked) = self.0.unlink_order(unlink).await.map_err(refuse)?;
        Ok(Response::new(pb::UnlinkOrderResponse {
            order: Some(order.into()),
            unlinked_order: Some(unlinked.into()),
        }))
    }

    type WatchOrdersStream = Pin<Box<dyn Stream<Item = Result<pb::WatchOrdersResponse, Status>> + Send>>;

    async fn watch_orders(
        &self,
        request: Request<pb::WatchOrdersRequest>,
    ) -> Result<Response<Self::WatchOrdersStream>, Status> {
        let (begin, filter) = wire::watch_orders(&request.into_inner()).map_err(refuse)?;
        let told = self.0.watch_orders(begin, filter).await.map_err(refuse)?;
        Ok(Response::new(Box::pin(told.map(|told| told.map(Into::into).map_err(refuse)))))
    }
}
