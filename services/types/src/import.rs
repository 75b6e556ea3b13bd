//! What came of a bulk import.

/// What became of the records of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Those that changed something.
    pub accepted: i64,
    /// Those that were known already.
    pub unchanged: i64,
}

impl Imported {
    /// `accepted` of `received` changed something.
    pub fn new(received: usize, accepted: usize) -> Self {
        Self { accepted: accepted as i64, unchanged: received as i64 - accepted as i64 }
    }
}

impl std::ops::Add for Imported {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { accepted: self.accepted + other.accepted, unchanged: self.unchanged + other.unchanged }
    }
}
