//! Rows of any series of runs beside what was known when.

use std::{collections::BTreeMap, slice};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Row, advance, backfill};
use crate::feature::{
    fact::{Channel, History, Purchase},
    view::{self, DAY, HOUR, Subject, View, next_midnight},
};

fn purchase(at: i64, known: i64, amount_minor: i64) -> Purchase {
    Purchase {
        at,
        known,
        channel: Channel::Pos,
        location: (amount_minor % 5) as u32,
        customer: Some(1),
        currency: 1,
        lines: 2,
        units: 3,
        amount_minor,
        discount_minor: 1,
        largest_line_minor: amount_minor / 2,
    }
}

/// Purchases of a year, most of them known at once, some by the next day, some months later.
fn purchases(random: &mut ChaCha8Rng) -> Vec<Purchase> {
    let mut purchases: Vec<_> = (0..random.random_range(1..40))
        .map(|_| {
            let at = random.random_range(0..365 * 24) * HOUR;
            let lag = match random.random_range(0..10) {
                0..6 => 0,
                6..8 => random.random_range(0..40) * HOUR,
                _ => random.random_range(0..200) * DAY + random.random_range(0..HOUR),
            };
            purchase(at, at + lag, random.random_range(100..10_000))
        })
        .collect();
    purchases.sort_by_key(|purchase| purchase.at);
    purchases
}

/// What stands of rows, as it is read back from the table.
fn standing(rows: &[Row]) -> BTreeMap<i64, Vec<Option<i64>>> {
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_key(|row| (row.event_time, row.known_at));
    rows.into_iter().map(|row| (row.event_time, row.values.clone())).collect()
}

fn current(rows: &[Row], time: i64) -> Option<&Row> {
    let visible = rows.iter().filter(|row| row.event_time <= time && row.known_at <= time);
    visible.max_by_key(|row| (row.event_time, row.known_at))
}

fn subject(purchases: &[Purchase]) -> Subject<'_> {
    Subject { entity: "a", purchases, order: None }
}

fn known_by(purchases: &[Purchase], time: i64) -> Vec<Purchase> {
    purchases.iter().filter(|purchase| purchase.known <= time).copied().collect()
}

/// The values that a daily view has at `time` by purchases, of which some count already.
fn expected(view: &'static View, purchases: &[Purchase], time: i64) -> Option<Vec<Option<i64>>> {
    let counts = purchases.iter().any(|purchase| next_midnight(purchase.at) <= time);
    counts.then(|| view.values(None, purchases, next_midnight(time) - DAY))
}

#[test]
fn a_backfill_says_what_would_have_been_said() {
    let view = view::find("customer_daily").unwrap();
    for seed in 0..30 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let purchases = purchases(&mut random);
        let stamp = 600 * DAY;
        let rows = backfill(view, &subject(&purchases), stamp);
        for _ in 0..200 {
            let time = random.random_range(0..900 * 24) * HOUR;
            let known = known_by(&purchases, time.min(stamp));
            let found = current(&rows, time).map(|row| row.values.clone());
            assert_eq!(found, expected(view, &known, time), "seed {seed} at hour {}", time / HOUR);
        }
    }
}

#[test]
fn runs_add_what_came_to_be_known_and_never_take_back() {
    let view = view::find("product_daily").unwrap();
    for seed in 0..30 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let purchases = purchases(&mut random);
        let mut stamps: Vec<_> = (0..6).map(|_| random.random_range(0..600 * 24 * 60) * HOUR / 60).collect();
        stamps.sort_unstable();
        stamps.dedup();
        let first = known_by(&purchases, stamps[0]);
        let mut rows = backfill(view, &subject(&first), stamps[0]);
        for (index, &stamp) in stamps.iter().enumerate() {
            let known = known_by(&purchases, stamp);
            if index > 0 {
                let added = advance(view, &subject(&known), &standing(&rows), stamp);
                assert!(added.iter().all(|row| row.known_at == stamp));
                rows.extend(added);
            }
            let again = advance(view, &subject(&known), &standing(&rows), stamp);
            assert_eq!(again, [], "a run again adds nothing");
            let end = stamps.get(index + 1).copied().unwrap_or(800 * DAY);
            for _ in 0..50 {
                let time = random.random_range(stamp..end);
                let found = current(&rows, time).map(|row| row.values.clone());
                assert_eq!(found, expected(view, &known, time), "seed {seed} at hour {}", time / HOUR);
            }
        }
        assert_plain_join_suffices(&rows, &mut random);
    }
}

/// A join on when rows became visible, the later of both times, finds what the join on both finds.
fn assert_plain_join_suffices(rows: &[Row], random: &mut ChaCha8Rng) {
    for _ in 0..100 {
        let time = random.random_range(0..900 * DAY);
        let visible = |row: &Row| (row.event_time.max(row.known_at), row.event_time);
        let plain = rows.iter().filter(|row| visible(row).0 <= time).max_by_key(|row| visible(row));
        assert_eq!(plain, current(rows, time));
    }
}

#[test]
fn an_entity_that_loses_its_purchases_is_said_to_have_none() {
    let view = view::find("customer_daily").unwrap();
    let purchases = [purchase(0, 0, 100), purchase(DAY, DAY, 200)];
    let mut rows = backfill(view, &subject(&purchases), 10 * DAY);
    rows.extend(advance(view, &subject(&[]), &standing(&rows), 20 * DAY));
    let nothing = view.values(None, &[], 0);
    for time in [20 * DAY, 40 * DAY, 500 * DAY] {
        assert_eq!(current(&rows, time).unwrap().values, nothing);
    }
    assert_ne!(current(&rows, 19 * DAY).unwrap().values, nothing);
}

#[test]
fn windows_begin_with_their_first_moment_and_end_before_their_last() {
    let view = view::find("customer_daily").unwrap();
    let orders = view.features.iter().position(|feature| feature.name == "orders_7d").unwrap();
    let at = |time: i64, purchase: Purchase| view.values(None, &[purchase], time)[orders];
    let moment = 100 * DAY;
    let bought = |at: i64| purchase(at, at, 100);
    assert_eq!(at(moment, bought(moment)), Some(0));
    assert_eq!(at(moment, bought(moment - 1)), Some(1));
    assert_eq!(at(moment, bought(moment - 7 * DAY)), Some(1));
    assert_eq!(at(moment, bought(moment - 7 * DAY - 1)), Some(0));
}

#[test]
fn an_order_is_compared_with_what_was_known_of_its_customer() {
    let view = view::find("order_fraud").unwrap();
    let feature = |name: &str| view.features.iter().position(|feature| feature.name == name).unwrap();
    let history = History {
        subject: "customer".to_owned(),
        orders: ["a", "b", "late", "c"].map(str::to_owned).to_vec(),
        purchases: vec![
            purchase(0, 0, 1_000),
            purchase(HOUR / 2, HOUR / 2, 2_000),
            purchase(HOUR, 5 * HOUR, 9_000),
            purchase(2 * HOUR, 2 * HOUR, 3_000),
        ],
    };
    let subjects = view.subjects(&history);
    let entities: Vec<_> = subjects.iter().map(|subject| subject.entity).collect();
    assert_eq!(entities, ["a", "b", "late", "c"]);

    let rows = backfill(view, &subjects[0], DAY);
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((row.event_time, row.known_at), (0, 0));
    assert_eq!(row.values[feature("orders_24h")], Some(0));
    assert_eq!(row.values[feature("amount_to_mean_bp")], None);
    assert_eq!(row.values[feature("day_of_week")], Some(4), "1970 began on a Thursday");

    let rows = backfill(view, &subjects[2], DAY);
    assert_eq!((rows[0].event_time, rows[0].known_at), (HOUR, 5 * HOUR), "known late, true then");
    assert_eq!(rows[0].values[feature("orders_1h")], Some(2));

    let rows = backfill(view, &subjects[3], DAY);
    let [before, after] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((before.known_at, after.known_at), (2 * HOUR, 5 * HOUR));
    assert_eq!((before.event_time, after.event_time), (2 * HOUR, 2 * HOUR));
    assert_eq!(before.values[feature("orders_24h")], Some(2));
    assert_eq!(after.values[feature("orders_24h")], Some(3));
    assert_eq!(before.values[feature("amount_to_mean_bp")], Some(20_000));
    assert_eq!(before.values[feature("seconds_since_order")], Some(90 * 60));
    assert_eq!(advance(view, &subjects[3], &standing(&rows), DAY), []);
}

#[test]
fn mixed_currencies_are_not_added_up() {
    let view = view::find("customer_daily").unwrap();
    let mut purchases = [purchase(0, 0, 100), purchase(DAY, DAY, 200)];
    purchases[1].currency = 2;
    let feature = |name: &str| view.features.iter().position(|feature| feature.name == name).unwrap();
    let values = |at: i64| view.values(None, &purchases, at);
    assert_eq!(values(2 * DAY)[feature("spend_minor_7d")], None);
    assert_eq!(values(2 * DAY)[feature("orders_7d")], Some(2));
    assert_eq!(values(DAY)[feature("spend_minor_7d")], Some(100));
    let only = slice::from_ref(&purchases[1]);
    assert_eq!(view.values(None, only, 2 * DAY)[feature("spend_minor_7d")], Some(200));
}
