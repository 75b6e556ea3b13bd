//! `customer_daily`: how often, how much and where a customer buys, day by day.

use std::sync::{LazyLock, OnceLock};

use super::{
    DAY, Feature, Grain, Unit, View,
    measure::{self, Measure},
};
use crate::{card::Pii, feature::fact::PURCHASES};

pub(super) static VIEW: View = View {
    name: "customer_daily",
    doc: "How often, how much and where a customer buys, as of each midnight UTC at which that changed. Orders that \
          are known to be cancelled do not count; a return lowers what was paid, and is no order.",
    owner: "analytics",
    entity: "golden_id",
    pii: Pii::Quasi,
    grain: Grain::Daily,
    ttl: 730 * DAY,
    facts: PURCHASES,
    features: LazyLock::new(features),
    definition: OnceLock::new(),
};

const ORDERS: Measure = Measure {
    name: "orders",
    unit: Unit::Count,
    doc: "Orders",
    reads: &["order_uid"],
    value: measure::count,
};
const SPEND: Measure = Measure {
    name: "spend_minor",
    unit: Unit::Minor,
    doc: "What was paid, missing where currencies mix,",
    reads: &["amount_minor", "currency"],
    value: measure::amount,
};

static WINDOWS: [i64; 4] = [7 * DAY, 30 * DAY, 90 * DAY, 365 * DAY];
static OVER_WINDOWS: [Measure; 11] = [
    ORDERS,
    SPEND,
    Measure { name: "units", unit: Unit::Count, doc: "Units", reads: &["units"], value: measure::units },
    Measure {
        name: "lines",
        unit: Unit::Count,
        doc: "Order lines",
        reads: &["lines"],
        value: measure::lines,
    },
    Measure {
        name: "discount_minor",
        unit: Unit::Minor,
        doc: "What was taken off, missing where currencies mix,",
        reads: &["discount_minor", "currency"],
        value: measure::discount,
    },
    Measure {
        name: "largest_order_minor",
        unit: Unit::Minor,
        doc: "The largest order, missing where there is none or currencies mix,",
        reads: &["amount_minor", "currency"],
        value: measure::largest,
    },
    Measure {
        name: "locations",
        unit: Unit::Count,
        doc: "Distinct locations",
        reads: &["location_id"],
        value: measure::locations,
    },
    Measure { name: "days", unit: Unit::Count, doc: "Days with an order", reads: &[], value: measure::days },
    Measure {
        name: "web_orders",
        unit: Unit::Count,
        doc: "Orders in the web shop",
        reads: &["channel"],
        value: measure::on_web,
    },
    Measure {
        name: "marketplace_orders",
        unit: Unit::Count,
        doc: "Orders on marketplaces",
        reads: &["channel"],
        value: measure::on_marketplace,
    },
    Measure {
        name: "store_orders",
        unit: Unit::Count,
        doc: "Orders in stores",
        reads: &["channel"],
        value: measure::in_stores,
    },
];

fn features() -> Vec<Feature> {
    let times = [
        Measure {
            name: "first_order_at",
            unit: Unit::Time,
            doc: "The first order",
            reads: &[],
            value: measure::first,
        },
        Measure {
            name: "last_order_at",
            unit: Unit::Time,
            doc: "The last order",
            reads: &[],
            value: measure::last,
        },
    ];
    let ever = times.iter().chain([&ORDERS, &SPEND]).map(Measure::ever);
    let over =
        WINDOWS.iter().flat_map(|window| OVER_WINDOWS.iter().map(move |measure| measure.over(*window)));
    ever.chain(over).collect()
}
