//! Resolves anew the persons that a change may join or part.
//!
//! Between transactions every person is a connected component of all records. A record whose keys change therefore
//! touches only the persons that hold one of its old or new keys: resolving those alone gives what resolving
//! everything would.

use std::collections::{BTreeMap, BTreeSet};

use storage::Tx;
use types::{GoldenId, SourceRef, Timestamp};

use super::Service;
use crate::{
    Error,
    domain::{Identity, Key, Link, Node, SourceRecord, assign, is_generic, resolve},
    event, store,
};

/// What a change may join or part.
#[derive(Debug, Default)]
pub(super) struct Affected {
    /// Persons that may change.
    pub(super) golden_ids: BTreeSet<GoldenId>,
    /// Records that are nobody's yet.
    pub(super) newcomers: Vec<Node>,
    /// Records that say something else than before.
    pub(super) retold: BTreeSet<SourceRef>,
}

/// What a resolution changed.
#[derive(Default)]
struct Outcome {
    standing: BTreeMap<GoldenId, Identity>,
    absorbed: Vec<Identity>,
    /// The links that were made, and those that they replace, by the person whose records they are now.
    linked: BTreeMap<GoldenId, Vec<Link>>,
    unlinked: BTreeMap<GoldenId, Vec<Link>>,
}

impl Outcome {
    /// Makes a record a person's.
    fn link(&mut self, node: &Node, golden_id: GoldenId, now: Timestamp) {
        let link = |golden_id, link_time, unlink_time| Link {
            source: node.source.clone(),
            golden_id,
            link_time,
            unlink_time,
        };
        self.linked.entry(golden_id).or_default().push(link(golden_id, now, None));
        if let Some(former) = node.golden_id {
            self.unlinked.entry(golden_id).or_default().push(link(former, node.link_time, Some(now)));
        }
    }
}

impl Service {
    /// Replaces the keys of the records that changed, and finds whom that affects.
    pub(super) async fn rekey(
        &self,
        tx: &mut Tx,
        before: &BTreeMap<SourceRef, SourceRecord>,
        after: &BTreeMap<SourceRef, SourceRecord>,
    ) -> Result<Affected, Error> {
        let mut affected = Affected::default();
        let mut replaced = BTreeMap::new();
        let mut shifts: BTreeMap<Key, isize> = BTreeMap::new();
        for (source, record) in after.iter().filter(|(source, record)| before.get(*source) != Some(*record)) {
            let known = before.get(source);
            let (old, new) = (known.map(SourceRecord::keys).unwrap_or_default(), record.keys());
            old.difference(&new).for_each(|key| *shifts.entry(key.clone()).or_default() -= 1);
            new.difference(&old).for_each(|key| *shifts.entry(key.clone()).or_default() += 1);
            if known.is_none_or(|known| !known.changes().eq(record.changes())) {
                affected.retold.insert(source.clone());
            }
            match record.golden_id {
                Some(golden_id) => drop(affected.golden_ids.insert(golden_id)),
                None => affected.newcomers.push(Node {
                    source: source.clone(),
                    first_time: record.first_time(),
                    golden_id: None,
                    link_time: Timestamp::default(),
                    keys: new.clone(),
                }),
            }
            if old != new {
                replaced.insert(source.clone(), new);
            }
        }
        store::replace_keys(tx.connection()?, &replaced).await?;
        let linking = self.linking(tx, shifts).await?;
        affected.golden_ids.extend(store::holders(tx.connection()?, &linking).await?);
        Ok(affected)
    }

    /// Those of the keys that link their holders, or did so before their number shifted.
    async fn linking(&self, tx: &mut Tx, shifts: BTreeMap<Key, isize>) -> Result<BTreeSet<Key>, Error> {
        let counts = store::key_counts(tx.connection()?, &shifts.keys().cloned().collect()).await?;
        let limit = self.config.max_records_per_key;
        let links = |(key, shift): (Key, isize)| {
            let after = counts.get(&key).copied().unwrap_or_default();
            let before = after.saturating_add_signed(-shift);
            (!is_generic(after.min(before), limit)).then_some(key)
        };
        Ok(shifts.into_iter().filter_map(links).collect())
    }

    /// Resolves the affected persons' records, writes what changed and publishes it: those who stand first, so that
    /// whoever follows a golden id that was absorbed arrives somewhere.
    pub(super) async fn reconcile(
        &self,
        tx: &mut Tx,
        affected: Affected,
        now: Timestamp,
    ) -> Result<(), Error> {
        let Affected { golden_ids, newcomers, retold } = affected;
        let mut nodes = store::members(tx.connection()?, &golden_ids).await?;
        nodes.extend(newcomers);
        let keys = nodes.iter().flat_map(|node| node.keys.iter().cloned()).collect();
        let counts = store::key_counts(tx.connection()?, &keys).await?;
        let limit = self.config.max_records_per_key;
        let generic =
            counts.into_iter().filter(|(_, count)| is_generic(*count, limit)).map(|(key, _)| key).collect();
        let must_links = store::must_links(tx.connection()?, &golden_ids).await?;
        let known = store::identities(tx.connection()?, &golden_ids).await?;

        let mut outcome = settle(&nodes, &must_links, &generic, known, &retold, now);
        let rows: Vec<_> = outcome.standing.values().chain(&outcome.absorbed).cloned().collect();
        store::put_identities(tx.connection()?, &rows).await?;
        let linked: Vec<_> = outcome.linked.values().flatten().collect();
        store::put_links(tx.connection()?, &linked).await?;
        store::chronicle(tx.connection()?, &mut outcome.standing).await?;
        let Outcome { standing, absorbed, mut linked, mut unlinked } = outcome;
        let told = |identity: Identity| {
            let linked = linked.remove(&identity.golden_id).unwrap_or_default();
            let unlinked = unlinked.remove(&identity.golden_id).unwrap_or_default();
            event::identity_changed(identity, linked, unlinked)
        };
        let events: Vec<_> = standing.into_values().chain(absorbed).map(told).collect();
        Ok(self.log.publish(tx, &events).await?)
    }
}

fn settle(
    nodes: &[Node],
    must_links: &[(SourceRef, SourceRef)],
    generic: &BTreeSet<Key>,
    mut known: BTreeMap<GoldenId, Identity>,
    retold: &BTreeSet<SourceRef>,
    now: Timestamp,
) -> Outcome {
    let created = known.iter().map(|(golden_id, identity)| (*golden_id, identity.create_time)).collect();
    let mut sizes: BTreeMap<GoldenId, usize> = BTreeMap::new();
    nodes
        .iter()
        .filter_map(|node| node.golden_id)
        .for_each(|golden_id| *sizes.entry(golden_id).or_default() += 1);

    let mut outcome = Outcome::default();
    for person in assign(resolve(nodes, must_links, generic), &created) {
        let kept = person.golden_id.and_then(|golden_id| known.remove(&golden_id));
        let mut identity = kept.unwrap_or_else(|| Identity::new(GoldenId::generate(), now));
        let golden_id = identity.golden_id;
        let (stayed, joined): (Vec<&Node>, Vec<_>) =
            person.members.iter().partition(|node| node.golden_id == Some(golden_id));
        let whole = joined.is_empty() && sizes.get(&golden_id) == Some(&stayed.len());
        if whole && !stayed.iter().any(|node| retold.contains(&node.source)) {
            continue;
        }
        for mut absorbed in person.absorbed.iter().filter_map(|absorbed| known.remove(absorbed)) {
            absorbed.merged_into = Some(golden_id);
            absorbed.touch(now);
            outcome.absorbed.push(absorbed);
        }
        joined.iter().for_each(|node| outcome.link(node, golden_id, now));
        identity.touch(now);
        outcome.standing.insert(golden_id, identity);
    }
    outcome
}
