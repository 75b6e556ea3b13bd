//! Feature views: features of one kind of entity that are kept in one table.
//!
//! A view is a file in `view/` and a line in [`ALL`]. A feature is one function from what is known of an entity to a
//! value; the table, the online answers and the training sets all come from it.

mod measure;

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock, OnceLock},
};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::fact::{History, Purchase};
use crate::{
    card::{Card, Column, Pii},
    listed::listed,
    sql::Role,
};

listed! {
    /// Every view.
    pub(crate) static ALL: &[&View] = [customer_daily::VIEW, product_daily::VIEW, order_fraud::VIEW];
}

/// The view of that name.
pub(crate) fn find(name: &str) -> Option<&'static View> {
    ALL.iter().copied().find(|view| view.name == name)
}

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Values are kept ahead of time, as far as they follow from what is known: more often tells only of what is new.
const SCHEDULE: &str = "*/15 * * * *";

pub(crate) const EVENT_TIME: &str = "event_time";
pub(crate) const KNOWN_AT: &str = "known_at";

/// Features of one kind of entity.
#[derive(Debug)]
pub(crate) struct View {
    /// Its name, and that of its table.
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) owner: &'static str,
    /// The column that names the entity, as in the silver tables.
    pub(crate) entity: &'static str,
    /// What that column says about a person.
    pub(crate) pii: Pii,
    pub(crate) grain: Grain,
    /// How long after their event time values count.
    pub(crate) ttl: i64,
    /// The query that finds its facts.
    pub(crate) facts: &'static str,
    pub(crate) features: LazyLock<Vec<Feature>>,
    pub(crate) definition: OnceLock<String>,
}

/// When an entity's values may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grain {
    /// At midnight, UTC: values are of whole days. The facts' subject is the entity.
    Daily,
    /// With an order, which is the entity: values are of the moment before it. The facts' subject is who placed it.
    Order,
}

impl Grain {
    /// The column of the facts that names the entity.
    pub(crate) fn entity(self) -> &'static str {
        match self {
            Self::Daily => "subject",
            Self::Order => "order_uid",
        }
    }
}

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    /// Of the currency's minor unit.
    Minor,
    /// A moment.
    Time,
    Seconds,
    /// Ten thousandths.
    BasisPoints,
}

impl Unit {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Minor => "minor units",
            Self::Time => "time",
            Self::Seconds => "seconds",
            Self::BasisPoints => "basis points",
        }
    }

    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Time => time_type(),
            _ => DataType::Int64,
        }
    }
}

pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// What is known of an entity at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past<'a> {
    /// The moment; nothing in `purchases` happened then or later.
    pub(crate) at: i64,
    /// By when they happened.
    pub(crate) purchases: &'a [Purchase],
    /// The order that the entity is, or nothing if it is none.
    pub(crate) order: Option<&'a Purchase>,
}

impl<'a> Past<'a> {
    /// The purchases of the last `window` microseconds, of its first one on.
    pub(crate) fn last(&self, window: i64) -> &'a [Purchase] {
        let first = self.purchases.partition_point(|purchase| purchase.at < self.at.saturating_sub(window));
        &self.purchases[first..]
    }
}

/// One feature.
#[derive(Debug, Clone)]
pub(crate) struct Feature {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) doc: String,
    /// How far back it looks; as far as there is anything if nothing is said.
    pub(crate) window: Option<i64>,
    /// The columns of the facts that it reads beside their times.
    pub(crate) reads: &'static [&'static str],
    value: Value,
}

#[derive(Debug, Clone, Copy)]
enum Value {
    Over(fn(&[Purchase]) -> Option<i64>),
    Of(fn(&Past<'_>) -> Option<i64>),
}

impl Feature {
    /// How what it reads takes part in it.
    pub(crate) fn role(&self) -> Role {
        match self.value {
            Value::Over(_) => Role::Aggregation,
            Value::Of(_) => Role::Transformation,
        }
    }

    /// Its value, if it has one.
    pub(crate) fn value(&self, past: &Past<'_>) -> Option<i64> {
        match (self.value, self.window) {
            (Value::Over(value), Some(window)) => value(past.last(window)),
            (Value::Over(value), None) => value(past.purchases),
            (Value::Of(value), _) => value(past),
        }
    }
}

/// What a history says about one entity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) entity: &'a str,
    pub(crate) purchases: &'a [Purchase],
    pub(crate) order: Option<&'a Purchase>,
}

impl View {
    /// The entities that a history is about.
    pub(crate) fn subjects<'a>(&self, history: &'a History) -> Vec<Subject<'a>> {
        let purchases = history.purchases.as_slice();
        match self.grain {
            Grain::Daily if history.subject.is_empty() => Vec::new(),
            Grain::Daily => vec![Subject { entity: &history.subject, purchases, order: None }],
            Grain::Order => {
                let subject = |(entity, order): (&'a String, &'a Purchase)| {
                    let from = order.at.saturating_sub(self.horizon());
                    let first = purchases.partition_point(|purchase| purchase.at < from);
                    let end = purchases.partition_point(|purchase| purchase.at < order.at);
                    Subject { entity, purchases: &purchases[first..end], order: Some(order) }
                };
                history.orders.iter().zip(purchases).map(subject).collect()
            }
        }
    }

    /// The event times at which what is known of a subject may make other values.
    pub(crate) fn event_times(&self, subject: &Subject<'_>) -> BTreeSet<i64> {
        match (self.grain, subject.order) {
            (Grain::Order, order) => order.map(|order| order.at).into_iter().collect(),
            (Grain::Daily, _) => {
                let windows: BTreeSet<_> =
                    self.features.iter().filter_map(|feature| feature.window).collect();
                let times = |purchase: &Purchase| {
                    let enters = next_midnight(purchase.at);
                    let leaves: Vec<_> = windows.iter().map(|window| enters + window).collect();
                    [enters].into_iter().chain(leaves)
                };
                subject.purchases.iter().flat_map(times).collect()
            }
        }
    }

    /// From when on a purchase counts for a subject, once it is known.
    pub(crate) fn counts_from(&self, subject: &Subject<'_>, purchase: &Purchase) -> i64 {
        subject.order.map_or(next_midnight(purchase.at), |order| order.at)
    }

    /// The values at an event time, by what is known.
    pub(crate) fn values(&self, order: Option<&Purchase>, known: &[Purchase], at: i64) -> Vec<Option<i64>> {
        let end = known.partition_point(|purchase| purchase.at < at);
        let past = Past { at, purchases: &known[..end], order };
        self.features.iter().map(|feature| feature.value(&past)).collect()
    }

    /// How far back the features look.
    fn horizon(&self) -> i64 {
        self.features.iter().filter_map(|feature| feature.window).max().unwrap_or(i64::MAX)
    }

    /// The columns of its table.
    pub(crate) fn schema(&self) -> SchemaRef {
        let key = [
            Field::new(self.entity, DataType::Utf8, false),
            Field::new(EVENT_TIME, time_type(), false),
            Field::new(KNOWN_AT, time_type(), false),
        ];
        let features =
            self.features.iter().map(|feature| Field::new(&feature.name, feature.unit.data_type(), true));
        Arc::new(Schema::new(key.into_iter().chain(features).collect::<Vec<_>>()))
    }

    /// What is said about its table.
    pub(crate) fn card(&self) -> Card {
        let column = |doc: &str, pii| Column { doc: doc.to_owned(), pii, ..Column::default() };
        let key = [
            (self.entity, column("The entity.", self.pii)),
            (
                EVENT_TIME,
                column("When the values became true: they are of all that happened before.", Pii::None),
            ),
            (
                KNOWN_AT,
                column(
                    "When they became known: whoever asks about an earlier moment must not see them.",
                    Pii::None,
                ),
            ),
        ];
        let features = self.features.iter().map(|feature| {
            let unit = feature.unit.as_str();
            (feature.name.clone(), column(&format!("{} [{unit}]", feature.doc), Pii::None))
        });
        let columns =
            key.into_iter().map(|(name, column)| (name.to_owned(), column)).chain(features).collect();
        let more = [("entity", self.entity.to_owned()), ("ttl", format!("P{}D", self.ttl / DAY))];
        Card {
            description: self.doc.to_owned(),
            grain: format!("one row per {}, event time and known time at which a value changed", self.entity),
            key: [self.entity, EVENT_TIME, KNOWN_AT].map(str::to_owned).to_vec(),
            owner: self.owner.to_owned(),
            schedule: SCHEDULE.to_owned(),
            columns,
            more: more.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ..Card::default()
        }
    }
}

/// The first midnight, UTC, after a moment.
pub(crate) fn next_midnight(at: i64) -> i64 {
    (at.div_euclid(DAY) + 1).saturating_mul(DAY)
}
