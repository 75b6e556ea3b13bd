//! Whose a customer's record or loyalty card is.

use std::collections::{BTreeMap, BTreeSet};

use types::{GoldenId, SourceRef};

/// A person as the identity service tells of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) golden_id: GoldenId,
    pub(crate) merged_into: Option<GoldenId>,
    /// Every record and card of the person; none once merged.
    pub(crate) records: BTreeSet<SourceRef>,
}

/// The person behind each record and card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CustomerLinks(pub(crate) BTreeMap<SourceRef, GoldenId>);

impl CustomerLinks {
    /// Takes over what is told of a person now; what was theirs and is not told of is theirs no more.
    pub(crate) fn apply(&mut self, person: Person) {
        match person.merged_into {
            Some(survivor) => {
                let theirs = self.0.values_mut().filter(|golden_id| **golden_id == person.golden_id);
                theirs.for_each(|golden_id| *golden_id = survivor);
            }
            None => {
                self.0.retain(|source, golden_id| {
                    *golden_id != person.golden_id || person.records.contains(source)
                });
                self.0.extend(person.records.into_iter().map(|source| (source, person.golden_id)));
            }
        }
    }
}
