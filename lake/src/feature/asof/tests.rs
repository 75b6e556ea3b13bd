//! The join beside one that looks at every row.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::Timelines;

type Row = (String, i64, i64);

fn table(rows: &[Row]) -> RecordBatch {
    let times = |time: fn(&Row) -> i64| {
        TimestampMicrosecondArray::from_iter_values(rows.iter().map(time)).with_timezone("UTC")
    };
    RecordBatch::try_from_iter([
        ("entity", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.0))) as _),
        ("event_time", Arc::new(times(|row| row.1)) as _),
        ("known_at", Arc::new(times(|row| row.2)) as _),
        ("number", Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)) as _),
    ])
    .unwrap()
}

fn spine(spine: &[(String, i64)]) -> (StringArray, TimestampMicrosecondArray) {
    let entities = StringArray::from_iter_values(spine.iter().map(|(entity, _)| entity));
    (entities, TimestampMicrosecondArray::from_iter_values(spine.iter().map(|(_, time)| *time)))
}

/// What the join means, row by row; of rows with the same times the last one.
fn by_looking_at_every_row(rows: &[Row], entity: &str, time: i64, ttl: i64) -> Option<u32> {
    let current = (0_u32..).zip(rows).filter(|(_, row)| {
        row.0 == entity && row.1 <= time && row.2 <= time && row.1 > time.saturating_sub(ttl)
    });
    current.max_by_key(|(number, row)| (row.1, row.2, *number)).map(|(number, _)| number)
}

fn assert_joins(rows: &[Row], asked: &[(String, i64)], ttl: i64) {
    let expected: UInt32Array =
        asked.iter().map(|(entity, time)| by_looking_at_every_row(rows, entity, *time, ttl)).collect();
    let timelines = Timelines::new(table(rows)).unwrap();
    let (entities, times) = spine(asked);
    assert_eq!(timelines.join(&entities, &times, ttl), expected);
    for ((entity, time), row) in asked.iter().zip(&expected).take(50) {
        assert_eq!(timelines.current(entity, *time, ttl), row.map(|row| row as usize), "one by one");
    }
}

fn entity(random: &mut ChaCha8Rng, entities: usize) -> String {
    format!("entity-{}", random.random_range(0..entities))
}

#[test]
fn it_finds_what_looking_at_every_row_finds() {
    for seed in 0..40 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // Few distinct times make ties; wide lags make rows known long after others.
        let (entities, span, lag) =
            (random.random_range(1..8), random.random_range(1..60), random.random_range(1..80));
        let rows: Vec<Row> = (0..random.random_range(0..400))
            .map(|_| {
                let event = random.random_range(0..span);
                (entity(&mut random, entities), event, event + random.random_range(-lag..lag))
            })
            .collect();
        let asked: Vec<_> = (0..300)
            .map(|_| (entity(&mut random, entities + 1), random.random_range(-5..span + lag)))
            .collect();
        for ttl in [i64::MAX, 1, 7, span] {
            assert_joins(&rows, &asked, ttl);
        }
    }
}

#[test]
fn the_order_of_rows_does_not_matter() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut rows: Vec<Row> = (0..500)
        .map(|number| (entity(&mut random, 9), number / 3, number / 3 + random.random_range(0..50)))
        .collect();
    rows.sort_unstable();
    rows.dedup();
    let asked: Vec<_> = (0..500).map(|_| (entity(&mut random, 9), random.random_range(0..220))).collect();
    let (entities, times) = spine(&asked);
    let answer = |rows: &[Row]| {
        let timelines = Timelines::new(table(rows)).unwrap();
        let found = timelines.join(&entities, &times, 100);
        found.iter().map(|row| row.map(|row| rows[row as usize].clone())).collect::<Vec<_>>()
    };
    let sorted = answer(&rows);
    rows.shuffle(&mut random);
    assert_eq!(answer(&rows), sorted);
}

#[test]
fn time_to_live_ends_at_its_edge() {
    let rows = [("a".to_owned(), 100, 100)];
    let asked = [99, 100, 109, 110, 111].map(|time| ("a".to_owned(), time));
    let timelines = Timelines::new(table(&rows)).unwrap();
    let (entities, times) = spine(&asked);
    let expected = UInt32Array::from(vec![None, Some(0), Some(0), None, None]);
    assert_eq!(timelines.join(&entities, &times, 10), expected);
}

#[test]
fn planted_rows_are_not_seen_before_they_were_known() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut rows: Vec<Row> = (0..20_000).map(|number| (entity(&mut random, 200), number, number)).collect();
    let honest = rows.len() as u32;
    for _ in 0..1000 {
        let event = random.random_range(0..20_000);
        rows.push((entity(&mut random, 200), event, event + random.random_range(5_000..50_000)));
    }
    let timelines = Timelines::new(table(&rows)).unwrap();
    let asked: Vec<_> =
        (0..30_000).map(|_| (entity(&mut random, 200), random.random_range(0..80_000))).collect();
    let (entities, times) = spine(&asked);
    let found = timelines.join(&entities, &times, i64::MAX);
    let mut planted = 0;
    for (row, (_, time)) in found.iter().zip(&asked) {
        let Some(row) = row else { continue };
        assert!(rows[row as usize].1 <= *time && rows[row as usize].2 <= *time);
        planted += usize::from(row >= honest);
    }
    assert!(planted > 0, "some are the newest once they are known");
}

/// Rows that become known in the order of their events, and all of them late, are the longest walk there is.
#[test]
fn rows_that_are_known_late_are_passed_quickly() {
    let count = 200_000;
    let rows: Vec<Row> = (0..count).map(|event| ("a".to_owned(), event, event + count)).collect();
    let asked: Vec<_> = (0..count).map(|at| ("a".to_owned(), at + count / 2)).collect();
    let timelines = Timelines::new(table(&rows)).unwrap();
    let (entities, times) = spine(&asked);
    let found = timelines.join(&entities, &times, i64::MAX);
    let expected: UInt32Array =
        asked.iter().map(|(_, time)| (*time >= count).then(|| (*time - count) as u32)).collect();
    assert_eq!(found, expected);
}

#[test]
fn rows_come_in_the_order_asked_for_whatever_the_number_of_threads() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let rows: Vec<Row> =
        (0..5_000).map(|event| (entity(&mut random, 50), event, event + event % 7)).collect();
    let asked: Vec<_> = (0..150_000).map(|at| (entity(&mut random, 60), at % 5_100)).collect();
    let timelines = Timelines::new(table(&rows)).unwrap();
    let (entities, times) = spine(&asked);
    let expected: UInt32Array = asked
        .iter()
        .map(|(entity, time)| timelines.current(entity, *time, i64::MAX).map(|row| row as u32))
        .collect();
    assert_eq!(timelines.join(&entities, &times, i64::MAX), expected);
}

#[test]
fn a_table_without_its_times_is_refused() {
    let rows = RecordBatch::try_from_iter([("entity", Arc::new(StringArray::from(vec!["a"])) as _)]).unwrap();
    assert!(Timelines::new(rows).is_err());
    assert_eq!(Timelines::new(table(&[])).unwrap().entities().count(), 0);
}
