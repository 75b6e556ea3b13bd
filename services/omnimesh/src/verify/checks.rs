//! The invariants themselves.

use omnimesh_proto::{
    customer::v1::{ListCustomersRequest, customer_service_client::CustomerServiceClient},
    ingest::v1::{Source, SourceEntity},
};
use silos::Summary;

use super::{
    Check,
    orders::{self, Sums},
    stock,
};
use crate::{
    client::Client,
    table::{grouped, money},
};

fn check(name: impl Into<String>, holds: bool, finding: String) -> Check {
    Check { name: name.into(), holds, finding }
}

/// Nothing that landed was lost: it reached a domain or waits in quarantine.
pub(super) fn landed(sources: &[Source]) -> Vec<Check> {
    let line = |source: &Source| {
        let sum = |count: fn(&SourceEntity) -> i64| source.entities.iter().map(count).sum::<i64>();
        let landed = sum(|entity| entity.landed_count);
        let applied = sum(|entity| entity.applied_count);
        let quarantined = sum(|entity| entity.quarantined_count);
        let lost = landed - applied - quarantined;
        let finding = format!(
            "{} lost: {} landed, {} applied, {} quarantined",
            grouped(lost),
            grouped(landed),
            grouped(applied),
            grouped(quarantined)
        );
        check(format!("records of {}", source.system), lost == 0, finding)
    };
    sources.iter().map(line).collect()
}

/// The orders add up to what the demo's silos were built from.
pub(super) fn demo(totals: &orders::Totals, silos: &Summary) -> Vec<Check> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let shown = |sums: Sums| {
        format!(
            "{} orders, {} lines, {}",
            grouped(sums.records),
            grouped(sums.lines),
            money(sums.total_minor)
        )
    };
    let compare = |name: String, found: Sums, expected: Sums| {
        check(
            name,
            found == expected,
            format!("{} in the services, {} in the source", shown(found), shown(expected)),
        )
    };
    let mut checks = Vec::new();
    for (system, tally) in silos.silos.iter().filter(|(_, tally)| tally.lines > 0) {
        let expected =
            Sums { records: count(tally.records), lines: count(tally.lines), total_minor: tally.sales_minor };
        let found = totals.systems.get(system).copied().unwrap_or_default();
        checks.push(compare(format!("orders of {system}"), found, expected));
    }
    let found = Sums { records: totals.orders, lines: totals.lines, total_minor: totals.total_minor };
    let expected =
        Sums { records: count(silos.baskets), lines: count(silos.lines), total_minor: silos.sales_minor };
    checks.push(compare("unified orders".to_owned(), found, expected));
    checks
}

/// Every source record is in one order, and the lake holds the same orders.
pub(super) fn orders(totals: &orders::Totals, lake: &[lake::TableSummary]) -> Vec<Check> {
    let mut checks = vec![
        check(
            "duplicate source records",
            totals.doubled == 0,
            format!("{} in two orders", grouped(totals.doubled)),
        ),
        check(
            "unlinked orders",
            totals.unlinked == 0,
            format!("{} of shop or marketplace without a customer", grouped(totals.unlinked)),
        ),
    ];
    let table = find(lake, "orders_unified");
    let sum = |name: &str| table.and_then(|table| table.sums.get(name)).copied().unwrap_or(0);
    let rows = table.map_or(0, |table| i64::try_from(table.rows).unwrap_or(i64::MAX));
    checks.push(equal("orders in the lake", totals.orders, rows, grouped));
    checks.push(equal("lines in the lake", totals.lines, sum("lines"), grouped));
    checks.push(equal("quantities in the lake", totals.quantity, sum("lines.quantity"), grouped));
    checks.push(equal("money in the lake", totals.total_minor, sum("total_minor"), money));
    checks.push(equal("money of lines in the lake", totals.total_minor, sum("lines.amount_minor"), money));
    checks
}

/// How many customers there are.
pub(super) async fn customers(client: Client) -> anyhow::Result<i64> {
    let mut client = CustomerServiceClient::new(client).max_decoding_message_size(mesh::MAX_MESSAGE_BYTES);
    let mut request = ListCustomersRequest { page_size: 1_000, ..ListCustomersRequest::default() };
    let mut count = 0;
    loop {
        let page = client.list_customers(request.clone()).await?.into_inner();
        count += i64::try_from(page.customers.len()).unwrap_or(i64::MAX);
        if page.next_page_token.is_empty() {
            return Ok(count);
        }
        request.page_token = page.next_page_token;
    }
}

/// Every customer has exactly one current row.
pub(super) fn customers_in_lake(customers: i64, lake: &[lake::TableSummary]) -> Vec<Check> {
    let current =
        find(lake, "users_scd").and_then(|table| table.sums.get("is_current")).copied().unwrap_or(0);
    vec![equal("customers in the lake", customers, current, grouped)]
}

/// The ledger and the stocks agree, with each other and with the lake.
pub(super) fn stock(totals: &stock::Totals, lake: &[lake::TableSummary]) -> Vec<Check> {
    let table = find(lake, "inventory_snapshots");
    let sum = |name: &str| table.and_then(|table| table.sums.get(name)).copied().unwrap_or(0);
    let rows = table.map_or(0, |table| i64::try_from(table.rows).unwrap_or(i64::MAX));
    let ledger = format!(
        "{} of {} stocks differ from their movements",
        grouped(totals.differing),
        grouped(totals.stocks)
    );
    vec![
        check("ledger and stock", totals.differing == 0, ledger),
        check(
            "oversold",
            totals.oversold == 0,
            format!("{} stocks below zero in the book", grouped(totals.oversold)),
        ),
        equal("stocks in the lake", totals.stocks, rows, grouped),
        equal("on hand in the lake", totals.on_hand, sum("on_hand"), grouped),
    ]
}

fn find<'l>(lake: &'l [lake::TableSummary], name: &str) -> Option<&'l lake::TableSummary> {
    lake.iter().find(|table| table.table == name)
}

fn equal(name: &str, services: i64, lake: i64, show: impl Fn(i64) -> String) -> Check {
    check(name, services == lake, format!("{} in the services, {} in the lake", show(services), show(lake)))
}
