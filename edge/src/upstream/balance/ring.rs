//! Ketama's ring: each host at many points of a circle of hashes.

use std::sync::Arc;

use twox_hash::XxHash64;

use super::super::host::Host;
use super::{key, shares};

/// The points of a ring with the hosts that stand there, in order.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the size of a ring is at most eight million"
)]
pub(super) fn build(hosts: &[Arc<Host>], min: u64, max: u64, by_hostname: bool) -> Vec<(u64, u32)> {
    let shares = shares(hosts);
    let least = shares.iter().copied().fold(1.0, f64::min);
    // The lightest host gets whole points, and with it every host, unless the ring grew too large.
    let scale = ((least * min as f64).ceil() / least).min(max as f64);
    let mut ring = Vec::with_capacity(scale.ceil() as usize);
    let (mut placed, mut target) = (0.0, 0.0);
    for (at, host) in hosts.iter().enumerate() {
        let key = key(host, by_hostname);
        target += scale * shares[at];
        let mut point = 0_u64;
        while placed < target {
            ring.push((XxHash64::oneshot(0, format!("{key}_{point}").as_bytes()), at as u32));
            point += 1;
            placed += 1.0;
        }
    }
    ring.sort_unstable_by_key(|&(hash, _)| hash);
    ring
}

/// The first host at or behind a hash; for each further attempt the next one.
pub(super) fn find(ring: &[(u64, u32)], hash: u64, attempt: u32) -> usize {
    if ring.is_empty() {
        return 0;
    }
    let at = ring.partition_point(|&(point, _)| point < hash);
    ring[(at + attempt as usize) % ring.len()].1 as usize
}
