//! Which order each group of records is: order uids outlive the coming and going of records.

use std::collections::{BTreeMap, BTreeSet};

use types::{OrderUid, SourceRef};

use super::{MatchRule, Sighting, Verdicts, matching::partition};

/// An operator's choice: this order stays, and it is where this record is.
#[derive(Debug, Clone)]
pub(crate) struct Anchor {
    pub(crate) order_uid: OrderUid,
    pub(crate) source: SourceRef,
}

/// The records of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    /// None for an order that did not exist before.
    pub(crate) order_uid: Option<OrderUid>,
    /// Orders that have become a part of this one.
    pub(crate) absorbed: Vec<OrderUid>,
    /// Indices into the sightings, with what ties each record to the others.
    pub(crate) members: Vec<(usize, Option<MatchRule>)>,
}

/// Parts `sightings` (sorted by source) into orders. An order goes where its origin goes; of several that meet, the
/// oldest stays.
pub(crate) fn settle(sightings: &[Sighting], verdicts: &Verdicts, anchor: Option<&Anchor>) -> Vec<Settled> {
    let groups = partition(sightings, verdicts);
    let mut origins = BTreeMap::new();
    for (index, group) in groups.iter().enumerate() {
        for &(at, _) in &group.members {
            let record = &sightings[at].record;
            if let Some(order_uid) = sightings[at].order_uid {
                let is_anchor = anchor
                    .is_some_and(|anchor| anchor.order_uid == order_uid && anchor.source == record.source);
                let rank = (!is_anchor, record.origin_rank());
                let origin = origins.entry(order_uid).or_insert((rank, index));
                *origin = (*origin).min((rank, index));
            }
        }
    }
    let mut held = vec![BTreeSet::new(); groups.len()];
    for (order_uid, (_, group)) in origins {
        held[group].insert(order_uid);
    }
    groups.into_iter().zip(held).map(|(group, held)| settled(group.members, held, anchor)).collect()
}

fn settled(
    members: Vec<(usize, Option<MatchRule>)>,
    held: BTreeSet<OrderUid>,
    anchor: Option<&Anchor>,
) -> Settled {
    let anchored = anchor.map(|anchor| anchor.order_uid).filter(|order_uid| held.contains(order_uid));
    let order_uid = anchored.or_else(|| held.first().copied());
    let absorbed = held.into_iter().filter(|held| Some(*held) != order_uid).collect();
    Settled { order_uid, absorbed, members }
}
