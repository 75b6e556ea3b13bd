//! Earliest deadline first: hosts by weight, spread evenly.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// When each host is due next.
#[derive(Debug)]
pub(super) struct Schedule {
    due: BinaryHeap<Due>,
    orders: u64,
}

#[derive(Debug)]
struct Due {
    deadline: f64,
    order: u64,
    at: usize,
}

impl Schedule {
    pub(super) fn new(weights: impl Iterator<Item = f64>) -> Self {
        let due: BinaryHeap<_> = weights
            .enumerate()
            .map(|(at, weight)| Due { deadline: 1.0 / weight, order: at as u64, at })
            .collect();
        Self { orders: due.len() as u64, due }
    }

    /// The host that is due; its weight now says when it is due again.
    pub(super) fn pick(&mut self, weight: impl Fn(usize) -> f64) -> usize {
        let Some(mut first) = self.due.peek_mut() else { return 0 };
        let at = first.at;
        first.deadline += 1.0 / weight(at);
        first.order = self.orders;
        self.orders += 1;
        at
    }
}

impl Ord for Due {
    /// The heap gives the greatest first: that is the earliest, and of equals the one that waits longest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}
