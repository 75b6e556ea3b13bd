//! Deciding anew which records are one order, wherever something changed.

use std::collections::{BTreeMap, BTreeSet};

use storage::{Tx, sqlx::AnyConnection};
use types::{OrderUid, SourceRef, Timestamp};

use super::Service;
use crate::{
    Error,
    domain::{Anchor, Order, Sighting, Unified, Verdicts, neighbours, settle, unify},
    event,
};

/// A record of which something changed: its version, its customer's person, or an operator's word on it.
#[derive(Debug)]
pub(super) struct Touched {
    /// None for a new record.
    pub(super) before: Option<Sighting>,
    pub(super) after: Sighting,
}

/// Every record whose order may be another one now.
#[derive(Debug, Default)]
struct Neighbourhood {
    /// As they are stored.
    before: BTreeMap<SourceRef, Sighting>,
    /// As they are from now on, by source.
    after: Vec<Sighting>,
    verdicts: Verdicts,
}

impl Service {
    /// Decides about the touched records and all that could be one order with them, writes what comes of it, and
    /// tells of every order that changed.
    pub(super) async fn reunify(
        &self,
        tx: &mut Tx,
        touched: Vec<Touched>,
        anchor: Option<&Anchor>,
    ) -> Result<(), Error> {
        let Neighbourhood { before, mut after, verdicts } =
            self.neighbourhood(tx.connection()?, touched).await?;
        let order_uids = before.values().filter_map(|sighting| sighting.order_uid).collect();
        let former = self.store.orders(tx.connection()?, &order_uids).await?;
        let former = former.into_iter().map(|order| (order.uid, order)).collect();
        let orders = reassign(&mut after, &verdicts, anchor, former);

        self.save_sightings(tx.connection()?, &before, &after).await?;
        self.store.save_orders(tx.connection()?, &orders).await?;
        let events: Vec<_> = orders.into_iter().map(event::order_changed).collect();
        Ok(self.log.publish(tx, &events).await?)
    }

    /// Follows every tie from the touched records, as they were and as they are, to the last record.
    async fn neighbourhood(
        &self,
        connection: &mut AnyConnection,
        touched: Vec<Touched>,
    ) -> Result<Neighbourhood, Error> {
        let mut seen = Neighbourhood::default();
        for Touched { before, after } in touched {
            seen.after.push(match before {
                Some(before) => {
                    let after = after.succeed(&before);
                    seen.before.insert(before.record.source.clone(), before);
                    after
                }
                None => after,
            });
        }
        let mut known: BTreeSet<_> =
            seen.after.iter().map(|sighting| sighting.record.source.clone()).collect();
        let mut start = 0;
        while start < seen.after.len() {
            let formers = seen.before.values().filter(|_| start == 0);
            let frontier: Vec<_> = seen.after[start..].iter().chain(formers).collect();
            let mut found = self.beside(connection, &frontier, &mut seen.verdicts).await?;
            found.retain(|sighting| known.insert(sighting.record.source.clone()));
            start = seen.after.len();
            seen.before
                .extend(found.iter().map(|sighting| (sighting.record.source.clone(), sighting.clone())));
            seen.after.extend(found);
        }
        seen.after.sort_by(|one, other| one.record.source.cmp(&other.record.source));
        Ok(seen)
    }

    /// The stored records that are, or could be, of one order with any of `frontier`.
    async fn beside(
        &self,
        connection: &mut AnyConnection,
        frontier: &[&Sighting],
        verdicts: &mut Verdicts,
    ) -> Result<Vec<Sighting>, Error> {
        let sources: BTreeSet<_> = frontier.iter().map(|sighting| &sighting.record.source).collect();
        self.store.verdicts(connection, sources.iter().copied(), verdicts).await?;
        let mut digests: Vec<_> = frontier.iter().flat_map(|sighting| sighting.keys.probes()).collect();
        digests.sort_unstable();
        digests.dedup();
        let mut others = self.store.sharing(connection, &digests).await?;
        others.extend(frontier.iter().flat_map(|sighting| &sighting.record.references).cloned());
        others.extend(sources.iter().flat_map(|source| verdicts.together_with(source)).cloned());
        others.retain(|other| !sources.contains(other));
        let found = self.store.sightings(connection, &others).await?;

        let order_uids = frontier.iter().filter_map(|sighting| sighting.order_uid).collect();
        let mut beside = self.store.sightings_of_orders(connection, &order_uids).await?;
        beside.extend(neighbours(frontier, found, verdicts));
        Ok(beside)
    }

    async fn save_sightings(
        &self,
        connection: &mut AnyConnection,
        before: &BTreeMap<SourceRef, Sighting>,
        after: &[Sighting],
    ) -> Result<(), Error> {
        let former = |sighting: &Sighting| before.get(&sighting.record.source);
        let place = |sighting: &Sighting| (sighting.record.version, sighting.order_uid, sighting.rule);
        let moved: Vec<_> = after.iter().filter(|now| former(now).map(place) != Some(place(now))).collect();
        self.store.save_sightings(connection, &moved).await?;

        let is_new = |now: &&Sighting| former(now).is_none_or(|former| former.keys != now.keys);
        let rekeyed: Vec<_> = after.iter().filter(is_new).collect();
        let outdated: Vec<_> = rekeyed.iter().filter_map(|now| former(now)).collect();
        self.store.forget_keys(connection, &outdated).await?;
        self.store.register_keys(connection, &rekeyed).await
    }
}

/// Gives every record its order, and returns the orders that are not as they were.
fn reassign(
    sightings: &mut [Sighting],
    verdicts: &Verdicts,
    anchor: Option<&Anchor>,
    mut former: BTreeMap<OrderUid, Order>,
) -> Vec<Order> {
    let now = Order::next_update(former.values(), Timestamp::now());
    let mut changed = Vec::new();
    for settled in settle(sightings, verdicts, anchor) {
        let uid = settled.order_uid.unwrap_or_else(OrderUid::generate);
        for &(at, rule) in &settled.members {
            sightings[at].order_uid = Some(uid);
            sightings[at].rule = rule;
        }
        for absorbed in settled.absorbed.iter().filter_map(|absorbed| former.remove(absorbed)) {
            let unified = Unified { purchase: None, ..absorbed.unified };
            changed.push(Order {
                unified,
                merged_into: Some(uid),
                revision: absorbed.revision + 1,
                update_time: now,
                ..absorbed
            });
        }
        let Some(unified) = unify(settled.members.iter().map(|&(at, _)| &sightings[at])) else { continue };
        changed.extend(match former.remove(&uid) {
            Some(order) if order.unified == unified => None,
            Some(order) => Some(Order { unified, revision: order.revision + 1, update_time: now, ..order }),
            None => Some(Order {
                uid,
                unified,
                merged_into: None,
                revision: 1,
                create_time: now,
                update_time: now,
            }),
        });
    }
    changed
}
