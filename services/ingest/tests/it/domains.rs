//! The other ends of the wire: domains that keep what they are given, as the contract says, and fail on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use mesh::ServerBuilder;
use omnimesh_proto::{
    catalog::v1 as catalog,
    identity::v1 as identity,
    inventory::v1 as inventory,
    order::v1 as order,
};
use tokio::sync::{Semaphore, watch};
use tonic::{Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

/// What the domains hold, by the source's key.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Held {
    pub(crate) orders: BTreeMap<String, order::SourceOrder>,
    pub(crate) identities: BTreeMap<String, identity::IdentityRecord>,
    pub(crate) products: BTreeMap<String, catalog::ProductImport>,
    pub(crate) movements: BTreeMap<String, inventory::StockMovement>,
}

/// All domains at once.
#[derive(Debug)]
pub(crate) struct Domains {
    held: Mutex<Held>,
    /// Calls that may still be answered; the others wait.
    permits: Semaphore,
    calls: watch::Sender<usize>,
    /// Order ids that are refused.
    refused: Mutex<BTreeSet<String>>,
    /// Whether a refusal says which.
    names_violations: Mutex<bool>,
}

impl Domains {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::default(),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
            calls: watch::Sender::new(0),
            refused: Mutex::default(),
            names_violations: Mutex::new(true),
        })
    }

    /// Lets only so many more calls through.
    pub(crate) fn allow(&self, calls: usize) {
        self.permits.forget_permits(self.permits.available_permits());
        self.permits.add_permits(calls);
    }

    pub(crate) fn refuse(&self, orders: &[&str], names_violations: bool) {
        *self.refused.lock().expect("lock") = orders.iter().map(|&id| id.to_owned()).collect();
        *self.names_violations.lock().expect("lock") = names_violations;
    }

    pub(crate) fn held(&self) -> Held {
        self.held.lock().expect("lock").clone()
    }

    pub(crate) fn calls(&self) -> usize {
        *self.calls.borrow()
    }

    /// Waits until so many calls have come, answered or not.
    pub(crate) async fn called(&self, times: usize) {
        self.calls.subscribe().wait_for(|calls| *calls >= times).await.expect("open");
    }

    async fn admit(&self) {
        self.calls.send_modify(|calls| *calls += 1);
        self.permits.acquire().await.expect("open").forget();
    }

    fn check(&self, orders: &[order::SourceOrder]) -> Result<(), Status> {
        let refused = self.refused.lock().expect("lock");
        let mut details = ErrorDetails::new();
        for (index, order) in orders.iter().enumerate() {
            if order.source.as_ref().is_some_and(|source| refused.contains(&source.id)) {
                details.add_bad_request_violation(format!("orders[{index}].lines"), "are not to our taste");
            }
        }
        match details.bad_request() {
            None => Ok(()),
            Some(_) if *self.names_violations.lock().expect("lock") => {
                Err(Status::with_error_details(tonic::Code::InvalidArgument, "refused", details))
            }
            Some(_) => Err(Status::invalid_argument("something is wrong")),
        }
    }
}

fn key(source: Option<&omnimesh_proto::r#type::v1::SourceRef>) -> String {
    let source = source.expect("a source");
    format!("{}:{}", source.system, source.id)
}

#[derive(Debug, Clone)]
struct Served(Arc<Domains>);

/// Adds every domain to `server`.
pub(crate) fn serve(server: &mut ServerBuilder, domains: &Arc<Domains>) {
    for role in ["order", "identity", "catalog", "inventory"] {
        server.host(role);
    }
    let served = || Served(Arc::clone(domains));
    server.add(order::order_service_server::OrderServiceServer::new(served()).max_decoding_message_size(mesh::MAX_MESSAGE_BYTES));
    server.add(identity::identity_service_server::IdentityServiceServer::new(served()));
    server.add(catalog::catalog_service_server::CatalogServiceServer::new(served()));
    server.add(inventory::inventory_service_server::InventoryServiceServer::new(served()));
}

type Answer<T> = Result<Response<T>, Status>;
type Never<T> = futures::stream::Pending<Result<T, Status>>;

#[tonic::async_trait]
impl order::order_service_server::OrderService for Served {
    async fn import_orders(
        &self,
        request: Request<Streaming<order::ImportOrdersRequest>>,
    ) -> Answer<order::ImportOrdersResponse> {
        self.0.admit().await;
        let mut portions = request.into_inner();
        while let Some(portion) = portions.message().await? {
            self.0.check(&portion.orders)?;
            let mut held = self.0.held.lock().expect("lock");
            for order in portion.orders {
                let known = held.orders.entry(key(order.source.as_ref())).or_insert_with(|| order.clone());
                if known.version < order.version {
                    *known = order;
                }
            }
        }
        Ok(Response::new(order::ImportOrdersResponse::default()))
    }

    async fn get_order(&self, _: Request<order::GetOrderRequest>) -> Answer<order::GetOrderResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn batch_get_orders(&self, _: Request<order::BatchGetOrdersRequest>) -> Answer<order::BatchGetOrdersResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn lookup_order(&self, _: Request<order::LookupOrderRequest>) -> Answer<order::LookupOrderResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn list_orders(&self, _: Request<order::ListOrdersRequest>) -> Answer<order::ListOrdersResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn link_orders(&self, _: Request<order::LinkOrdersRequest>) -> Answer<order::LinkOrdersResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn unlink_order(&self, _: Request<order::UnlinkOrderRequest>) -> Answer<order::UnlinkOrderResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    type WatchOrdersStream = Never<order::WatchOrdersResponse>;

    async fn watch_orders(&self, _: Request<order::WatchOrdersRequest>) -> Answer<Self::WatchOrdersStream> {
        Err(Status::unimplemented("ingest only imports"))
    }
}

#[tonic::async_trait]
impl identity::identity_service_server::IdentityService for Served {
    async fn import_identity_records(
        &self,
        request: Request<Streaming<identity::ImportIdentityRecordsRequest>>,
    ) -> Answer<identity::ImportIdentityRecordsResponse> {
        self.0.admit().await;
        let mut portions = request.into_inner();
        while let Some(portion) = portions.message().await? {
            let mut held = self.0.held.lock().expect("lock");
            for record in portion.records {
                let known = held.identities.entry(key(record.source.as_ref())).or_insert_with(|| record.clone());
                let time = |record: &identity::IdentityRecord| record.update_time.map(|time| time.seconds);
                if time(known) < time(&record) {
                    *known = record;
                }
            }
        }
        Ok(Response::new(identity::ImportIdentityRecordsResponse::default()))
    }

    async fn get_identity(&self, _: Request<identity::GetIdentityRequest>) -> Answer<identity::GetIdentityResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn list_identities(&self, _: Request<identity::ListIdentitiesRequest>) -> Answer<identity::ListIdentitiesResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn resolve_identity(&self, _: Request<identity::ResolveIdentityRequest>) -> Answer<identity::ResolveIdentityResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn merge_identities(&self, _: Request<identity::MergeIdentitiesRequest>) -> Answer<identity::MergeIdentitiesResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    type WatchIdentitiesStream = Never<identity::WatchIdentitiesResponse>;

    async fn watch_identities(&self, _: Request<identity::WatchIdentitiesRequest>) -> Answer<Self::WatchIdentitiesStream> {
        Err(Status::unimplemented("ingest only imports"))
    }
}

#[tonic::async_trait]
impl catalog::catalog_service_server::CatalogService for Served {
    async fn import_products(
        &self,
        request: Request<Streaming<catalog::ImportProductsRequest>>,
    ) -> Answer<catalog::ImportProductsResponse> {
        self.0.admit().await;
        let mut portions = request.into_inner();
        while let Some(portion) = portions.message().await? {
            let mut held = self.0.held.lock().expect("lock");
            held.products.extend(portion.products.into_iter().map(|product| (product.sku.clone(), product)));
        }
        Ok(Response::new(catalog::ImportProductsResponse::default()))
    }

    async fn get_product(&self, _: Request<catalog::GetProductRequest>) -> Answer<catalog::GetProductResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn batch_get_products(&self, _: Request<catalog::BatchGetProductsRequest>) -> Answer<catalog::BatchGetProductsResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn list_products(&self, _: Request<catalog::ListProductsRequest>) -> Answer<catalog::ListProductsResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn update_product(&self, _: Request<catalog::UpdateProductRequest>) -> Answer<catalog::UpdateProductResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn list_categories(&self, _: Request<catalog::ListCategoriesRequest>) -> Answer<catalog::ListCategoriesResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    type WatchProductsStream = Never<catalog::WatchProductsResponse>;

    async fn watch_products(&self, _: Request<catalog::WatchProductsRequest>) -> Answer<Self::WatchProductsStream> {
        Err(Status::unimplemented("ingest only imports"))
    }
}

#[tonic::async_trait]
impl inventory::inventory_service_server::InventoryService for Served {
    async fn import_stock_movements(
        &self,
        request: Request<Streaming<inventory::ImportStockMovementsRequest>>,
    ) -> Answer<inventory::ImportStockMovementsResponse> {
        self.0.admit().await;
        let mut portions = request.into_inner();
        while let Some(portion) = portions.message().await? {
            let mut held = self.0.held.lock().expect("lock");
            for movement in portion.movements {
                held.movements.insert(key(movement.source.as_ref()), movement);
            }
        }
        Ok(Response::new(inventory::ImportStockMovementsResponse::default()))
    }

    async fn get_stock(&self, _: Request<inventory::GetStockRequest>) -> Answer<inventory::GetStockResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn batch_get_stock(&self, _: Request<inventory::BatchGetStockRequest>) -> Answer<inventory::BatchGetStockResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn list_stocks(&self, _: Request<inventory::ListStocksRequest>) -> Answer<inventory::ListStocksResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn adjust_stock(&self, _: Request<inventory::AdjustStockRequest>) -> Answer<inventory::AdjustStockResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn record_physical_count(&self, _: Request<inventory::RecordPhysicalCountRequest>) -> Answer<inventory::RecordPhysicalCountResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    async fn list_stock_movements(&self, _: Request<inventory::ListStockMovementsRequest>) -> Answer<inventory::ListStockMovementsResponse> {
        Err(Status::unimplemented("ingest only imports"))
    }

    type WatchStockStream = Never<inventory::WatchStockResponse>;

    async fn watch_stock(&self, _: Request<inventory::WatchStockRequest>) -> Answer<Self::WatchStockStream> {
        Err(Status::unimplemented("ingest only imports"))
    }
}
