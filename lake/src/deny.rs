//! What must not be in the lake any more: the keys of subjects that were erased, as salted digests.
//!
//! The list is in the lake itself and is written before the first row goes. Whatever is written later is held against
//! it, so that events that come again, or a run that read too early, bring nobody back.

mod field;
mod record;
mod rows;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::{filter_record_batch, not},
    error::ArrowError,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::table::Change;
use field::{About, Field};
pub(crate) use record::COLUMNS;
use record::{Record, Shape};
pub(crate) use text::{SHORTEST, is_qualified, speaks_for_itself, spellings};

/// Where the list is, below the lake's root.
pub(crate) const FILE: &str = "_meta/denylist.json";
/// Bytes of the blocks that SHA-256 works on.
const BLOCK: usize = 64;

type Hash = [u8; 32];

/// Keys of subjects that were erased.
#[derive(Clone, Default)]
pub(crate) struct Denied {
    /// As it is written down; empty as long as nobody was erased.
    pub(crate) text: Vec<u8>,
    salt: Hash,
    /// Grows with every erasure: a table that was opened before it must be opened anew.
    revision: u64,
    keys: BTreeSet<Hash>,
    /// Words for persons in the names of fields, beside those that are always known.
    persons: Vec<String>,
    /// Of records, also of those that do not say so themselves.
    subject_keys: SubjectKeys,
    hmac: Hmac,
}

/// Templates of the keys by which records name persons, by `<system>/<entity>`.
pub(crate) type SubjectKeys = BTreeMap<String, BTreeSet<String>>;

impl fmt::Debug for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys, revision {}", self.keys.len(), self.revision)
    }
}

/// The list as it is written down.
#[derive(Serialize, Deserialize)]
struct List {
    salt: String,
    revision: u64,
    keys: Vec<String>,
    #[serde(default)]
    persons: Vec<String>,
    #[serde(default)]
    subject_keys: SubjectKeys,
}

impl Denied {
    /// Reads a list; none if it is no list.
    pub(crate) fn parse(text: Vec<u8>) -> Option<Self> {
        let List { salt, revision, keys, persons, subject_keys } = serde_json::from_slice(&text).ok()?;
        let hash = |text: &String| hex::decode(text).ok()?.try_into().ok();
        let salt = hash(&salt)?;
        let keys = keys.iter().map(hash).collect::<Option<_>>()?;
        Some(Self { text, salt, revision, keys, persons, subject_keys, hmac: Hmac::new(&salt) })
    }

    /// The same, with more words for persons: they are written down with the next keys.
    pub(crate) fn naming(mut self, persons: &[String]) -> Self {
        self.persons.extend(persons.iter().flat_map(|person| field::words(person)));
        self.persons.sort_unstable();
        self.persons.dedup();
        self
    }

    /// The same, with more templates of keys by which records name persons: they are written down with the next keys.
    pub(crate) fn finding(mut self, subject_keys: SubjectKeys) -> Self {
        for (entity, keys) in subject_keys {
            self.subject_keys.entry(entity).or_default().extend(keys);
        }
        self
    }

    /// The list with more keys and of the next revision, to be written down.
    pub(crate) fn with<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Self {
        let salt = if self.text.is_empty() { rand::random() } else { self.salt };
        let hmac = Hmac::new(&salt);
        let spelled = keys.into_iter().flat_map(|key| spellings(key).collect::<Vec<_>>());
        let keys = self.keys.iter().copied().chain(spelled.map(|key| hmac.of(&key))).collect();
        let mut denied =
            Self { text: Vec::new(), salt, revision: self.revision + 1, keys, hmac, ..self.clone() };
        let list = List {
            salt: hex::encode(denied.salt),
            revision: denied.revision,
            keys: denied.keys.iter().map(hex::encode).collect(),
            persons: denied.persons.clone(),
            subject_keys: denied.subject_keys.clone(),
        };
        denied.text = serde_json::to_vec_pretty(&list).unwrap_or_default();
        denied
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// What stands for a text where the text itself must not be.
    pub(crate) fn digest(&self, text: &str) -> String {
        hex::encode(self.hmac.of(text))
    }

    /// Whether a text, of which nothing else is known, holds one of the keys.
    pub(crate) fn holds(&self, text: &str) -> bool {
        self.is_in(text, self.field())
    }

    /// A field of which nothing is known.
    fn field(&self) -> Field<'_> {
        Field { persons: &self.persons, ..Field::default() }
    }

    /// Whether the text of a field holds one of the keys.
    fn is_in(&self, text: &str, field: Field<'_>) -> bool {
        !self.keys.is_empty() && text::any(text, field, &mut |part| self.is_key(part))
    }

    /// Whether a record holds one, as its source wrote it.
    fn is_in_record(&self, record: &Record<'_>, shape: &Shape<'_>) -> bool {
        let mut named = shape.keys.iter().flat_map(|template| template.keys(record, shape));
        let system = shape.record.system;
        named.any(|key| {
            self.is_key(&format!("{system}/{key}")) || spellings(&key).any(|key| self.is_key(&key))
        }) || text::any_of_record(record, shape, &mut |part| self.is_key(part))
    }

    fn is_key(&self, text: &str) -> bool {
        self.keys.contains(&self.hmac.of(text))
    }

    /// Which rows hold one of the keys, in any text of any column.
    pub(crate) fn rows(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        Ok(BooleanArray::from(match self.keys.is_empty() {
            true => vec![false; batch.num_rows()],
            false => rows::held(self, batch)?,
        }))
    }

    /// By field, how many landed records that hold no key hold one of `values`, where nobody says whom it names.
    pub(crate) fn unclear(
        &self,
        batch: RecordBatch,
        values: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, u64>, ArrowError> {
        let (rows, _) = self.without(batch)?;
        let mut unclear = BTreeMap::new();
        record::each(self, &rows, |_, shape, record| {
            for field in record.unclear(shape, values) {
                *unclear.entry(field).or_default() += 1;
            }
        });
        Ok(unclear)
    }

    /// A change without the rows that hold a key, and how many those were.
    pub(crate) fn admit(&self, change: Change) -> Result<(Change, usize), ArrowError> {
        let mut refused = 0;
        let mut admitted = |rows: RecordBatch| {
            let (rows, held) = self.without(rows)?;
            refused += held;
            Ok::<_, ArrowError>(rows)
        };
        let change = match change {
            Change::Append(rows) => {
                Change::Append(rows.into_iter().map(&mut admitted).collect::<Result<_, _>>()?)
            }
            Change::Upsert { rows, stale, newer } => Change::Upsert { rows: admitted(rows)?, stale, newer },
            Change::Record(rows) => Change::Record(admitted(rows)?),
        };
        Ok((change, refused))
    }

    /// Rows without what only ties them to a key, and would do without.
    pub(crate) fn severed(&self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        if self.keys.is_empty() { Ok(rows) } else { rows::severed(self, rows) }
    }

    /// Rows without those that hold a key once they are severed, and how many those were.
    pub(crate) fn without(&self, rows: RecordBatch) -> Result<(RecordBatch, usize), ArrowError> {
        let rows = self.severed(rows)?;
        let held = self.rows(&rows)?;
        match held.true_count() {
            0 => Ok((rows, 0)),
            count => Ok((filter_record_batch(&rows, &not(&held)?)?, count)),
        }
    }
}

/// HMAC-SHA256, begun with the salt once.
#[derive(Clone, Default)]
struct Hmac {
    inner: Sha256,
    outer: Sha256,
}

impl Hmac {
    fn new(salt: &Hash) -> Self {
        let begun = |pad: u8| {
            let mut block = [pad; BLOCK];
            block.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
            Sha256::new_with_prefix(block)
        };
        Self { inner: begun(0x36), outer: begun(0x5c) }
    }

    fn of(&self, text: &str) -> Hash {
        let inner = self.inner.clone().chain_update(text).finalize();
        self.outer.clone().chain_update(inner).finalize().into()
    }
}

#[cfg(test)]
mod tests;
