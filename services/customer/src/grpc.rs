//! `omnimesh.customer.v1.CustomerService`.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use omnimesh_proto::customer::v1::{self as pb, customer_service_server::CustomerService};
use tonic::{Request, Response, Status};
use types::Timestamp;

use crate::{Error, service::Service, wire};

pub(crate) struct Grpc(Service);

impl Grpc {
    pub(crate) fn new(service: Service) -> Self {
        Self(service)
    }
}

fn status(error: impl Into<Error>) -> Status {
    mesh::status::from("customer", error.into())
}

#[tonic::async_trait]
impl CustomerService for Grpc {
    async fn get_customer(
        &self,
        request: Request<pb::GetCustomerRequest>,
    ) -> Result<Response<pb::GetCustomerResponse>, Status> {
        let golden_id = wire::golden_id(&request.get_ref().name).map_err(status)?;
        let customer = self.0.get_customer(golden_id).await.map_err(status)?;
        Ok(Response::new(pb::GetCustomerResponse { customer: Some(customer.into()) }))
    }

    async fn batch_get_customers(
        &self,
        request: Request<pb::BatchGetCustomersRequest>,
    ) -> Result<Response<pb::BatchGetCustomersResponse>, Status> {
        let golden_ids = wire::golden_ids(&request.get_ref().names).map_err(status)?;
        let customers = self.0.batch_get_customers(&golden_ids).await.map_err(status)?;
        let customers = customers.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::BatchGetCustomersResponse { customers }))
    }

    async fn list_customers(
        &self,
        request: Request<pb::ListCustomersRequest>,
    ) -> Result<Response<pb::ListCustomersResponse>, Status> {
        let (query, page) = wire::list(request.get_ref()).map_err(status)?;
        let (customers, next_page_token) = self.0.list_customers(&query, &page).await.map_err(status)?;
        let customers = customers.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListCustomersResponse { customers, next_page_token }))
    }

    async fn lookup_customer(
        &self,
        request: Request<pb::LookupCustomerRequest>,
    ) -> Result<Response<pb::LookupCustomerResponse>, Status> {
        let clue = wire::clue(request.into_inner()).map_err(status)?;
        let customer = self.0.lookup_customer(clue).await.map_err(status)?;
        Ok(Response::new(pb::LookupCustomerResponse { customer: Some(customer.into()) }))
    }

    async fn update_customer(
        &self,
        request: Request<pb::UpdateCustomerRequest>,
    ) -> Result<Response<pb::UpdateCustomerResponse>, Status> {
        let update = wire::update(request.into_inner(), Timestamp::now()).map_err(status)?;
        let customer = self.0.update_customer(update).await.map_err(status)?;
        Ok(Response::new(pb::UpdateCustomerResponse { customer: Some(customer.into()) }))
    }

    type WatchCustomersStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchCustomersResponse, Status>> + Send>>;

    async fn watch_customers(
        &self,
        request: Request<pb::WatchCustomersRequest>,
    ) -> Result<Response<Self::WatchCustomersStream>, Status> {
        let (begin, filter) = wire::watch(request.get_ref()).map_err(status)?;
        let changes = self.0.watch_customers(begin, filter).await.map_err(status)?;
        Ok(Response::new(Box::pin(changes.map(|change| change.map(Into::into).map_err(status)))))
    }
}
