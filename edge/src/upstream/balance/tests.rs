//! Choices compared with Envoy's own, and how they move when hosts come and go.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use twox_hash::XxHash64;

use super::{Balancer, Policy};
use crate::upstream::host::{CheckAt, Host, Spec, Stated, Target};

const RING: Policy = Policy::RingHash { min: 1024, max: 8 << 20, by_hostname: false };
const MAGLEV: Policy = Policy::Maglev { size: 65_537, by_hostname: false };

fn host(port: u16, weight: u32) -> Arc<Host> {
    let spec = Spec {
        target: Target::Tcp(([127, 0, 0, 1], port).into()),
        hostname: String::new(),
        weight,
        priority: 0,
        region: String::new(),
        zone: String::new(),
        sub_zone: String::new(),
        stated: Stated::Healthy,
        check: CheckAt::default(),
    };
    Host::new(spec, None)
}

/// 127.0.0.1:21001 to 127.0.0.1:21005.
fn five(weight: impl Fn(u16) -> u32) -> Vec<Arc<Host>> {
    (1..=5).map(|at| host(21_000 + at, weight(at))).collect()
}

fn hash(key: usize) -> u64 {
    XxHash64::oneshot(0, format!("key-{key}").as_bytes())
}

/// Which of the five a header of `key-1`, `key-2` and so on leads to.
fn choices(balancer: &Balancer) -> Vec<u16> {
    let port = |host: &Arc<Host>| match host.spec.target {
        Target::Tcp(address) => address.port() - 21_000,
        Target::Unix(_) => unreachable!("a port"),
    };
    (1..=40).map(|key| port(balancer.pick(Some(hash(key)), 0, 0).expect("a host"))).collect()
}

/// What Envoy 1.40 chose for the same keys; the weighted hosts weigh 1 to 5.
#[test]
fn consistent_hashing_chooses_what_envoy_chooses() {
    let cases: [(&str, Policy, bool, [u16; 40]); 4] = [
        (
            "ring",
            RING,
            false,
            [
                1, 5, 5, 1, 4, 2, 2, 3, 1, 3, 2, 3, 1, 5, 5, 1, 4, 5, 2, 3, 5, 2, 3, 4, 1, 2, 2, 4, 2, 5, 5,
                3, 3, 2, 1, 5, 1, 2, 3, 5,
            ],
        ),
        (
            "maglev",
            MAGLEV,
            false,
            [
                1, 4, 3, 4, 2, 3, 2, 5, 1, 5, 1, 2, 1, 3, 3, 1, 2, 4, 1, 2, 4, 4, 2, 4, 2, 3, 1, 5, 5, 2, 3,
                1, 2, 5, 5, 1, 4, 2, 4, 4,
            ],
        ),
        (
            "weighted ring",
            RING,
            true,
            [
                2, 5, 5, 4, 4, 2, 2, 5, 1, 3, 4, 3, 5, 5, 5, 1, 4, 5, 5, 3, 5, 5, 3, 4, 1, 5, 2, 5, 2, 5, 5,
                3, 5, 2, 3, 5, 4, 5, 3, 5,
            ],
        ),
        (
            "weighted maglev",
            MAGLEV,
            true,
            [
                1, 4, 3, 4, 2, 3, 5, 5, 5, 5, 1, 2, 4, 3, 3, 5, 4, 4, 1, 2, 4, 4, 2, 4, 2, 3, 5, 5, 5, 5, 4,
                3, 5, 5, 5, 4, 4, 2, 4, 4,
            ],
        ),
    ];
    for (name, policy, weighted, expected) in cases {
        let hosts = five(|at| if weighted { u32::from(at) } else { 1 });
        assert_eq!(choices(&Balancer::new(policy, hosts, 0)), expected, "{name}");
    }
}

#[test]
fn few_keys_move_when_a_host_leaves() {
    for policy in [RING, MAGLEV] {
        let mut hosts = five(|_| 1);
        let before = choices(&Balancer::new(policy, hosts.clone(), 0));
        hosts.remove(4);
        let after = choices(&Balancer::new(policy, hosts, 0));
        let moved = before.iter().zip(&after).filter(|(before, after)| **before != 5 && before != after);
        // A ring of fewer hosts has more points of each, so that some keys of the others move as well.
        assert!(moved.count() <= 4, "{policy:?}: {before:?} became {after:?}");
    }
}

#[test]
fn another_attempt_may_lead_elsewhere() {
    for policy in [RING, MAGLEV, Policy::Random, Policy::RoundRobin] {
        let balancer = Balancer::new(policy, five(|_| 1), 0);
        let chosen: std::collections::HashSet<_> =
            (0..20).map(|attempt| balancer.pick(Some(hash(1)), 7, attempt).expect("a host").id).collect();
        assert!(chosen.len() > 1, "{policy:?}");
    }
}

#[test]
fn calls_are_spread_by_weight() {
    let least = Policy::LeastRequest { choices: 2, bias: 1.0 };
    for policy in [Policy::RoundRobin, least] {
        let balancer = Balancer::new(policy, five(u32::from), 3);
        let mut counts = HashMap::new();
        for call in 0..1500 {
            *counts.entry(balancer.pick(None, call, 0).expect("a host").weight).or_insert(0_i32) += 1;
        }
        for (weight, count) in counts {
            assert!(
                (count - 100 * weight.cast_signed()).abs() <= 2,
                "{policy:?}: weight {weight} got {count}"
            );
        }
    }
}

#[test]
fn equal_hosts_take_turns() {
    let balancer = Balancer::new(Policy::RoundRobin, five(|_| 1), 3);
    let turns: Vec<_> = (0..10).map(|_| balancer.pick(None, 0, 0).expect("a host").id).collect();
    assert_eq!(turns[..5], turns[5..]);
    assert_eq!(turns[..5].iter().collect::<std::collections::HashSet<_>>().len(), 5);
}

#[test]
fn the_less_busy_of_two_is_asked() {
    let hosts = five(|_| 1);
    for busy in &hosts[1..] {
        busy.stats.rq_active.store(9, Ordering::Relaxed);
    }
    let balancer = Balancer::new(Policy::LeastRequest { choices: 2, bias: 1.0 }, hosts.clone(), 0);
    let idle = (0..10_000_u64).filter(|call| {
        let random = XxHash64::oneshot(0, &call.to_le_bytes());
        balancer.pick(None, random, 0).expect("a host").id == hosts[0].id
    });
    // The chance to be among two of five with repetition: 9 in 25.
    assert!((3400..3800).contains(&idle.count()));
}

#[test]
fn nobody_is_chosen_where_nobody_is() {
    for policy in [RING, MAGLEV, Policy::Random, Policy::RoundRobin] {
        assert!(Balancer::new(policy, Vec::new(), 0).pick(Some(1), 2, 0).is_none());
    }
}
