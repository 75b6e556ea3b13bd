//! `product_daily`: how much of a product is sold, to how many and where, day by day.

use std::sync::{LazyLock, OnceLock};

use super::{
    DAY, Feature, Grain, Unit, View,
    measure::{self, Measure},
};
use crate::{card::Pii, feature::fact::SALES};

pub(super) static VIEW: View = View {
    name: "product_daily",
    doc: "How much of a product is sold, to how many and where, as of each midnight UTC at which that changed. \
          Orders that are known to be cancelled do not count; a return lowers what was sold, and is no order.",
    owner: "analytics",
    entity: "sku",
    pii: Pii::None,
    grain: Grain::Daily,
    ttl: 730 * DAY,
    facts: SALES,
    features: LazyLock::new(features),
    definition: OnceLock::new(),
};

const ORDERS: Measure = Measure {
    name: "orders",
    unit: Unit::Count,
    doc: "Orders that have it",
    reads: &["order_uid"],
    value: measure::count,
};
const UNITS: Measure =
    Measure { name: "units", unit: Unit::Count, doc: "Units sold", reads: &["units"], value: measure::units };
const REVENUE: Measure = Measure {
    name: "revenue_minor",
    unit: Unit::Minor,
    doc: "What was paid for it, missing where currencies mix,",
    reads: &["amount_minor", "currency"],
    value: measure::amount,
};

static WINDOWS: [i64; 2] = [7 * DAY, 30 * DAY];
static OVER_WINDOWS: [Measure; 6] = [
    ORDERS,
    UNITS,
    REVENUE,
    Measure {
        name: "discount_minor",
        unit: Unit::Minor,
        doc: "What was taken off, missing where currencies mix,",
        reads: &["discount_minor", "currency"],
        value: measure::discount,
    },
    Measure {
        name: "customers",
        unit: Unit::Count,
        doc: "Distinct known customers",
        reads: &["golden_id"],
        value: measure::customers,
    },
    Measure {
        name: "locations",
        unit: Unit::Count,
        doc: "Distinct locations",
        reads: &["location_id"],
        value: measure::locations,
    },
];

fn features() -> Vec<Feature> {
    let times = [
        Measure {
            name: "first_sold_at",
            unit: Unit::Time,
            doc: "The first sale",
            reads: &[],
            value: measure::first,
        },
        Measure {
            name: "last_sold_at",
            unit: Unit::Time,
            doc: "The last sale",
            reads: &[],
            value: measure::last,
        },
    ];
    let ever = times.iter().chain([&ORDERS, &UNITS, &REVENUE]).map(Measure::ever);
    let over =
        WINDOWS.iter().flat_map(|window| OVER_WINDOWS.iter().map(move |measure| measure.over(*window)));
    ever.chain(over).collect()
}
