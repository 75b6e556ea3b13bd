//! Maglev: a table that hosts fill in turn, each in an order of its own.

use std::sync::Arc;

use twox_hash::XxHash64;

use super::super::host::Host;
use super::{key, shares};

struct Entry {
    at: u32,
    offset: u64,
    skip: u64,
    share: f64,
    target: f64,
    next: u64,
}

/// The table: for each remainder of a hash, its host.
#[expect(clippy::cast_possible_truncation, reason = "the table has at most five million places")]
pub(super) fn build(hosts: &[Arc<Host>], size: u64, by_hostname: bool) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    let shares = shares(hosts);
    let most = shares.iter().copied().fold(0.0, f64::max);
    let mut entries: Vec<_> = hosts
        .iter()
        .enumerate()
        .map(|(at, host)| {
            let key = key(host, by_hostname).as_bytes();
            let (offset, skip) =
                (XxHash64::oneshot(0, key) % size, XxHash64::oneshot(1, key) % (size - 1) + 1);
            Entry { at: at as u32, offset, skip, share: shares[at], target: 0.0, next: 0 }
        })
        .collect();
    let mut table = vec![FREE; size as usize];
    let (mut left, mut round) = (if entries.is_empty() { 0 } else { size }, 0.0);
    while left > 0 {
        round += 1.0;
        for entry in &mut entries {
            // The heaviest host takes a place in each round, the others in as many as their weight is worth.
            if left == 0 || round * entry.share < entry.target {
                continue;
            }
            entry.target += most;
            let place = loop {
                let place = ((entry.offset + entry.skip * entry.next) % size) as usize;
                entry.next += 1;
                if table[place] == FREE {
                    break place;
                }
            };
            table[place] = entry.at;
            left -= 1;
        }
    }
    table
}

/// The host of a hash; a further attempt asks for another hash.
#[expect(clippy::cast_possible_truncation, reason = "less than the table's length")]
pub(super) fn find(table: &[u32], mut hash: u64, attempt: u32) -> usize {
    if table.is_empty() {
        return 0;
    }
    if attempt > 0 {
        hash ^= u64::MAX - u64::from(attempt) + 1;
    }
    table[(hash % table.len() as u64) as usize] as usize
}
