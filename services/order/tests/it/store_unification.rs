//! What must hold of whole histories: nothing is lost, nothing is double, and the order of arrival does not matter.

use std::collections::{BTreeMap, BTreeSet};

use omnimesh_proto::{identity::v1::Identity, order::v1 as pb};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::sandbox::{Sandbox, With, golden_id, line, order, person};

const SYSTEMS: [&str; 3] = ["shop", "marketplace", "pos"];
const CUSTOMERS: [&str; 3] = ["shop:anna", "loyalty:77", "shop:bob"];

/// What is left to chance in a record: when, how much milk, which record it names, its payment and its customer.
type Drawn = (i64, i64, Option<usize>, Option<u8>, Option<usize>);

/// Source orders that have much in common, so that most of them could be one with some other.
fn records() -> impl Strategy<Value = Vec<pb::SourceOrder>> {
    let drawn = (
        0..40_i64,
        0..2_i64,
        prop::option::weighted(0.2, 0..12_usize),
        prop::option::of(0..6_u8),
        prop::option::of(0..CUSTOMERS.len()),
    );
    let records = prop::collection::vec(drawn, 1..12);
    records.prop_map(|records| records.into_iter().enumerate().map(|(at, drawn)| record(at, drawn)).collect())
}

fn record(at: usize, (minutes, milk, reference, payment, customer): Drawn) -> pb::SourceOrder {
    let name = |at: usize| format!("{}:{at}", SYSTEMS[at % SYSTEMS.len()]);
    let mut record = order(&name(at), minutes).lines(vec![line("banana", 2, 100), line("milk", milk, 250)]);
    if let Some(reference) = reference {
        record = record.naming(&name(reference));
    }
    if let Some(payment) = payment {
        record = record.paid(&format!("psp_{payment}"), 350);
    }
    if let Some(customer) = customer {
        record = record.of(CUSTOMERS[customer]);
    }
    record
}

fn persons() -> [Identity; 2] {
    [person(&golden_id(1), &["shop:anna", "loyalty:77"]), person(&golden_id(2), &["shop:bob"])]
}

#[test]
fn import_orders_does_not_depend_on_the_order_of_arrival() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let arrivals = records().prop_flat_map(|records| {
        let shuffled = Just(records.clone()).prop_shuffle();
        (Just(records), shuffled, 1..5_usize, any::<prop::sample::Index>())
    });
    let outcome = runner.run(&arrivals, |(records, shuffled, portion, identified)| {
        runtime.block_on(async {
            let at_once = Sandbox::on_sqlite().await;
            at_once.identify(&persons()).await;
            at_once.import(&[&records]).await;

            let bit_by_bit = Sandbox::on_sqlite().await;
            let (before, after) = shuffled.split_at(identified.index(shuffled.len() + 1));
            bit_by_bit.import(&before.chunks(portion).collect::<Vec<_>>()).await;
            bit_by_bit.identify(&persons()).await;
            bit_by_bit.import(&after.chunks(portion).collect::<Vec<_>>()).await;

            prop_assert_eq!(bit_by_bit.partition().await, at_once.partition().await);
            for sandbox in [at_once, bit_by_bit] {
                let orders: BTreeMap<_, _> =
                    sandbox.orders().await.into_iter().map(|order| (order.name.clone(), order)).collect();
                let sources: usize = orders.values().map(|order| order.sources.len()).sum();
                prop_assert_eq!(sources, records.len(), "each record is in one order");
                prop_assert_eq!(sandbox.told().await, orders, "the events tell the same as the lists");
            }
            Ok(())
        })
    });
    outcome.expect("the same orders");
}

/// Many orders in many portions, a quarter of them seen twice, on each engine: to the cent, and again for nothing.
#[tokio::test]
async fn import_orders_takes_a_large_import() {
    const ORDERS: i64 = 5_000;
    let record = |system: &str, number: i64| {
        let lines =
            (0..10).map(|at| line(&format!("{}", 1_000_000 + number * 7 + at), 1, number + at)).collect();
        order(&format!("{system}:{number}"), number * 30)
            .lines(lines)
            .paid(&format!("psp_{number}"), number * 10 + 45)
    };
    let mut records: Vec<_> = (0..ORDERS).map(|number| record("shop", number)).collect();
    records.extend((0..ORDERS).step_by(4).map(|number| record("pos", number)));
    let portions: Vec<_> = records.chunks(1_000).collect();
    for sandbox in Sandbox::on_both_engines().await {
        let count = records.len() as i64;
        let begun = std::time::Instant::now();
        assert_eq!(sandbox.import(&portions).await, (count, 0));
        eprintln!("{} lines/s", (count * 10) as f64 / begun.elapsed().as_secs_f64());
        assert_eq!(sandbox.import(&portions).await, (0, count));
        let orders = sandbox.told().await;
        let total: i64 = orders.values().map(|order| order.total_minor).sum();
        assert_eq!((orders.len() as i64, total), (ORDERS, (0..ORDERS).map(|number| number * 10 + 45).sum()));
        assert_eq!(orders.values().filter(|order| order.sources.len() == 2).count() as i64, ORDERS / 4);
    }
}

/// Concurrent imports take turns, so that none of them decides without the other's records.
#[tokio::test]
async fn import_orders_unifies_across_concurrent_imports() {
    for sandbox in Sandbox::on_both_engines().await {
        let shop: Vec<_> = (0..40).map(|n| order(&format!("shop:{n}"), 60 * n)).collect();
        let pos: Vec<_> =
            (0..40).map(|n| order(&format!("pos:{n}"), 60 * n + 5).naming(&format!("shop:{n}"))).collect();
        let (shop, pos) = (shop.chunks(3).collect::<Vec<_>>(), pos.chunks(4).collect::<Vec<_>>());
        tokio::join!(sandbox.import(&shop), sandbox.import(&pos));
        let partition = sandbox.partition().await;
        let expect: BTreeSet<BTreeSet<_>> =
            (0..40).map(|n| BTreeSet::from([format!("shop:{n}"), format!("pos:{n}")])).collect();
        assert_eq!(partition.into_keys().collect::<BTreeSet<_>>(), expect);
    }
}
