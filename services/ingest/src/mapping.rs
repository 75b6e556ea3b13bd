//! Reading records: what a field is, what it should be, and which of them make up a command's fields.
//!
//! Definitions are compiled once: names become indices and paths, so that a record costs no look-ups by name.

mod kind;
mod record;
mod schema;
mod template;

pub(crate) use kind::{Kind, Type};
pub(crate) use record::{Parsed, Scope};
pub(crate) use schema::{Schema, Shape};
pub(crate) use template::{Amount, Number, Source, Template, Time, Version};
