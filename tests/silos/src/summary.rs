//! What was built, in numbers.

use std::{collections::BTreeMap, ops::AddAssign};

use serde::{Deserialize, Serialize};

/// The baskets as the dataset has them, each once, and what every silo holds of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub households: u64,
    pub baskets: u64,
    pub lines: u64,
    pub sales_minor: i64,
    pub silos: BTreeMap<String, Tally>,
}

/// The true rows of one silo, and the junk on top.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Customers, buyers or members.
    pub people: u64,
    /// Orders, documents, receipts, events, or rows of a file that has no orders.
    pub records: u64,
    /// Lines of orders.
    pub lines: u64,
    /// What these lines were sold for, in cents.
    pub sales_minor: i64,
    pub junk: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.people += other.people;
        self.records += other.records;
        self.lines += other.lines;
        self.sales_minor += other.sales_minor;
        self.junk += other.junk;
    }
}
