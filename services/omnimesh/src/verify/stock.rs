//! What the inventory service holds, against the ledger that it published.

use std::collections::HashMap;

use futures::StreamExt;
use omnimesh_proto::{
    event::v1::{StreamEventsRequest, event_service_client::EventServiceClient},
    inventory::v1::{
        ListStocksRequest, MovementKind, StockChanged, StockMovement,
        inventory_service_client::InventoryServiceClient,
    },
};
use prost::Message;

use crate::client::Client;

const PAGE: i32 = 1_000;

/// All stock, added up.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) stocks: i64,
    pub(super) on_hand: i64,
    /// Stocks with less than nothing on hand.
    pub(super) oversold: i64,
    /// Stocks whose ledger says something else.
    pub(super) differing: i64,
}

impl Totals {
    pub(super) async fn read(client: Client) -> anyhow::Result<Self> {
        let ledgers = ledgers(client.clone()).await?;
        let mut client =
            InventoryServiceClient::new(client).max_decoding_message_size(mesh::MAX_MESSAGE_BYTES);
        let mut totals = Self::default();
        let mut request = ListStocksRequest { page_size: PAGE, ..ListStocksRequest::default() };
        loop {
            let page = client.list_stocks(request.clone()).await?.into_inner();
            for stock in page.stocks {
                let ledger = ledgers.get(&stock.name).map_or(&[][..], Vec::as_slice);
                totals.stocks += 1;
                totals.on_hand += stock.on_hand;
                totals.oversold += i64::from(stock.on_hand < 0);
                totals.differing += i64::from(stock.on_hand != on_hand(ledger));
            }
            if page.next_page_token.is_empty() {
                return Ok(totals);
            }
            request.page_token = page.next_page_token;
        }
    }
}

/// A movement as far as it matters: kind, quantity, time.
type Moved = (bool, i64, i64);

async fn ledgers(client: Client) -> anyhow::Result<HashMap<String, Vec<Moved>>> {
    let mut client = EventServiceClient::new(client).max_decoding_message_size(mesh::MAX_MESSAGE_BYTES);
    let request = StreamEventsRequest { domain: "inventory".to_owned(), ..StreamEventsRequest::default() };
    let mut batches = client.stream_events(request).await?.into_inner();
    let mut ledgers: HashMap<String, Vec<Moved>> = HashMap::new();
    while let Some(batch) = batches.next().await {
        for event in batch?.events {
            let movements = StockChanged::decode(event.payload)?.movements;
            ledgers.entry(event.subject).or_default().extend(movements.iter().map(moved));
        }
    }
    Ok(ledgers)
}

fn moved(movement: &StockMovement) -> Moved {
    let micros =
        movement.event_time.map_or(0, |time| time.seconds * 1_000_000 + i64::from(time.nanos / 1_000));
    (movement.kind() == MovementKind::Count, movement.quantity, micros)
}

/// The last count and what moved since: the ledger's rule, told a second time so that it can contradict the service.
fn on_hand(ledger: &[Moved]) -> i64 {
    let count = ledger.iter().filter(|(is_count, ..)| *is_count).max_by_key(|(.., time)| *time);
    let (counted, since) = count.map_or((0, i64::MIN), |(_, quantity, time)| (*quantity, *time));
    let moved = ledger.iter().filter(|(is_count, _, time)| !is_count && *time > since);
    counted + moved.map(|(_, quantity, _)| quantity).sum::<i64>()
}
