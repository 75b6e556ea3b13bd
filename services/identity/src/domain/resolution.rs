//! Which records are of one person, and which golden id stays with whom.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use types::{GoldenId, SourceRef, Timestamp};

use super::Key;

/// A source record as resolution sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) source: SourceRef,
    /// When the source first wrote the record.
    pub(crate) first_time: Timestamp,
    /// Whose it was so far.
    pub(crate) golden_id: Option<GoldenId>,
    /// When it became that person's; of no meaning without one.
    pub(crate) link_time: Timestamp,
    pub(crate) keys: BTreeSet<Key>,
}

impl Node {
    fn age(&self) -> (Timestamp, &SourceRef) {
        (self.first_time, &self.source)
    }
}

/// One person of a resolution.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Person<'n> {
    /// The golden id that stays; none if the person needs a new one.
    pub(crate) golden_id: Option<GoldenId>,
    /// Golden ids that become a part of it.
    pub(crate) absorbed: Vec<GoldenId>,
    /// The person's records, oldest first.
    pub(crate) members: Vec<&'n Node>,
}

/// Whether so many records share a key that it is nobody's own.
pub(crate) fn is_generic(holders: usize, max_records_per_key: usize) -> bool {
    holders > max_records_per_key
}

/// Parts the records into persons: those that a key joins which is not `generic`, or an operator's word, directly or
/// through others. Neither the order of the records nor that of the links matters.
pub(crate) fn resolve<'n>(
    nodes: &'n [Node],
    must_links: &[(SourceRef, SourceRef)],
    generic: &BTreeSet<Key>,
) -> Vec<Vec<&'n Node>> {
    let mut forest = Forest::new(nodes.len());
    let mut first_holder = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for key in node.keys.difference(generic) {
            let holder = *first_holder.entry(key).or_insert(index);
            forest.join(holder, index);
        }
    }
    let places: BTreeMap<_, _> =
        nodes.iter().enumerate().map(|(index, node)| (&node.source, index)).collect();
    for (source, other) in must_links {
        if let (Some(source), Some(other)) = (places.get(source), places.get(other)) {
            forest.join(*source, *other);
        }
    }
    let mut parts: BTreeMap<usize, Vec<&Node>> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        parts.entry(forest.root(index)).or_default().push(node);
    }
    let mut parts: Vec<_> = parts.into_values().collect();
    for part in &mut parts {
        part.sort_by(|a, b| a.age().cmp(&b.age()));
    }
    parts.sort_by(|a, b| a[0].age().cmp(&b[0].age()));
    parts
}

/// Disjoint sets of indices.
struct Forest(Vec<usize>);

impl Forest {
    fn new(size: usize) -> Self {
        Self((0..size).collect())
    }

    fn root(&mut self, mut index: usize) -> usize {
        while self.0[index] != index {
            self.0[index] = self.0[self.0[index]];
            index = self.0[index];
        }
        index
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

/// Decides which golden id stays with which part. An id goes where most of its records are (then to the part with
/// the oldest record); of several ids that meet in one part the oldest stays. `created` tells when each was made.
pub(crate) fn assign<'n>(
    parts: Vec<Vec<&'n Node>>,
    created: &BTreeMap<GoldenId, Timestamp>,
) -> Vec<Person<'n>> {
    let mut heirs: BTreeMap<GoldenId, (usize, Reverse<usize>)> = BTreeMap::new();
    for (index, part) in parts.iter().enumerate() {
        let mut shares: BTreeMap<GoldenId, usize> = BTreeMap::new();
        for golden_id in part.iter().filter_map(|node| node.golden_id) {
            *shares.entry(golden_id).or_default() += 1;
        }
        for (golden_id, share) in shares {
            // Parts come oldest first, so that of two equal shares the smaller index is the older part's.
            let claim = (share, Reverse(index));
            heirs.entry(golden_id).and_modify(|heir| *heir = claim.max(*heir)).or_insert(claim);
        }
    }
    let mut ids: BTreeMap<usize, BTreeSet<(Option<Timestamp>, GoldenId)>> = BTreeMap::new();
    for (golden_id, (_, Reverse(index))) in heirs {
        ids.entry(index).or_default().insert((created.get(&golden_id).copied(), golden_id));
    }
    parts
        .into_iter()
        .enumerate()
        .map(|(index, members)| {
            let mut ids = ids.remove(&index).unwrap_or_default().into_iter().map(|(_, golden_id)| golden_id);
            Person { golden_id: ids.next(), absorbed: ids.collect(), members }
        })
        .collect()
}

#[cfg(test)]
mod tests;
