//! Which records are one order. Decided for all records that could be at once, strongest evidence first, so that it
//! does not matter which of them came first.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use types::{SourceRef, System};

use super::{MatchRule, Sighting, keys::CONTENT_WINDOW_MICROS};

/// Operators' words on pairs of records, each in both directions: one order, or never.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdicts(BTreeMap<SourceRef, BTreeMap<SourceRef, bool>>);

impl Verdicts {
    pub(crate) fn insert(&mut self, source: SourceRef, other: SourceRef, together: bool) {
        self.0.entry(source.clone()).or_default().insert(other.clone(), together);
        self.0.entry(other).or_default().insert(source, together);
    }

    /// The records that are asserted to be one order with `source`.
    pub(crate) fn together_with(&self, source: &SourceRef) -> impl Iterator<Item = &SourceRef> {
        self.0.get(source).into_iter().flatten().filter(|&(_, &together)| together).map(|(other, _)| other)
    }

    fn on(&self, source: &SourceRef, other: &SourceRef) -> Option<bool> {
        self.0.get(source)?.get(other).copied()
    }
}

/// Evidence that two records are one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Evidence {
    rule: MatchRule,
    apart_micros: u64,
    one: usize,
    other: usize,
}

/// Records taken for one order, each with the rule that tied it to those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Indices into the sightings; the origin first.
    pub(super) members: Vec<(usize, Option<MatchRule>)>,
}

/// Which of `found` could be one order with any of `known`.
pub(crate) fn neighbours(known: &[&Sighting], found: Vec<Sighting>, verdicts: &Verdicts) -> Vec<Sighting> {
    let index = index(known.iter().copied());
    let is_neighbour = |sighting: &Sighting| {
        let mut asserted = verdicts.together_with(&sighting.record.source);
        let mut near = sighting.keys.probes().filter_map(|probe| index.get(&probe)).flatten();
        near.any(|&at| rule(known[at], sighting, verdicts).is_some())
            || asserted.any(|other| known.iter().any(|sighting| sighting.record.source == *other))
    };
    found.into_iter().filter(is_neighbour).collect()
}

/// Parts records into orders. The sightings are in the order of their sources, and complete: no other record could
/// be one order with any of them.
pub(super) fn partition(sightings: &[Sighting], verdicts: &Verdicts) -> Vec<Group> {
    let evidence = evidence(sightings, verdicts);
    let (certain, by_content) = evidence.split_at(evidence.partition_point(|e| e.rule < MatchRule::Content));
    let mut clusters = Clusters::new(sightings, verdicts);
    for evidence in certain {
        clusters.unite(evidence);
    }
    let mut undecidable = HashSet::new();
    for equally_near in by_content.chunk_by(|one, other| one.apart_micros == other.apart_micros) {
        clusters.unite_unique(equally_near, &mut undecidable);
    }
    clusters.into_groups()
}

fn index<'s>(sightings: impl IntoIterator<Item = &'s Sighting>) -> HashMap<i64, Vec<usize>> {
    let mut index: HashMap<i64, Vec<usize>> = HashMap::new();
    for (at, sighting) in sightings.into_iter().enumerate() {
        for key in sighting.keys.all() {
            index.entry(key).or_default().push(at);
        }
    }
    index
}

/// All evidence, strongest first and nearest in time first.
fn evidence(sightings: &[Sighting], verdicts: &Verdicts) -> Vec<Evidence> {
    let index = index(sightings);
    let mut evidence = BTreeSet::new();
    let mut weigh = |one: usize, other: usize| {
        if let Some(rule) = rule(&sightings[one], &sightings[other], verdicts) {
            let (one, other) = (one.min(other), one.max(other));
            evidence.insert(Evidence {
                rule,
                apart_micros: apart(&sightings[one], &sightings[other]),
                one,
                other,
            });
        }
    };
    for (at, sighting) in sightings.iter().enumerate() {
        let near = sighting.keys.probes().filter_map(|probe| index.get(&probe)).flatten();
        near.filter(|&&other| other != at).for_each(|&other| weigh(at, other));
        for other in verdicts.together_with(&sighting.record.source) {
            if let Ok(other) = sightings.binary_search_by_key(&other, |sighting| &sighting.record.source) {
                weigh(at, other);
            }
        }
    }
    evidence.into_iter().collect()
}

fn apart(one: &Sighting, other: &Sighting) -> u64 {
    one.record.order_time.micros().abs_diff(other.record.order_time.micros())
}

/// The strongest rule by which two records are one order.
fn rule(one: &Sighting, other: &Sighting, verdicts: &Verdicts) -> Option<MatchRule> {
    let (record, second) = (&one.record, &other.record);
    let names = |source: &SourceRef| *source == second.source || second.references.contains(source);
    if record.source == second.source {
        None
    } else if verdicts.on(&record.source, &second.source) == Some(true) {
        Some(MatchRule::Asserted)
    } else if names(&record.source) || record.references.iter().any(names) {
        Some(MatchRule::Reference)
    } else if record.source.system == second.source.system {
        None
    } else if record.psp_refs().any(|psp_ref| second.psp_refs().any(|other| other == psp_ref)) {
        Some(MatchRule::Payment)
    } else if apart(one, other) <= CONTENT_WINDOW_MICROS.unsigned_abs() && same_content(one, other) {
        Some(MatchRule::Content)
    } else {
        None
    }
}

fn same_content(one: &Sighting, other: &Sighting) -> bool {
    let same_place = match (&one.record.location, &other.record.location) {
        (Some(place), Some(other)) => place == other,
        _ => true,
    };
    same_place && one.keys.same_content(&other.keys) && same_customer(one, other)
}

/// True unless the records speak of two persons. A record without any customer must make up for it: several goods
/// sold at one place are told from any other, while everybody buys a bottle of milk.
fn same_customer(one: &Sighting, other: &Sighting) -> bool {
    match (one.golden_id, other.golden_id) {
        (Some(person), Some(other)) => person == other,
        _ => match (&one.record.customer, &other.record.customer) {
            (Some(customer), Some(other)) => customer == other,
            _ => {
                one.record.lines.len() > 1 && one.record.location.is_some() && other.record.location.is_some()
            }
        },
    }
}

/// Records on their way to groups.
struct Clusters<'s> {
    sightings: &'s [Sighting],
    verdicts: &'s Verdicts,
    /// Which cluster each record is in.
    cluster: Vec<usize>,
    members: Vec<Vec<usize>>,
    /// The evidence that united, from either side.
    ties: HashMap<usize, Vec<(usize, MatchRule)>>,
}

impl<'s> Clusters<'s> {
    fn new(sightings: &'s [Sighting], verdicts: &'s Verdicts) -> Self {
        let members = (0..sightings.len()).map(|at| vec![at]).collect();
        Self { sightings, verdicts, cluster: (0..sightings.len()).collect(), members, ties: HashMap::new() }
    }

    fn may_unite(&self, evidence: &Evidence) -> bool {
        let (one, other) = (self.cluster[evidence.one], self.cluster[evidence.other]);
        let fit = |one: &Sighting, other: &Sighting| {
            let (source, second) = (&one.record.source, &other.record.source);
            self.verdicts.on(source, second) != Some(false)
                && (evidence.rule < MatchRule::Payment || source.system != second.system)
                && (evidence.rule < MatchRule::Content || same_customer(one, other))
        };
        let fits_all = |&one: &usize| {
            self.members[other].iter().all(|&other| fit(&self.sightings[one], &self.sightings[other]))
        };
        one != other && self.members[one].iter().all(fits_all)
    }

    fn unite(&mut self, evidence: &Evidence) {
        if !self.may_unite(evidence) {
            return;
        }
        let (one, other) = (self.cluster[evidence.one], self.cluster[evidence.other]);
        let moved = std::mem::take(&mut self.members[other]);
        for &at in &moved {
            self.cluster[at] = one;
        }
        self.members[one].extend(moved);
        self.ties.entry(evidence.one).or_default().push((evidence.other, evidence.rule));
        self.ties.entry(evidence.other).or_default().push((evidence.one, evidence.rule));
    }

    /// Unites by evidence of equal strength, except where a record would have to choose between two records of one
    /// system. Such a record is left alone for good: what is farther away is no better match.
    fn unite_unique(&mut self, evidence: &[Evidence], undecidable: &mut HashSet<usize>) {
        let is_open = |evidence: &&Evidence| {
            !undecidable.contains(&evidence.one)
                && !undecidable.contains(&evidence.other)
                && self.may_unite(evidence)
        };
        let open: Vec<_> = evidence.iter().filter(is_open).collect();
        let mut choices: HashMap<(usize, &System), usize> = HashMap::new();
        for evidence in &open {
            for (chooser, choice) in [(evidence.one, evidence.other), (evidence.other, evidence.one)] {
                *choices.entry((chooser, &self.sightings[choice].record.source.system)).or_default() += 1;
            }
        }
        undecidable
            .extend(choices.into_iter().filter(|(_, count)| *count > 1).map(|((chooser, _), _)| chooser));
        for evidence in open {
            if !undecidable.contains(&evidence.one) && !undecidable.contains(&evidence.other) {
                self.unite(evidence);
            }
        }
    }

    fn into_groups(self) -> Vec<Group> {
        let rank = |at: &usize| self.sightings[*at].record.origin_rank();
        let clusters = self.members.iter().filter_map(|members| members.iter().copied().min_by_key(rank));
        clusters.map(|origin| self.walk(origin)).collect()
    }

    /// The group of `origin`, along what united it.
    fn walk(&self, origin: usize) -> Group {
        let mut members = vec![(origin, None)];
        let mut next = 0;
        while let Some(&(at, _)) = members.get(next) {
            for &(tied, rule) in self.ties.get(&at).into_iter().flatten() {
                if members.iter().all(|&(member, _)| member != tied) {
                    members.push((tied, Some(rule)));
                }
            }
            next += 1;
        }
        Group { members }
    }
}
