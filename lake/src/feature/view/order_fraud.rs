//! `order_fraud`: what an order looks like beside what its customer did shortly before.

use std::sync::{LazyLock, OnceLock};

use super::{
    DAY, Feature, Grain, HOUR, Past, SECOND, Unit, View,
    measure::{self, Measure, feature},
};
use crate::{
    card::Pii,
    feature::fact::{self, Purchase},
};

pub(super) static VIEW: View = View {
    name: "order_fraud",
    doc: "What an order looks like beside what its customer did before; of a customer whom nobody knows, nothing. \
          Cancelled orders count as well: that they were cancelled was not known as they were placed. A return lowers \
          what was paid and is no order. An order's values are known once a run has seen it, some minutes to half an \
          hour after it was placed: ask about a later moment than that, of orders to train on as of orders to judge.",
    owner: "risk",
    entity: "order_uid",
    pii: Pii::Quasi,
    grain: Grain::Order,
    ttl: 90 * DAY,
    facts: fact::ORDERS,
    features: LazyLock::new(features),
    definition: OnceLock::new(),
};

/// How far back an order is compared with others.
const MEMORY: i64 = 90 * DAY;

const ORDERS: Measure = Measure {
    name: "orders",
    unit: Unit::Count,
    doc: "The customer's orders",
    reads: &["order_uid"],
    value: measure::count,
};
const SPEND: Measure = Measure {
    name: "spend_minor",
    unit: Unit::Minor,
    doc: "What the customer paid, missing where currencies mix,",
    reads: &["amount_minor", "currency"],
    value: measure::amount,
};
const LOCATIONS: Measure = Measure {
    name: "locations",
    unit: Unit::Count,
    doc: "Distinct locations of the customer's orders",
    reads: &["location_id"],
    value: measure::locations,
};

fn features() -> Vec<Feature> {
    let own = [
        feature("amount_minor", Unit::Minor, "What the order came to.", &["amount_minor"], |past| {
            Some(past.order?.amount_minor)
        }),
        feature("discount_minor", Unit::Minor, "What was taken off.", &["discount_minor"], |past| {
            Some(past.order?.discount_minor)
        }),
        feature("largest_line_minor", Unit::Minor, "Its largest line.", &["largest_line_minor"], |past| {
            Some(past.order?.largest_line_minor)
        }),
        feature("lines", Unit::Count, "Its lines.", &["lines"], |past| Some(past.order?.lines)),
        feature("units", Unit::Count, "Its units.", &["units"], |past| Some(past.order?.units)),
        feature(
            "hour_of_day",
            Unit::Count,
            "The hour at which it was placed, UTC, from 0.",
            &[],
            hour_of_day,
        ),
        feature(
            "day_of_week",
            Unit::Count,
            "The day on which it was placed, UTC, Monday is 1.",
            &[],
            day_of_week,
        ),
        feature(
            "is_customer_known",
            Unit::Count,
            "1 if the customer is known, else 0.",
            &["golden_id"],
            |past| Some(i64::from(past.order?.customer.is_some())),
        ),
    ];
    let beside = [
        feature(
            "seconds_since_order",
            Unit::Seconds,
            "Since the customer's last order, of 90 days.",
            &[],
            since,
        ),
        feature(
            "is_new_location",
            Unit::Count,
            "1 if the customer had orders in 90 days but none there, else 0.",
            &["location_id"],
            is_new_location,
        ),
        feature(
            "amount_to_mean_bp",
            Unit::BasisPoints,
            "The order's amount by the mean of the customer's orders of 90 days; missing without any, or where \
             currencies mix.",
            &["amount_minor", "currency"],
            amount_to_mean,
        ),
    ];
    let over = [
        ORDERS.over(HOUR),
        ORDERS.over(DAY),
        ORDERS.over(7 * DAY),
        ORDERS.over(MEMORY),
        SPEND.over(HOUR),
        SPEND.over(DAY),
        SPEND.over(7 * DAY),
        SPEND.over(MEMORY),
        LOCATIONS.over(DAY),
        LOCATIONS.over(MEMORY),
    ];
    own.into_iter().chain(beside).chain(over).collect()
}

fn hour_of_day(past: &Past<'_>) -> Option<i64> {
    Some(past.order?.at.rem_euclid(DAY) / HOUR)
}

fn day_of_week(past: &Past<'_>) -> Option<i64> {
    // The epoch was a Thursday.
    Some((past.order?.at.div_euclid(DAY) + 3).rem_euclid(7) + 1)
}

fn since(past: &Past<'_>) -> Option<i64> {
    Some((past.order?.at - measure::last(past.last(MEMORY))?) / SECOND)
}

fn is_new_location(past: &Past<'_>) -> Option<i64> {
    let order = past.order?;
    let mut before = measure::bought(past.last(MEMORY)).peekable();
    let is_known = |purchase: &Purchase| purchase.location == order.location;
    Some(i64::from(before.peek().is_some() && !before.any(is_known)))
}

fn amount_to_mean(past: &Past<'_>) -> Option<i64> {
    let order = past.order?;
    let before = past.last(MEMORY);
    let is_same = before.first()?.currency == order.currency;
    let sum = measure::amount(before).filter(|sum| is_same && *sum > 0)?;
    let ratio =
        i128::from(order.amount_minor) * 10_000 * i128::from(measure::count(before)?) / i128::from(sum);
    i64::try_from(ratio).ok()
}
