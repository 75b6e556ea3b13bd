//! What the order service holds, added up.

use std::collections::{BTreeMap, HashSet};

use omnimesh_proto::order::v1::{
    Channel, ListOrdersRequest, Order, order_service_client::OrderServiceClient,
};

use crate::client::Client;

const PAGE: i32 = 1_000;

/// What one system's records say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) records: i64,
    pub(super) lines: i64,
    pub(super) total_minor: i64,
}

/// All orders, added up.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) orders: i64,
    pub(super) lines: i64,
    pub(super) quantity: i64,
    pub(super) total_minor: i64,
    /// Source records that belong to more than one order.
    pub(super) doubled: i64,
    /// Orders of the web shop or a marketplace, which know their customers, without one.
    pub(super) unlinked: i64,
    pub(super) systems: BTreeMap<String, Sums>,
    seen: HashSet<(String, String)>,
}

impl Totals {
    pub(super) async fn read(client: Client) -> anyhow::Result<Self> {
        let mut client = OrderServiceClient::new(client).max_decoding_message_size(mesh::MAX_MESSAGE_BYTES);
        let mut totals = Self::default();
        let mut request = ListOrdersRequest { page_size: PAGE, ..ListOrdersRequest::default() };
        loop {
            let page = client.list_orders(request.clone()).await?.into_inner();
            page.orders.into_iter().for_each(|order| totals.add(order));
            if page.next_page_token.is_empty() {
                return Ok(totals);
            }
            request.page_token = page.next_page_token;
        }
    }

    fn add(&mut self, order: Order) {
        let lines = i64::try_from(order.lines.len()).unwrap_or(i64::MAX);
        self.orders += 1;
        self.lines += lines;
        self.quantity += order.lines.iter().map(|line| line.quantity).sum::<i64>();
        self.total_minor += order.total_minor;
        let knows_customer = matches!(order.channel(), Channel::Web | Channel::Marketplace);
        self.unlinked += i64::from(knows_customer && order.golden_id.is_empty());
        for source in order.sources {
            let Some(record) = source.source else { continue };
            let sums = self.systems.entry(record.system.clone()).or_default();
            sums.records += 1;
            sums.lines += source.line_count;
            sums.total_minor += source.total_minor;
            self.doubled += i64::from(!self.seen.insert((record.system, record.id)));
        }
    }
}
