//! Tables that have their turns, and events that wait for another release.

use std::fs;

use omnimesh_proto::inventory::v1::{Stock, StockChanged};
use prost::Message;
use tempfile::TempDir;

use super::*;
use crate::{
    Root,
    table::{self, Route},
};

fn cursors() -> [Cursor; 2] {
    ["0-7", "0-8"].map(|text| text.parse().unwrap())
}

fn table(consumer: &str) -> &'static dyn Table {
    *table::ALL.iter().find(|table| table.source().consumer == consumer).unwrap()
}

fn event(subject: &str, payload: Vec<u8>) -> Event {
    let [at, _] = cursors();
    let (id, subject) = ("e-1".to_owned(), subject.to_owned());
    Event { id, subject, cursor: at.to_string(), payload: payload.into(), ..Event::default() }
}

#[tokio::test]
async fn what_follows_an_event_that_makes_no_rows_waits_for_another_release() {
    let directory = TempDir::new().unwrap();
    let store = Store::create(&Root::from(directory.path())).unwrap();
    let [first, second] = cursors();
    let [name, other]: [TableName; 2] =
        ["bronze/bronze_shop__orders", "bronze/bronze_shop__customers"].map(|name| name.parse().unwrap());
    let mut tables = Tables::open(&store, table("lake.bronze<-ingest")).await.unwrap();
    let mut pending = Pending::default();
    let route = Route { table: name.clone(), key: "e-1".to_owned(), rank: 0, rows: 1 };
    pending.push(route, event("sources/shop", vec![0xff]), first);
    tables.commit(pending, first).await;
    for part in ["lake table bronze/bronze_shop__orders", "event e-1 at 0-7", "a release that reads it"] {
        assert!(tables.aside[0].fault.contains(part), "{}", tables.aside[0].fault);
    }
    assert!(!tables.lacks(&name, second) && tables.lacks(&other, second));
    assert!(tables.until().is_none() && tables.begin_turns() == 0);

    // The others go on from where they are, and what nobody may miss stays where it is.
    tables.commit(Pending::default(), second).await;
    assert_eq!((tables.position(), tables.settled()), (second, Cursor::START));
}

#[tokio::test]
async fn an_event_that_tells_no_table_holds_back_whatever_may_be_of_its_table() {
    let directory = TempDir::new().unwrap();
    let store = Store::create(&Root::from(directory.path())).unwrap();
    let [first, second] = cursors();
    for (consumer, subject, [is_waiting, is_idle]) in [
        ("lake.bronze<-ingest", "sources/shop", [false, false]),
        ("lake.users_scd<-customer", "customers/1", [true, true]),
    ] {
        let table = table(consumer);
        assert_eq!(table.is_one(), is_idle);
        let mut tables = Tables::open(&store, table).await.unwrap();
        let event = event(subject, vec![0xff]);
        let error = table.route(&event).unwrap_err();
        tables.pass_over(&event, error);
        tables.commit(Pending::default(), second).await;
        assert!(tables.waits(subject, first) && tables.waits(subject, second));
        assert_eq!([tables.waits("others/1", second), tables.is_idle()], [is_waiting, is_idle]);
        assert_eq!((tables.position(), tables.settled()), (second, Cursor::START));
    }
}

#[tokio::test]
async fn what_is_set_aside_has_its_turns_until_it_has_what_it_lacks() {
    let directory = TempDir::new().unwrap();
    let store = Store::create(&Root::from(directory.path())).unwrap();
    let [first, second] = cursors();
    let name: TableName = "silver/inventory_snapshots".parse().unwrap();
    let table = table("lake.inventory_snapshots<-inventory");
    // Nobody may write into a file as into a directory, not even root.
    let obstacle = directory.path().join("silver/inventory_snapshots.lance/data");
    fs::create_dir_all(obstacle.parent().unwrap()).unwrap();
    fs::write(&obstacle, "").unwrap();
    let pending = || {
        let stock = Stock { sku: "1".to_owned(), location_id: "1".to_owned(), ..Stock::default() };
        let payload = StockChanged { stock: Some(stock), ..StockChanged::default() };
        let event = event("locations/1/stocks/1", payload.encode_to_vec());
        let mut pending = Pending::default();
        pending.push(table.route(&event).unwrap(), event, first);
        pending
    };
    let mut tables = Tables::open(&store, table).await.unwrap();
    tables.commit(pending(), first).await;
    tables.commit(Pending::default(), second).await;
    assert!(!tables.lacks(&name, first) && tables.is_idle() && tables.until().is_some());

    // It is tried again from where it stopped, later each time.
    assert_eq!(tables.begin_turns(), 1);
    assert!(tables.begin_turn().await && tables.lacks(&name, first));
    assert_eq!(tables.position(), Cursor::START);
    tables.commit(pending(), first).await;
    assert!(tables.is_over(first));
    tables.end_turn().await;
    tables.end_turns();
    assert!(tables.pause > RETRY_FIRST && tables.aside.len() == 1);
    assert_eq!((tables.position(), tables.settled()), (second, Cursor::START));

    fs::remove_file(&obstacle).unwrap();
    tables.begin_turns();
    assert!(tables.begin_turn().await);
    tables.commit(pending(), first).await;
    assert_eq!((tables.position(), tables.settled()), (first, first));
    tables.commit(Pending::default(), second).await;
    assert!(tables.is_over(second));
    tables.end_turn().await;
    tables.end_turns();
    assert!(tables.aside.is_empty() && tables.until().is_none() && tables.pause == RETRY_FIRST);
    assert!(tables.settled() == second && !tables.lacks(&name, first) && tables.lacks(&name, second));
}
