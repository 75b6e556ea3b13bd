//! The rules of stock: what a movement does to it, in whatever order movements become known.

use serde::{Deserialize, Serialize};
use types::{InvalidId, LocationId, Sku, SourceRef, Timestamp, etag};

/// Which stock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StockId {
    /// The location.
    pub location_id: LocationId,
    /// The product.
    pub sku: Sku,
}

impl StockId {
    /// The resource's name.
    pub(crate) fn name(&self) -> String {
        format!("locations/{}/stocks/{}", self.location_id, self.sku)
    }

    /// Reads a resource's name.
    pub(crate) fn from_name(name: &str) -> Result<Self, InvalidId> {
        const FORM: InvalidId = InvalidId::NotName("locations/{location}/stocks/{sku}");
        let (location_id, sku) =
            name.strip_prefix("locations/").and_then(|rest| rest.split_once("/stocks/")).ok_or(FORM)?;
        Ok(Self { location_id: location_id.parse()?, sku: sku.parse()? })
    }
}

/// Why stock changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Count,
    Delivery,
    Sale,
    Adjustment,
}

impl Kind {
    /// Whether a stock that sees it is tracked from then on.
    pub(crate) fn begins_tracking(self) -> bool {
        matches!(self, Self::Count | Self::Delivery)
    }
}

/// Something that happened to a stock, before it is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Movement {
    pub(crate) stock: StockId,
    pub(crate) kind: Kind,
    /// The change; of a count, what was there.
    pub(crate) quantity: i64,
    pub(crate) event_time: Timestamp,
    pub(crate) source: SourceRef,
}

/// A movement in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) sequence: i64,
    pub(crate) movement: Movement,
    pub(crate) record_time: Timestamp,
}

/// What is there. Until it is tracked only the ledger knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stock {
    pub(crate) id: StockId,
    /// A count or a delivery has been seen.
    pub(crate) tracked: bool,
    pub(crate) on_hand: i64,
    pub(crate) last_count_time: Option<Timestamp>,
    pub(crate) ledger_sequence: i64,
    pub(crate) update_time: Timestamp,
}

impl Stock {
    /// A stock that nothing is known of yet.
    pub(crate) fn untouched(id: StockId) -> Self {
        Self {
            id,
            tracked: false,
            on_hand: 0,
            last_count_time: None,
            ledger_sequence: 0,
            update_time: Timestamp::default(),
        }
    }

    pub(crate) fn etag(&self) -> String {
        etag(&[self.id.name().as_bytes(), &self.ledger_sequence.to_le_bytes(), &self.on_hand.to_le_bytes()])
    }

    /// Puts `movement` into the ledger; None where 64 bits cannot hold what is there then. `since` tells what moved
    /// after a given time, by everything in the ledger so far: only a count that is newer than the last one asks.
    pub(crate) fn record(
        &mut self,
        movement: Movement,
        record_time: Timestamp,
        since: impl FnOnce(Timestamp) -> Option<i64>,
    ) -> Option<Entry> {
        let counted_after = self.last_count_time.is_some_and(|counted| movement.event_time <= counted);
        match movement.kind {
            Kind::Count if self.last_count_time.is_some_and(|counted| movement.event_time < counted) => {}
            // Of two counts of one time the later known corrects the earlier.
            Kind::Count => {
                self.on_hand = movement.quantity.checked_add(since(movement.event_time)?)?;
                self.last_count_time = Some(movement.event_time);
            }
            // The later count has seen what happened before it.
            _ if counted_after => {}
            _ => self.on_hand = self.on_hand.checked_add(movement.quantity)?,
        }
        self.tracked |= movement.kind.begins_tracking();
        self.ledger_sequence += 1;
        self.update_time = self.update_time.max(movement.event_time);
        Some(Entry { sequence: self.ledger_sequence, movement, record_time })
    }
}

/// What moved after `time`, counts aside; None where 64 bits cannot hold it.
pub(crate) fn moved_since<'e>(entries: impl IntoIterator<Item = &'e Entry>, time: Timestamp) -> Option<i64> {
    let movements = entries.into_iter().map(|entry| &entry.movement);
    movements
        .filter(|movement| movement.kind != Kind::Count && movement.event_time > time)
        .try_fold(0_i64, |sum, movement| sum.checked_add(movement.quantity))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stock_id() -> StockId {
        StockId::from_name("locations/1/stocks/2").expect("valid")
    }

    fn movement((kind, quantity, at): (Kind, i64, i64)) -> Movement {
        let source = SourceRef::new("stock", "1").expect("valid");
        Movement { stock: stock_id(), kind, quantity, event_time: Timestamp::from_micros(at), source }
    }

    /// The stock after `movements`, in the order in which they became known.
    fn stock(movements: &[(Kind, i64, i64)]) -> Option<Stock> {
        let mut stock = Stock::untouched(stock_id());
        let mut ledger: Vec<Entry> = Vec::new();
        for movement in movements.iter().copied().map(movement) {
            ledger.push(stock.record(movement, Timestamp::default(), |time| moved_since(&ledger, time))?);
        }
        Some(stock)
    }

    #[test]
    fn on_hand_is_the_last_count_and_what_moved_since() {
        use Kind::{Adjustment, Count, Delivery, Sale};
        for (movements, expect) in [
            (vec![(Count, 10, 1), (Sale, -3, 2)], 7),
            (vec![(Count, 10, 5), (Sale, -3, 2)], 10),
            (vec![(Sale, -3, 7), (Count, 10, 5)], 7),
            (vec![(Sale, -3, 2), (Count, 10, 5)], 10),
            (vec![(Delivery, 4, 1), (Sale, -1, 2)], 3),
            (vec![(Sale, -1, 2), (Adjustment, 2, 3), (Delivery, 4, 1)], 5),
            (vec![(Count, 10, 1), (Delivery, 5, 2), (Count, 12, 3), (Adjustment, -1, 4)], 11),
            (vec![(Count, 12, 3), (Count, 10, 1), (Sale, -1, 4)], 11),
            (vec![(Count, 10, 1), (Sale, -1, 1)], 10),
        ] {
            let stock = stock(&movements).expect("small numbers");
            assert_eq!((stock.on_hand, stock.tracked), (expect, true), "{movements:?}");
        }
    }

    #[test]
    fn only_a_count_or_a_delivery_begins_tracking() {
        for (kind, expect) in
            [(Kind::Count, true), (Kind::Delivery, true), (Kind::Sale, false), (Kind::Adjustment, false)]
        {
            assert_eq!(stock(&[(kind, 1, 1)]).map(|stock| stock.tracked), Some(expect), "{kind:?}");
        }
    }

    #[test]
    fn what_64_bits_cannot_hold_is_refused() {
        use Kind::{Count, Delivery, Sale};
        for movements in [
            vec![(Delivery, i64::MAX, 1), (Delivery, 1, 2)],
            vec![(Sale, i64::MIN, 1), (Sale, -1, 2)],
            vec![(Delivery, i64::MAX, 2), (Count, 1, 1)],
        ] {
            assert_eq!(stock(&movements), None, "{movements:?}");
        }
    }

    #[test]
    fn names_round_trip() {
        assert_eq!(stock_id().name(), "locations/1/stocks/2");
        for name in ["", "locations/1", "locations//stocks/2", "locations/1/stocks/"] {
            assert!(StockId::from_name(name).is_err(), "{name}");
        }
    }

    type History = Vec<(Kind, i64, i64)>;

    /// A history as it happened, and as it became known.
    fn history() -> impl Strategy<Value = (History, History)> {
        let movement = prop_oneof![
            (Just(Kind::Count), 0..50_i64),
            (Just(Kind::Delivery), 1..50_i64),
            (Just(Kind::Sale), -50..0_i64),
            (Just(Kind::Adjustment), -9..9_i64),
        ];
        let happened = prop::collection::vec(movement, 1..20).prop_map(|movements| {
            // Times differ, so that no two movements tie.
            let timed = movements.into_iter().zip(0..);
            timed.map(|((kind, quantity), at)| (kind, quantity, at)).collect::<History>()
        });
        happened.prop_flat_map(|happened| (Just(happened.clone()), Just(happened).prop_shuffle()))
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_does_not_matter((happened, known) in history()) {
            prop_assert_eq!(stock(&known), stock(&happened));
        }
    }
}
