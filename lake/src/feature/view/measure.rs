//! What is measured over windows of purchases.

use std::collections::BTreeSet;

use super::{DAY, Feature, HOUR, Past, Unit, Value};
use crate::feature::fact::{Channel, Purchase};

/// A measure that several windows have.
pub(super) struct Measure {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) doc: &'static str,
    pub(super) reads: &'static [&'static str],
    pub(super) value: fn(&[Purchase]) -> Option<i64>,
}

impl Measure {
    /// The feature `<name>_<window>`.
    pub(super) fn over(&self, window: i64) -> Feature {
        let (number, unit, words) = if window % DAY == 0 && window != DAY {
            (window / DAY, "d", "days")
        } else {
            (window / HOUR, "h", "hours")
        };
        Feature {
            name: format!("{}_{number}{unit}", self.name),
            doc: format!("{} in the {number} {words} before.", self.doc),
            window: Some(window),
            ..self.ever()
        }
    }

    /// The feature `<name>`, over all there is.
    pub(super) fn ever(&self) -> Feature {
        Feature {
            name: self.name.to_owned(),
            unit: self.unit,
            doc: format!("{} so far.", self.doc),
            window: None,
            reads: self.reads,
            value: Value::Over(self.value),
        }
    }
}

/// A feature that no window cuts.
pub(super) fn feature(
    name: &str,
    unit: Unit,
    doc: &str,
    reads: &'static [&'static str],
    value: fn(&Past<'_>) -> Option<i64>,
) -> Feature {
    let (name, doc) = (name.to_owned(), doc.to_owned());
    Feature { name, unit, doc, window: None, reads, value: Value::Of(value) }
}

pub(super) fn count(purchases: &[Purchase]) -> Option<i64> {
    i64::try_from(bought(purchases).count()).ok()
}

pub(super) fn lines(purchases: &[Purchase]) -> Option<i64> {
    sum(bought(purchases), |purchase| purchase.lines)
}

pub(super) fn units(purchases: &[Purchase]) -> Option<i64> {
    sum(purchases, |purchase| purchase.units)
}

/// Missing where currencies mix, as every sum of money.
pub(super) fn amount(purchases: &[Purchase]) -> Option<i64> {
    sum(in_one_currency(purchases)?, |purchase| purchase.amount_minor)
}

pub(super) fn discount(purchases: &[Purchase]) -> Option<i64> {
    sum(in_one_currency(purchases)?, |purchase| purchase.discount_minor)
}

pub(super) fn largest(purchases: &[Purchase]) -> Option<i64> {
    bought(in_one_currency(purchases)?).map(|purchase| purchase.amount_minor).max()
}

pub(super) fn locations(purchases: &[Purchase]) -> Option<i64> {
    distinct(bought(purchases).map(|purchase| purchase.location))
}

pub(super) fn customers(purchases: &[Purchase]) -> Option<i64> {
    distinct(bought(purchases).filter_map(|purchase| purchase.customer))
}

pub(super) fn days(purchases: &[Purchase]) -> Option<i64> {
    let mut days: Vec<_> = bought(purchases).map(|purchase| purchase.at.div_euclid(DAY)).collect();
    // They are in the order of time.
    days.dedup();
    i64::try_from(days.len()).ok()
}

pub(super) fn on_web(purchases: &[Purchase]) -> Option<i64> {
    on(purchases, Channel::Web)
}

pub(super) fn on_marketplace(purchases: &[Purchase]) -> Option<i64> {
    on(purchases, Channel::Marketplace)
}

pub(super) fn in_stores(purchases: &[Purchase]) -> Option<i64> {
    on(purchases, Channel::Pos)
}

pub(super) fn first(purchases: &[Purchase]) -> Option<i64> {
    bought(purchases).next().map(|purchase| purchase.at)
}

pub(super) fn last(purchases: &[Purchase]) -> Option<i64> {
    bought(purchases).next_back().map(|purchase| purchase.at)
}

/// The purchases that are no returns.
pub(super) fn bought(purchases: &[Purchase]) -> impl DoubleEndedIterator<Item = &Purchase> {
    purchases.iter().filter(|purchase| !purchase.is_return())
}

/// The purchases, if they add up.
pub(super) fn in_one_currency(purchases: &[Purchase]) -> Option<&[Purchase]> {
    purchases.windows(2).all(|pair| pair[0].currency == pair[1].currency).then_some(purchases)
}

fn on(purchases: &[Purchase], channel: Channel) -> Option<i64> {
    i64::try_from(bought(purchases).filter(|purchase| purchase.channel == channel).count()).ok()
}

fn distinct(names: impl Iterator<Item = u32>) -> Option<i64> {
    i64::try_from(names.collect::<BTreeSet<_>>().len()).ok()
}

fn sum<'a>(
    purchases: impl IntoIterator<Item = &'a Purchase>,
    of: impl Fn(&'a Purchase) -> i64,
) -> Option<i64> {
    purchases.into_iter().map(of).try_fold(0_i64, i64::checked_add)
}
