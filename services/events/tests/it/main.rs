//! The log on both engines: commit order, exactly once, nothing skipped.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use events::{
    Consumer, Consumers, Cursor, Directory, Event, Handler, Log, MAX_EVENT_BYTES, NewEvent, consume,
};
use futures::StreamExt;
use mesh::{Policy, ServerBuilder};
use omnimesh_proto::event::v1::Event as Payload;
use sqlx::{Executor, migrate::Migrator};
use storage::{Tx, testing};
use tokio_util::sync::CancellationToken;
use types::Timestamp;

static NONE: Migrator = Migrator::DEFAULT;
const TYPE: &str = "omnimesh.event.v1.Event";

fn event(number: usize) -> NewEvent {
    let payload = Payload { id: number.to_string(), ..Payload::default() };
    NewEvent::new(TYPE, format!("things/{number}"), Timestamp::from_micros(1), &payload)
}

async fn publish(database: &storage::Database, log: &Log, numbers: std::ops::Range<usize>) {
    let mut tx = database.begin().await.expect("begin");
    log.publish(&mut tx, &numbers.map(event).collect::<Vec<_>>()).await.expect("publish");
    tx.commit().await.expect("commit");
}

/// The subjects of the events after `after`, once `count` of them can be read: on PostgreSQL an event stays out of
/// sight while any older transaction is open, be it another test's.
async fn subjects(log: &Log, after: Cursor, count: usize) -> Vec<String> {
    let mut batches = pin!(log.stream(after, Vec::new(), true));
    let mut subjects = Vec::new();
    while subjects.len() < count {
        let batch = batches.next().await.expect("an endless stream").expect("read");
        subjects.extend(batch.events.into_iter().map(|event| event.subject));
    }
    subjects
}

fn things(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("things/{number}")).collect()
}

#[tokio::test]
async fn stream_events_returns_commit_order_and_resumes_anywhere() {
    for test in testing::databases("first", &NONE).await {
        let log = Log::open("first", &test.database).await.expect("open");
        publish(&test.database, &log, 0..6000).await;
        let all = subjects(&log, Cursor::START, 6000).await;
        assert_eq!(all, things(0..6000));
        let first = log.read(Cursor::START, &[]).await.expect("read");
        let rest = subjects(&log, first.cursor, 6000 - first.events.len()).await;
        assert_eq!(rest, all[first.events.len()..]);
    }
}

#[tokio::test]
async fn a_stream_that_does_not_follow_ends_at_the_head() {
    for test in testing::databases("first", &NONE).await {
        let log = Log::open("first", &test.database).await.expect("open");
        publish(&test.database, &log, 0..3000).await;
        assert_eq!(subjects(&log, Cursor::START, 3000).await.len(), 3000);
        let head = log.head().await.expect("head");
        assert_eq!(head, log.committed().await.expect("committed"));
        for (after, count) in [(Cursor::START, 3000), (head, 0)] {
            let batches: Vec<_> =
                log.stream(after, Vec::new(), false).map(|batch| batch.expect("read")).collect().await;
            assert_eq!(batches.iter().map(|batch| batch.events.len()).sum::<usize>(), count);
            assert_eq!(batches.last().expect("the empty batch at the end").cursor, head);
        }
    }
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_skipped() {
    for test in testing::databases("first", &NONE).await {
        if test.database.engine() == storage::Engine::Sqlite {
            // One writer at a time: there is no late commit.
            continue;
        }
        let log = Log::open("first", &test.database).await.expect("open");
        let mut early = test.database.begin().await.expect("begin");
        log.publish(&mut early, &[event(1)]).await.expect("publish");
        publish(&test.database, &log, 2..3).await;
        let batch = log.read(Cursor::START, &[]).await.expect("read");
        assert!(batch.events.is_empty(), "nothing may come before an open transaction");
        assert_eq!(log.head().await.expect("head"), Cursor::START, "a follower from here misses nothing");
        assert!(log.committed().await.expect("committed") > Cursor::START);
        early.commit().await.expect("commit");
        assert_eq!(subjects(&log, Cursor::START, 2).await, things(1..3));
    }
}

#[tokio::test]
async fn types_that_were_not_asked_for_are_passed_over() {
    for test in testing::databases("first", &NONE).await {
        let log = Log::open("first", &test.database).await.expect("open");
        publish(&test.database, &log, 0..3).await;
        let committed = log.committed().await.expect("committed");
        let mut batches = pin!(log.stream(Cursor::START, vec!["another".to_owned()], true));
        let mut cursor = Cursor::START;
        while cursor < committed {
            let batch = batches.next().await.expect("an endless stream").expect("read");
            assert!(batch.events.is_empty());
            cursor = batch.cursor;
        }
    }
}

/// How a handler ends when it does not end well.
#[derive(Clone)]
enum Failure {
    Error,
    Panic,
}

/// Notes what it is given, and fails first.
struct Notes {
    seen: Arc<Mutex<Vec<String>>>,
    failures: Mutex<Vec<Failure>>,
}

#[derive(Debug, thiserror::Error)]
#[error("on purpose")]
struct OnPurpose;

impl Handler for Notes {
    type Error = OnPurpose;

    async fn handle(&self, _: &mut Tx, events: Vec<Event>) -> Result<(), OnPurpose> {
        let failure = self.failures.lock().expect("lock").pop();
        match failure {
            Some(Failure::Error) => return Err(OnPurpose),
            Some(Failure::Panic) => panic!("on purpose"),
            None => {}
        }
        self.seen.lock().expect("lock").extend(events.into_iter().map(|event| event.subject));
        Ok(())
    }
}

/// Runs the consumer `second<-first` until it has caught up with what is committed by then.
async fn consume_all(log: &Log, own: &storage::Database, notes: Notes) {
    let policy = Policy::new([("second", ["event.read"].as_slice())]);
    let mut server = ServerBuilder::new(mesh::Config::default(), policy, None);
    server.host("first");
    let peers = server.host("second");
    events::serve(&mut server, log.clone());
    assert_eq!(server.shared::<Directory>().0.logs().len(), 1);
    let channel = peers.channel_to("first", events::SERVICE);
    let consumer = Consumer::open("second<-first", "first", &[TYPE], channel, own).await.expect("open");
    consume(&mut server, consumer, notes);
    let (consumers, _) = server.shared::<Consumers>();
    let stop = CancellationToken::new();
    let server = server.build().await.expect("build");
    let server = tokio::spawn(server.serve(stop.clone().cancelled_owned()));

    let committed = log.committed().await.expect("committed");
    let mut position = consumers.positions().remove(0).cursor;
    let caught_up = position.wait_for(|cursor| *cursor >= committed);
    tokio::time::timeout(Duration::from_secs(20), caught_up).await.expect("catches up").expect("runs");
    consumers.stop().await;
    stop.cancel();
    server.await.expect("no panic").expect("serves");
}

#[tokio::test]
async fn a_consumer_applies_every_event_once_whatever_fails() {
    for (producer, own) in
        testing::databases("first", &NONE).await.iter().zip(testing::databases("second", &NONE).await)
    {
        let log = Log::open("first", &producer.database).await.expect("open");
        let seen = Arc::new(Mutex::new(Vec::new()));
        for (round, on_purpose) in [Failure::Error, Failure::Panic].into_iter().enumerate() {
            publish(&producer.database, &log, round * 10..round * 10 + 10).await;
            let notes = Notes { seen: seen.clone(), failures: Mutex::new(vec![on_purpose; 2]) };
            consume_all(&log, &own.database, notes).await;
        }
        let seen = seen.lock().expect("lock").clone();
        assert_eq!(seen, things(0..20));
    }
}

#[tokio::test]
async fn events_pass_up_to_the_size_that_is_taken() {
    let sized = |name: &str, bytes: usize| {
        let payload = Payload { subject: "x".repeat(bytes), ..Payload::default() };
        NewEvent::new(TYPE, format!("things/{name}"), Timestamp::from_micros(1), &payload)
    };
    for (producer, own) in
        testing::databases("first", &NONE).await.iter().zip(testing::databases("second", &NONE).await)
    {
        let log = Log::open("first", &producer.database).await.expect("open");
        let mut tx = producer.database.begin().await.expect("begin");
        let error = log.publish(&mut tx, &[event(0), sized("large", MAX_EVENT_BYTES)]).await;
        let text = error.expect_err("too large").to_string();
        assert!(text.starts_with(&format!("{TYPE} of things/large has 83886")), "{text}");
        // The worst run: all but full, and then the largest event.
        let almost = MAX_EVENT_BYTES - 100;
        let largest = [sized("small", 2 * 1024 * 1024 - 200), sized("most", almost), sized("more", almost)];
        log.publish(&mut tx, &largest).await.expect("publish");
        tx.commit().await.expect("commit");
        let seen = Arc::new(Mutex::new(Vec::new()));
        consume_all(&log, &own.database, Notes { seen: seen.clone(), failures: Mutex::default() }).await;
        assert_eq!(*seen.lock().expect("lock"), ["things/small", "things/most", "things/more"]);
    }
}

#[tokio::test]
async fn a_log_of_another_cluster_is_refused() {
    for test in testing::databases("first", &NONE).await {
        if test.database.engine() == storage::Engine::Sqlite {
            continue;
        }
        let log = Log::open("first", &test.database).await.expect("open");
        publish(&test.database, &log, 0..2).await;
        Log::open("first", &test.database).await.expect("opens what it has written");
        let mut tx = test.database.begin().await.expect("begin");
        let later = "UPDATE outbox SET tx = tx + 8589934592";
        tx.connection().expect("open").execute(later).await.expect("a log of later transactions");
        tx.commit().await.expect("commit");
        let text = Log::open("first", &test.database).await.expect_err("refused").to_string();
        assert!(text.contains("run `pg_resetwal --epoch=3`"), "{text}");
    }
}
