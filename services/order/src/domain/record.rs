//! An order as one source system saw it. The short names are those of the stored JSON.

use serde::{Deserialize, Serialize};
use types::{Currency, LocationId, Sku, SourceRef, Timestamp};

/// Where an order was placed. Of records of one moment, the first channel's is the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Channel {
    #[serde(rename = "w")]
    Web,
    #[serde(rename = "m")]
    Marketplace,
    #[serde(rename = "p")]
    Pos,
}

/// How far an order has come. Of several records' states the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Status {
    #[serde(rename = "u")]
    Unknown,
    #[serde(rename = "p")]
    Placed,
    #[serde(rename = "c")]
    Completed,
    #[serde(rename = "x")]
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    #[serde(rename = "s")]
    pub(crate) sku: Sku,
    #[serde(rename = "q")]
    pub(crate) quantity: i64,
    #[serde(rename = "a")]
    pub(crate) amount_minor: i64,
    #[serde(rename = "d")]
    pub(crate) discount_minor: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payment {
    #[serde(rename = "r")]
    pub(crate) psp_ref: Option<String>,
    #[serde(rename = "m")]
    pub(crate) method: String,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) auth_code: Option<String>,
    #[serde(rename = "a")]
    pub(crate) amount_minor: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceOrder {
    #[serde(rename = "i")]
    pub(crate) source: SourceRef,
    #[serde(rename = "v")]
    pub(crate) version: i64,
    #[serde(rename = "h")]
    pub(crate) channel: Channel,
    #[serde(rename = "o")]
    pub(crate) location: Option<LocationId>,
    #[serde(rename = "t")]
    pub(crate) order_time: Timestamp,
    #[serde(rename = "s")]
    pub(crate) status: Status,
    #[serde(rename = "c")]
    pub(crate) currency: Currency,
    #[serde(rename = "l")]
    pub(crate) lines: Vec<Line>,
    #[serde(rename = "p")]
    pub(crate) payments: Vec<Payment>,
    #[serde(rename = "u")]
    pub(crate) customer: Option<SourceRef>,
    #[serde(rename = "r")]
    pub(crate) references: Vec<SourceRef>,
}

impl SourceOrder {
    pub(crate) fn total_minor(&self) -> i64 {
        self.lines.iter().map(|line| line.amount_minor).sum()
    }

    /// The least record of an order is its origin: where it was placed, not where it was seen as well.
    pub(crate) fn origin_rank(&self) -> (Timestamp, Channel, &SourceRef) {
        (self.order_time, self.channel, &self.source)
    }

    pub(crate) fn psp_refs(&self) -> impl Iterator<Item = &str> {
        self.payments.iter().filter_map(|payment| payment.psp_ref.as_deref())
    }
}
