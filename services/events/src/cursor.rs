//! Positions in a log.

use std::{fmt, str::FromStr};

use crate::Error;

/// A position in a domain's log: after everything up to and including one event. Opaque outside this crate.
///
/// PostgreSQL hands out sequence numbers before transactions commit, so a number alone would let a reader step over
/// an event that commits late. The transaction's id comes first, and readers stay below the oldest open one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor {
    pub(crate) tx: i64,
    pub(crate) seq: i64,
}

impl Cursor {
    /// Before the first event.
    pub const START: Self = Self { tx: 0, seq: 0 };
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.tx, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::START);
        }
        let invalid = || Error::CursorInvalid(text.to_owned());
        let (tx, seq) = text.split_once('-').ok_or_else(invalid)?;
        let number =
            |digits| i64::from_str_radix(digits, 16).ok().filter(|number| *number >= 0).ok_or_else(invalid);
        Ok(Self { tx: number(tx)?, seq: number(seq)? })
    }
}
