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
    i64::try_from(purchases.len()).ok()
}

pub(super) fn lines(purchases: &[Purchase]) -> Option<i64> {
    sum(purchases, |purchase| purchase.lines)
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
    in_one_currency(purchases)?.iter().map(|purchase| purchase.amount_minor).max()
}

pub(super) fn locations(purchases: &[Purchase]) -> Option<i64> {
    distinct(purchases.iter().map(|purchase| purchase.location))
}

pub(super) fn customers(purchases: &[Purchase]) -> Option<i64> {
    distinct(purchases.iter().filter_map(|purchase| purchase.customer))
}

pub(super) fn days(purchases: &[Purchase]) -> Option<i64> {
    // They are in the order of time.
    let same = |pair: &&[Purchase]| pair[0].at.div_euclid(DAY) == pair[1].at.div_euclid(DAY);
    i64::try_from(purchases.len() - purchases.windows(2).filter(same).count()).ok()
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
    purchases.first().map(|purchase| purchase.at)
}

pub(super) fn last(purchases: &[Purchase]) -> Option<i64> {
    purchases.last().map(|purchase| purchase.at)
}

/// The purchases, if they add up.
pub(super) fn in_one_currency(purchases: &[Purchase]) -> Option<&[Purchase]> {
    purchases.windows(2).all(|pair| pair[0].currency == pair[1].currency).then_some(purchases)
}

fn on(purchases: &[Purchase], channel: Channel) -> Option<i64> {
    i64::try_from(purchases.iter().filter(|purchase| purchase.channel == channel).count()).ok()
}

fn distinct(names: impl Iterator<Item = u32>) -> Option<i64> {
    i64::try_from(names.collect::<BTreeSet<_>>().len()).ok()
}

fn sum(purchases: &[Purchase], of: impl Fn(&Purchase) -> i64) -> Option<i64> {
    purchases.iter().map(of).try_fold(0_i64, i64::checked_add)
}
