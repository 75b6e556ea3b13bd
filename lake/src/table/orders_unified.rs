//! `orders_unified`: one row for each physical order, whichever systems saw it.

use arrow::array::RecordBatch;
use omnimesh_proto::{
    event::v1::Event,
    order::v1::{Channel, MatchRule, Order, OrderChanged, OrderSource, OrderStatus},
};
use types::Timestamp;

use super::{Change, Route, Source, Stale, Table, decode, missing, state_of_subject};
use crate::{
    Error, TableName,
    card::Card,
    columns::{Column, batch, date, integer, list, optional_integer, optional_text, record, text, time},
};

const NAME: &str = "orders_unified";
const ORIGIN: &str = "ORIGIN";

const CARD: &str = "\
Orders, each once, whichever systems saw it.
grain: one row per physical order
key: order_uid
owner: order
freshness: seconds behind the events, at most `lake.linger_ms` and a commit
proto: omnimesh.order.v1.Order
column order_uid: The order. [pii=quasi] [from=order.order_uid]
column golden_id: Who bought. [pii=quasi] [from=order.golden_id]
column channel: Where it was placed: web, marketplace or pos. [from=order.channel]
column origin_system: The system in which it was placed; null if only copies of it were seen.
[from=order.sources]
column ordered_at: When it was placed. [from=order.order_time]
column business_date: The day in UTC on which it was placed. [from=order.order_time]
column location_id: Where it was sold or fulfilled; null if nobody says. [from=order.location_id]
column status: How far it has come: placed, completed or cancelled; null if nobody says. [from=order.status]
column currency: The currency of every amount, by ISO 4217. [from=order.currency_code]
column subtotal_minor: What its lines came to before discounts, in the currency's minor unit.
[from=order.total_minor, order.discount_minor]
column discount_minor: What was taken off. [from=order.discount_minor]
column total_minor: What is to be paid; less than 0 is paid back, for what was returned.
[from=order.total_minor]
column paid_minor: What its payments come to; null where no system tells of payments.
[from=order.payments.amount_minor]
column source_refs: The records that it was seen in, each with its version and whether it is the origin or a copy; no
record is of two orders. [pii=quasi]
[from=order.sources]
column match_rule: Why its copies belong to it: reference, payment, content or asserted; null without a copy.
[from=order.sources.match_rule]
column lines: What was bought: product, quantity in its sales unit, what was paid for it and what was taken off.
[from=order.lines]
column payments: How it was paid: the provider's reference, the method, the till's authorisation, the amount.
[pii=quasi] [from=order.payments]
column first_seen: When it was first recorded. [from=order.create_time]
column last_event_time: When it last changed, as it was recorded. [from=event.event_time]
column lineage_id: The event that the row was made of. [from=event.id]
";

static SOURCE: Source = Source {
    consumer: "lake.orders_unified<-order",
    domain: "order",
    event_type: "omnimesh.order.v1.OrderChanged",
};

pub(super) struct OrdersUnified;

impl Table for OrdersUnified {
    fn source(&self) -> &'static Source {
        &SOURCE
    }

    fn owns(&self, name: &TableName) -> bool {
        name.as_str() == NAME
    }

    fn route(&self, event: &Event) -> Result<Route, Error> {
        let time = event.event_time.and_then(|time| Timestamp::try_from(time).ok());
        state_of_subject(NAME, event, time.ok_or_else(|| missing(event, "time"))?.micros())
    }

    fn card(&self) -> Card {
        Card::parse(CARD)
    }

    fn change(&self, events: Vec<Event>) -> Result<Change, Error> {
        let mut orders = Vec::new();
        let mut merged = Vec::new();
        for mut event in events {
            let changed: OrderChanged = decode(SOURCE.event_type, &event)?;
            let order = changed.order.ok_or_else(|| missing(&event, "order"))?;
            event.payload.clear();
            if order.merged_into.is_empty() {
                orders.push(Row { order: in_order(order), event });
            } else {
                merged.push(order.order_uid);
            }
        }
        // An order that has become a part of another lost its records to that one: no old event brings it back.
        let stale = Stale { column: "order_uid", values: merged };
        Ok(Change::Upsert { rows: rows(&orders)?, stale, newer: Some("last_event_time") })
    }
}

/// An order, and the event that told of it, without its payload.
struct Row {
    order: Order,
    event: Event,
}

/// Sources come in the order in which they arrived, which two runs over them need not share.
fn in_order(mut order: Order) -> Order {
    let name = |source: &OrderSource| source.source.clone().map(|source| (source.system, source.id));
    order.sources.sort_by_cached_key(name);
    order
}

fn rows(rows: &[Row]) -> Result<RecordBatch, Error> {
    let orders = || rows.iter().map(|row| &row.order);
    Ok(batch(vec![
        text("order_uid", orders().map(|order| order.order_uid.as_str())).key(1).volatile(),
        optional_text("golden_id", orders().map(|order| order.golden_id.as_str())).volatile(),
        text("channel", orders().map(|order| channel(order.channel()))),
        optional_text("origin_system", orders().map(origin_system)),
        time("ordered_at", orders().map(|order| order.order_time)),
        date("business_date", orders().map(|order| order.order_time)),
        optional_text("location_id", orders().map(|order| order.location_id.as_str())),
        optional_text("status", orders().map(|order| status(order.status()))),
        text("currency", orders().map(|order| order.currency_code.as_str())),
        integer("subtotal_minor", orders().map(|order| order.total_minor + order.discount_minor)),
        integer("discount_minor", orders().map(|order| order.discount_minor)),
        integer("total_minor", orders().map(|order| order.total_minor)),
        optional_integer("paid_minor", orders().map(paid_minor)),
        source_refs(orders()).exclusive(),
        optional_text("match_rule", orders().map(match_rule)),
        lines(orders()),
        payments(orders()),
        time("first_seen", orders().map(|order| order.create_time)).volatile(),
        time("last_event_time", rows.iter().map(|row| row.event.event_time)).volatile(),
        text("lineage_id", rows.iter().map(|row| row.event.id.as_str())).volatile(),
    ])?)
}

fn source_refs<'a>(orders: impl Iterator<Item = &'a Order> + Clone) -> Column {
    let lengths = orders.clone().map(|order| order.sources.len());
    let all = orders.flat_map(|order| &order.sources);
    let records = || all.clone().map(|source| source.source.as_ref());
    let items = record(
        "item",
        vec![
            text("system", records().map(|source| source.map_or("", |source| source.system.as_str()))),
            text("id", records().map(|source| source.map_or("", |source| source.id.as_str()))),
            integer("version", all.clone().map(|source| source.version)),
            optional_text("role", all.clone().map(|source| source.role.as_str())),
        ],
    );
    list("source_refs", lengths, items)
}

fn lines<'a>(orders: impl Iterator<Item = &'a Order> + Clone) -> Column {
    let lengths = orders.clone().map(|order| order.lines.len());
    let all = || orders.clone().flat_map(|order| &order.lines);
    let items = record(
        "item",
        vec![
            text("sku", all().map(|line| line.sku.as_str())),
            integer("quantity", all().map(|line| line.quantity)),
            integer("amount_minor", all().map(|line| line.amount_minor)),
            integer("discount_minor", all().map(|line| line.discount_minor)),
        ],
    );
    list("lines", lengths, items)
}

fn payments<'a>(orders: impl Iterator<Item = &'a Order> + Clone) -> Column {
    let lengths = orders.clone().map(|order| order.payments.len());
    let all = || orders.clone().flat_map(|order| &order.payments);
    let items = record(
        "item",
        vec![
            optional_text("psp_ref", all().map(|payment| payment.psp_ref.as_str())),
            optional_text("method", all().map(|payment| payment.method.as_str())),
            optional_text("auth_code", all().map(|payment| payment.auth_code.as_str())),
            integer("amount_minor", all().map(|payment| payment.amount_minor)),
        ],
    );
    list("payments", lengths, items)
}

fn channel(channel: Channel) -> &'static str {
    match channel {
        Channel::Unspecified => "unknown",
        Channel::Web => "web",
        Channel::Marketplace => "marketplace",
        Channel::Pos => "pos",
    }
}

fn status(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Unspecified => "",
        OrderStatus::Placed => "placed",
        OrderStatus::Completed => "completed",
        OrderStatus::Cancelled => "cancelled",
    }
}

/// The system where the order was placed.
fn origin_system(order: &Order) -> &str {
    let origin = order.sources.iter().find(|source| source.role == ORIGIN);
    origin.and_then(|origin| origin.source.as_ref()).map_or("", |source| source.system.as_str())
}

/// What the payments come to, if any of the systems tells of payments.
fn paid_minor(order: &Order) -> Option<i64> {
    (!order.payments.is_empty()).then(|| order.payments.iter().map(|payment| payment.amount_minor).sum())
}

/// Why the order's copies belong to it: the rule of the first one that has any.
fn match_rule(order: &Order) -> &'static str {
    let rules = order.sources.iter().map(|source| match source.match_rule() {
        MatchRule::Unspecified => "",
        MatchRule::Reference => "reference",
        MatchRule::Payment => "payment",
        MatchRule::Content => "content",
        MatchRule::Asserted => "asserted",
    });
    rules.into_iter().find(|rule| !rule.is_empty()).unwrap_or("")
}
