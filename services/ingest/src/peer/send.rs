//! Handing commands to the domains.
//!
//! Each message is a call of its own: then an index in a refusal means one command. What a domain refuses is taken out
//! and the rest is sent again; the imports are idempotent. A refusal that names no command fails the run.

use std::{collections::BTreeMap, future::Future, time::Duration};

use mesh::{Channel, MAX_MESSAGE_BYTES, PeerError, Peers};
use omnimesh_proto::{
    catalog::v1::{ImportProductsRequest, ProductImport, catalog_service_client::CatalogServiceClient},
    identity::v1::{
        IdentityRecord, ImportIdentityRecordsRequest, identity_service_client::IdentityServiceClient,
    },
    inventory::v1::{
        ImportStockMovementsRequest, StockMovement, inventory_service_client::InventoryServiceClient,
    },
    order::v1::{ImportOrdersRequest, SourceOrder, order_service_client::OrderServiceClient},
};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{Command, Commands, Rejected};
use crate::Error;

/// Commands in a message: few enough for the domains' limit and for 16 MiB.
const COMMANDS: usize = 2_500;
/// A domain that is busy or restarts gets this many chances, 0.1 s to 3.2 s apart.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The domains that records go to.
#[derive(Debug, Clone)]
pub(crate) struct Domains {
    order: OrderServiceClient<Channel>,
    identity: IdentityServiceClient<Channel>,
    catalog: CatalogServiceClient<Channel>,
    inventory: InventoryServiceClient<Channel>,
}

/// A kind of command, and the call that takes it.
trait Import: Clone + Send + Sync + Sized + 'static {
    const SERVICE: &'static str;

    fn import(domains: &Domains, messages: Vec<Self>) -> impl Future<Output = Result<(), Status>> + Send;
}

macro_rules! import {
    ($message:ty, $service:literal, $field:ident, $call:ident, $request:ident { $list:ident }) => {
        impl Import for $message {
            const SERVICE: &'static str = $service;

            async fn import(domains: &Domains, $list: Vec<Self>) -> Result<(), Status> {
                let request = tokio_stream::once($request { $list });
                domains.$field.clone().$call(request).await.map(drop)
            }
        }
    };
}

import!(SourceOrder, "omnimesh.order.v1.OrderService", order, import_orders, ImportOrdersRequest { orders });
import!(
    IdentityRecord,
    "omnimesh.identity.v1.IdentityService",
    identity,
    import_identity_records,
    ImportIdentityRecordsRequest { records }
);
import!(
    ProductImport,
    "omnimesh.catalog.v1.CatalogService",
    catalog,
    import_products,
    ImportProductsRequest { products }
);
import!(
    StockMovement,
    "omnimesh.inventory.v1.InventoryService",
    inventory,
    import_stock_movements,
    ImportStockMovementsRequest { movements }
);

impl Domains {
    pub(crate) fn new(peers: &Peers) -> Self {
        let channel = |service| peers.channel(service);
        Self {
            order: OrderServiceClient::new(channel(SourceOrder::SERVICE))
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            identity: IdentityServiceClient::new(channel(IdentityRecord::SERVICE))
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            catalog: CatalogServiceClient::new(channel(ProductImport::SERVICE))
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            inventory: InventoryServiceClient::new(channel(StockMovement::SERVICE))
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        }
    }

    /// Sends every command; returns the records of those that could not be taken, here or there.
    pub(crate) async fn send(&self, commands: Commands) -> Result<Rejected, Error> {
        let (orders, identities, products, movements) = tokio::try_join!(
            self.send_all(commands.orders),
            self.send_all(commands.identities),
            self.send_all(commands.products),
            self.send_all(commands.movements),
        )?;
        let mut rejected = commands.rejected;
        for more in [orders, identities, products, movements] {
            rejected.extend(more);
        }
        Ok(rejected)
    }

    async fn send_all<T: Import>(&self, mut commands: Vec<Command<T>>) -> Result<Rejected, Error> {
        let mut rejected = Rejected::new();
        while !commands.is_empty() {
            let rest = commands.split_off(commands.len().min(COMMANDS));
            let mut portion = std::mem::replace(&mut commands, rest);
            loop {
                let mut refused = self.send_portion(&portion).await?;
                if refused.is_empty() {
                    break;
                }
                let mut good = Vec::new();
                for (index, command) in portion.into_iter().enumerate() {
                    match refused.remove(&index) {
                        Some(reason) => {
                            rejected.extend(command.records.iter().map(|id| (*id, reason.clone())))
                        }
                        None => good.push(command),
                    }
                }
                portion = good;
            }
        }
        Ok(rejected)
    }

    /// Sends a portion; returns the commands, by their index, that kept the domain from taking it.
    async fn send_portion<T: Import>(
        &self,
        portion: &[Command<T>],
    ) -> Result<BTreeMap<usize, String>, Error> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let messages = portion.iter().map(|command| command.message.clone()).collect();
            let Err(status) = T::import(self, messages).await else { break };
            let refused = refused(&status, portion.len());
            if !refused.is_empty() {
                return Ok(refused);
            }
            let error = PeerError::new(T::SERVICE, status);
            if !error.is_retryable() || attempt == ATTEMPTS {
                return Err(error.into());
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(BTreeMap::new())
    }
}

/// The commands that a refusal names, by their index in the message, and what is wrong with them.
fn refused(status: &Status, count: usize) -> BTreeMap<usize, String> {
    let details = status.get_error_details();
    let mut refused = BTreeMap::new();
    for violation in details.bad_request().map(|request| &request.field_violations).into_iter().flatten() {
        let index = violation.field.split_once('[').and_then(|(_, after)| after.split_once(']'));
        if let Some((index, field)) = index
            && let Some(index) = index.parse().ok().filter(|index| *index < count)
        {
            let field = field.trim_start_matches('.');
            refused.entry(index).or_insert_with(|| format!("{field}: {}", violation.description));
        }
    }
    refused
}
