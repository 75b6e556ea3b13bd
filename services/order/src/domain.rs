//! What an order is, and when two systems' records are the same one. Pure: the same records give the same orders,
//! whatever the order in which they arrived.

mod customer;
mod keys;
mod matching;
mod order;
mod record;
mod settlement;

pub(crate) use customer::{CustomerLinks, Person};
pub(crate) use matching::{Verdicts, neighbours};
pub(crate) use order::{MatchRule, Order, Sighting, Source, Unified, unify};
pub(crate) use record::{Channel, Line, Payment, SourceOrder, Status};
pub(crate) use settlement::{Anchor, settle};
