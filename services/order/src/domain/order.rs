//! One physical purchase: a fold over its sources, so that a source that leaves takes nothing else with it.

use serde::{Deserialize, Serialize};
use types::{Currency, GoldenId, LocationId, OrderUid, SourceRef, Timestamp};

use super::{Channel, Line, Payment, SourceOrder, Status, keys::Keys};

/// Why a record was taken for the same order, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum MatchRule {
    Asserted,
    Reference,
    Payment,
    Content,
}

/// A source's record with what is known about it here.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    pub(crate) record: SourceOrder,
    pub(crate) keys: Keys,
    /// The person behind the record's customer.
    pub(crate) golden_id: Option<GoldenId>,
    /// The order it belongs to; none while it is new.
    pub(crate) order_uid: Option<OrderUid>,
    /// What ties it to the order's other records; none for the origin.
    pub(crate) rule: Option<MatchRule>,
}

impl Sighting {
    pub(crate) fn new(record: SourceOrder, golden_id: Option<GoldenId>) -> Self {
        Self { keys: Keys::of(&record), record, golden_id, order_uid: None, rule: None }
    }

    /// This record in the place of `former`, an earlier state of it.
    pub(crate) fn succeed(mut self, former: &Self) -> Self {
        self.order_uid = former.order_uid;
        self.rule = former.rule;
        self
    }
}

/// A source's part in an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) source: SourceRef,
    pub(crate) origin: bool,
    pub(crate) rule: Option<MatchRule>,
    pub(crate) version: i64,
    pub(crate) line_count: usize,
    pub(crate) total_minor: i64,
}

/// What was bought, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Purchase {
    pub(crate) channel: Channel,
    pub(crate) status: Status,
    pub(crate) currency: Currency,
    pub(crate) lines: Vec<Line>,
    pub(crate) payments: Vec<Payment>,
    /// The origin first.
    pub(crate) sources: Vec<Source>,
}

/// What the sources of an order say together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unified {
    pub(crate) golden_id: Option<GoldenId>,
    pub(crate) location: Option<LocationId>,
    pub(crate) order_time: Timestamp,
    /// None once the order has become a part of another, which has it then.
    pub(crate) purchase: Option<Purchase>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) uid: OrderUid,
    pub(crate) unified: Unified,
    pub(crate) merged_into: Option<OrderUid>,
    /// Counts the order's changes.
    pub(crate) revision: i64,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
}

impl Order {
    pub(crate) fn etag(&self) -> String {
        types::etag(&[self.uid.to_string().as_bytes(), &self.revision.to_le_bytes()])
    }

    pub(crate) fn sources(&self) -> &[Source] {
        self.unified.purchase.as_ref().map_or(&[], |purchase| &purchase.sources)
    }

    /// When a change of `orders` that happens now happened: after all that was told of them, whatever the clock does, so
    /// that of two orders with the same record the newer one has it.
    pub(crate) fn next_update<'o>(orders: impl Iterator<Item = &'o Self>, now: Timestamp) -> Timestamp {
        let last = orders.map(|order| order.update_time.micros()).max();
        last.map_or(now, |last| now.max(Timestamp::from_micros(last + 1)))
    }
}

/// Folds the records of one order; none if there are none.
pub(crate) fn unify<'s>(sightings: impl IntoIterator<Item = &'s Sighting>) -> Option<Unified> {
    let mut sightings: Vec<_> = sightings.into_iter().collect();
    sightings.sort_by_key(|sighting| sighting.record.origin_rank());
    let origin = &sightings.first()?.record;
    let source = |(index, sighting): (usize, &&Sighting)| Source {
        source: sighting.record.source.clone(),
        origin: index == 0,
        rule: sighting.rule,
        version: sighting.record.version,
        line_count: sighting.record.lines.len(),
        total_minor: sighting.record.total_minor(),
    };
    let purchase = Purchase {
        channel: origin.channel,
        status: sightings.iter().map(|sighting| sighting.record.status).max()?,
        currency: origin.currency,
        lines: origin.lines.clone(),
        payments: payments(sightings.iter().map(|sighting| &sighting.record)),
        sources: sightings.iter().enumerate().map(source).collect(),
    };
    Some(Unified {
        golden_id: sightings.iter().find_map(|sighting| sighting.golden_id),
        location: sightings.iter().find_map(|sighting| sighting.record.location.clone()),
        order_time: origin.order_time,
        purchase: Some(purchase),
    })
}

/// The payments of all records. Two records tell of one payment if they name the same reference, or if one of them
/// names none and the amount is the same.
fn payments<'r>(records: impl Iterator<Item = &'r SourceOrder>) -> Vec<Payment> {
    let mut payments: Vec<Payment> = Vec::new();
    for record in records {
        // Payments of one record are never the same payment.
        let told_by_others = payments.len();
        for payment in &record.payments {
            let known = payments[..told_by_others].iter_mut().find(|known| {
                match (&known.psp_ref, &payment.psp_ref) {
                    (Some(known), Some(other)) => known == other,
                    _ => known.amount_minor == payment.amount_minor,
                }
            });
            match known {
                Some(known) => {
                    known.psp_ref = known.psp_ref.take().or_else(|| payment.psp_ref.clone());
                    known.auth_code = known.auth_code.take().or_else(|| payment.auth_code.clone());
                }
                None => payments.push(payment.clone()),
            }
        }
    }
    payments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_orders_is_told_as_newer_than_they_are() {
        let order = |update_time| Order {
            uid: OrderUid::generate(),
            unified: Unified { golden_id: None, location: None, order_time: update_time, purchase: None },
            merged_into: None,
            revision: 1,
            create_time: update_time,
            update_time,
        };
        let orders = [order(Timestamp::from_micros(5)), order(Timestamp::from_micros(3))];
        let next = |now| Order::next_update(orders.iter(), Timestamp::from_micros(now)).micros();
        assert_eq!((next(9), next(5), next(1)), (9, 6, 6));
        assert_eq!(Order::next_update([].iter(), Timestamp::from_micros(1)).micros(), 1);
    }
}
