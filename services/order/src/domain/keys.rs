//! Digests by which records that may be one order find each other, among millions, by an index.

use sha2::{Digest, Sha256};
use types::SourceRef;

use super::SourceOrder;

/// How far apart two systems' clocks may be for their records to be one order by content alone.
pub(super) const CONTENT_WINDOW_MICROS: i64 = 15 * 60 * 1_000_000;

/// What a record may share with others of the same order. Stored, so their making must never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    own: i64,
    named: Vec<i64>,
    payments: Vec<i64>,
    content: Option<Content>,
}

/// What was bought, in what currency, for how much; and when, in units of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    digest: [u8; 32],
    window: i64,
}

impl Content {
    /// Records of one content are within the window of each other only if their windows are equal or neighbours.
    fn key(&self, distance: i64) -> i64 {
        first(&self.digest).wrapping_add(self.window).wrapping_add(distance)
    }
}

impl Keys {
    pub(crate) fn of(record: &SourceOrder) -> Self {
        Self {
            own: source(&record.source),
            named: record.references.iter().map(source).collect(),
            payments: record.psp_refs().map(|psp_ref| digest(&["payment", psp_ref])).collect(),
            content: content(record),
        }
    }

    /// Where others find the record. Its own name is not among them: that is looked up by itself.
    pub(crate) fn registered(&self) -> impl Iterator<Item = i64> {
        let content = self.content.iter().map(|content| content.key(0));
        self.named.iter().chain(&self.payments).copied().chain(content)
    }

    /// Where the record finds others.
    pub(crate) fn probes(&self) -> impl Iterator<Item = i64> {
        let content =
            self.content.iter().flat_map(|content| [-1, 0, 1].map(|distance| content.key(distance)));
        self.named.iter().chain(&self.payments).copied().chain([self.own]).chain(content)
    }

    /// All keys that can be equal to another record's probes, when both records are at hand.
    pub(super) fn all(&self) -> impl Iterator<Item = i64> {
        self.registered().chain([self.own])
    }

    pub(super) fn same_content(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            (Some(content), Some(other)) => content.digest == other.digest,
            _ => false,
        }
    }
}

/// None where there is no content.
fn content(record: &SourceOrder) -> Option<Content> {
    if record.lines.is_empty() {
        return None;
    }
    let mut goods: Vec<_> = record.lines.iter().map(|line| (line.sku.as_str(), line.quantity)).collect();
    goods.sort_unstable();
    let mut digest = Sha256::new();
    digest.update(record.currency.to_string());
    digest.update(record.total_minor().to_le_bytes());
    for (sku, quantity) in goods {
        digest.update(sku);
        digest.update([0]);
        digest.update(quantity.to_le_bytes());
    }
    let window = record.order_time.micros().div_euclid(CONTENT_WINDOW_MICROS);
    Some(Content { digest: digest.finalize().into(), window })
}

fn source(source: &SourceRef) -> i64 {
    digest(&["source", source.system.as_str(), &source.id])
}

fn digest(parts: &[&str]) -> i64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
        digest.update([0]);
    }
    first(&digest.finalize().into())
}

fn first(digest: &[u8; 32]) -> i64 {
    digest.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}
