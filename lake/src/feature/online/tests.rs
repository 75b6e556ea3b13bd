//! What is said for now beside what the whole table says of that moment later.

use std::{collections::HashMap, fs};

use arrow::compute::concat_batches;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::*;
use crate::{
    feature::{
        rows::{Batch, KEYS, value},
        timeline::Row,
        view::{DAY, HOUR},
    },
    sql,
    table::Derived,
};

const ENTITIES: usize = 12;

struct Lake {
    online: Online,
    clock: Clock,
    store: Arc<Store>,
    view: &'static View,
    rows: Vec<arrow::array::RecordBatch>,
    directory: TempDir,
}

impl Lake {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let store = Arc::new(Store::create(&directory.path().into()).unwrap());
        let clock = Clock::fixed(1_000 * DAY);
        let online = Self::online(&store, &clock);
        let view = view::find("product_daily").unwrap();
        Self { online, clock, store, view, rows: Vec::new(), directory }
    }

    fn online(store: &Arc<Store>, clock: &Clock) -> Online {
        Online::new(Arc::clone(store), sql::runtime(64 * 1024 * 1024).unwrap(), clock.clone())
    }

    fn now(&self) -> i64 {
        self.clock.now_micros()
    }

    /// Publishes the rows there were, and some that are known from `known` on, up to `lag` later.
    async fn publish(&mut self, random: &mut ChaCha8Rng, known: i64, lag: i64) {
        let mut batch = Batch::new(self.view);
        for number in 0..200 {
            let event_time = self.now() + random.random_range(-1_000..100) * DAY;
            let values = vec![Some(random.random_range(0..9)); self.view.features.len()];
            let known_at = known + random.random_range(0..=lag) / 200 * 200 + number;
            let entity = format!("entity-{}", random.random_range(0..ENTITIES));
            batch.add(&entity, Row { event_time, known_at, values });
        }
        self.rows.push(batch.take().unwrap());
        let name = TableName::new(Layer::Features, self.view.name).unwrap();
        let mut table = self.store.open(name).await.unwrap();
        let rows = stream::iter(self.rows.clone().into_iter().map(Ok));
        let rows = Box::pin(RecordBatchStreamAdapter::new(self.view.schema(), rows));
        let card = Derived::card(&self.view);
        let turn = self.store.turn().await.unwrap();
        let published = table.replace(&turn, rows, &card, HashMap::new(), None).await.unwrap();
        table.tag(PROD, published.version).await.unwrap();
    }

    /// What is said now of every entity.
    fn said(&self) -> Result<(i64, Vec<Vec<Option<i64>>>), Error> {
        let (now, served) = self.online.now(&[self.view])?;
        Ok((now, said(&served[0].rows, now, self.view)))
    }
}

fn said(rows: &Timelines, time: i64, view: &View) -> Vec<Vec<Option<i64>>> {
    let entity = |number| {
        let row = rows.current(&format!("entity-{number}"), time, view.ttl);
        let columns = rows.table().columns()[KEYS..].iter();
        columns.map(|column| row.and_then(|row| value(column, row))).collect()
    };
    (0..ENTITIES).map(entity).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_now_is_what_the_table_says_later() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut lake = Lake::new();
    let begin = lake.now();
    lake.publish(&mut random, begin - 900 * DAY, 900 * DAY).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        lake.online.refresh().await;
        for _ in 0..20 {
            answers.push(lake.said().unwrap());
            lake.clock.advance(Duration::from_millis(random.random_range(1..400)));
        }
        // The rows of a run are known a while after it, and some event times of theirs come much later.
        let now = lake.now();
        lake.publish(&mut random, now + ACTIVATION, 0).await;
        lake.online.refresh().await;
        for _ in 0..20 {
            answers.push(lake.said().unwrap());
            lake.clock.advance(Duration::from_secs(random.random_range(1..8)));
            lake.online.refresh().await;
        }
        lake.clock.advance(Duration::from_micros((20 * DAY + HOUR) as u64));
    }
    let all = Timelines::new(concat_batches(&lake.view.schema(), &lake.rows).unwrap()).unwrap();
    for (time, answer) in answers {
        assert_eq!(answer, said(&all, time, lake.view), "as of {time}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_over_which_lance_panics_is_followed_once_it_is_whole() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut lake = Lake::new();
    lake.publish(&mut random, 0, 0).await;
    let versions = lake.directory.path().join("features/product_daily.lance/_versions");
    // Lance counts manifests' names down, so that the newest comes first.
    let newest = fs::read_dir(versions).unwrap().map(|file| file.unwrap().path()).min().unwrap();
    let whole = fs::read(&newest).unwrap();
    // Its message is longer than it is itself; the end is right, so that it is not torn.
    fs::write(&newest, b"\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0LANC").unwrap();
    // As another process that has not read it yet.
    let store = Arc::new(Store::existing(&lake.directory.path().into()));
    lake.online = Lake::online(&store, &lake.clock);
    lake.online.refresh().await;
    assert!(matches!(lake.said(), Err(Error::Missing { .. })));
    fs::write(&newest, whole).unwrap();
    lake.online.refresh().await;
    assert!(lake.said().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_that_may_be_outdated() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut lake = Lake::new();
    lake.online.refresh().await;
    assert!(matches!(lake.said(), Err(Error::Missing { .. })), "there is no table yet");
    lake.publish(&mut random, 0, 0).await;
    lake.online.refresh().await;
    assert!(lake.said().is_ok());
    lake.clock.advance(Duration::from_micros(LEASE as u64 - 1));
    assert!(lake.said().is_ok());
    lake.clock.advance(Duration::from_micros(1));
    assert!(matches!(lake.said(), Err(Error::FeaturesStale { view: "product_daily" })));
    lake.online.refresh().await;
    assert!(lake.said().is_ok());
}
