//! RunSource, more than once: what is new and only that, exactly once, however a run ended.

use arrow::{array::AsArray, ipc::reader::StreamReader};
use futures::StreamExt;
use omnimesh_proto::ingest::v1::RecordsLanded;
use prost::Message;
use storage::sqlx::{AnyConnection, Connection, Executor};
use tonic::Code;

use crate::{
    sandbox::{Sandbox, reason},
    silo::{Silo, document, row},
};

/// What landed so far, with its object and position, in the order in which it landed.
pub(crate) async fn landed(sandbox: &Sandbox, system: &str) -> Vec<(String, String, String)> {
    let records = landed_with_bytes(sandbox, system).await;
    records.into_iter().map(|(object, position, payload, _)| (object, position, payload)).collect()
}

/// The same, with the records' own bytes where they are not those of their payloads.
pub(crate) async fn landed_with_bytes(
    sandbox: &Sandbox,
    system: &str,
) -> Vec<(String, String, String, Option<Vec<u8>>)> {
    let due: i64 = sandbox.source(system).await.entities.iter().map(|entity| entity.landed_count).sum();
    let mut events = sandbox.follow("omnimesh.ingest.v1.RecordsLanded").await;
    let mut records = Vec::new();
    while records.len() < due as usize {
        let event = events.next().await.expect("open");
        let landed = RecordsLanded::decode(event.payload).expect("a payload");
        if landed.system != system {
            continue;
        }
        let before = records.len();
        for batch in StreamReader::try_new(&*landed.records, None).expect("an Arrow stream") {
            let batch = batch.expect("a batch");
            let (positions, payloads) =
                (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            let bytes = batch.column(2).as_binary::<i32>();
            for ((position, payload), bytes) in positions.iter().zip(payloads).zip(bytes) {
                let text = |text: Option<&str>| text.expect("a text").to_owned();
                let record =
                    (landed.object.clone(), text(position), text(payload), bytes.map(<[u8]>::to_vec));
                records.push(record);
            }
        }
        assert_eq!(landed.record_count as usize, records.len() - before);
        assert_eq!(!landed.columns.is_empty(), landed.object.ends_with(".csv"), "{}", landed.object);
    }
    records
}

#[tokio::test]
async fn run_source_again_changes_nothing() {
    let silo = Silo::new();
    let write = || {
        silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50"), "junk".to_owned()]);
        silo.write("pos/330/b.csv", "Bon;Kasse");
        silo.write("pos/330/c.csv", "");
    };
    write();
    let sandbox = Sandbox::new(silo.source("pos")).await;
    sandbox.run("pos").await.expect("a run");
    let events = async || (sandbox.events("ingest").await.len(), sandbox.events("order").await.len());
    let (source, before) = (sandbox.source("pos").await, events().await);
    // Files that were only touched are read again, but say nothing new.
    for touch in [false, true] {
        if touch {
            write();
        }
        let end = sandbox.run("pos").await.expect("a run");
        assert_eq!((end.record_count, end.quarantined_count), (0, 0));
        assert_eq!(sandbox.source("pos").await, source);
        assert_eq!(events().await, before);
    }
}

#[tokio::test]
async fn run_source_lands_records_unaltered() {
    let silo = Silo::new();
    let odd = r#"{"event_id":"1",  "x": [1.50]}"#;
    silo.write("events/views/a.jsonl", &format!("{odd}\r\n\nnot json"));
    let sandbox = Sandbox::new(silo.source("events")).await;
    sandbox.run("events").await.expect("a run");
    let record =
        |position: &str, payload: &str| ("views/a.jsonl".to_owned(), position.to_owned(), payload.to_owned());
    assert_eq!(landed(&sandbox, "events").await, [record("1", odd), record("3", "not json")]);
}

#[tokio::test]
async fn run_source_reads_on_where_a_file_grew() {
    let silo = Silo::new();
    let first = document("1", "SHIPPED", "0.50");
    silo.write("marketplace/a.jsonl", &format!("{first}\n"));
    let sandbox = Sandbox::new(silo.source("marketplace")).await;
    sandbox.run("marketplace").await.expect("a run");
    silo.write("marketplace/a.jsonl", &format!("{first}\n{}\n", document("2", "SHIPPED", "0.50")));
    let end = sandbox.run("marketplace").await.expect("a run");
    assert_eq!(end.record_count, 1);
    assert_eq!(sandbox.counts("marketplace", "orders").await, [2, 2, 0, 1]);
    assert_eq!(
        landed(&sandbox, "marketplace")
            .await
            .iter()
            .map(|(_, position, _)| position.as_str())
            .collect::<Vec<_>>(),
        ["1", "2"]
    );
}

#[tokio::test]
async fn run_source_reads_a_receipt_again_that_a_file_ended_in() {
    let silo = Silo::new();
    let (first, second) = (row("3-1", 1, "7", 2, "1.50"), row("3-1", 2, "8", 1, "2.00"));
    silo.pos("pos/330/a.csv", std::slice::from_ref(&first));
    let sandbox = Sandbox::new(silo.source("pos")).await;
    sandbox.run("pos").await.expect("a run");
    silo.pos("pos/330/a.csv", &[first, second, row("3-2", 1, "7", 1, "1")]);
    sandbox.run("pos").await.expect("a run");
    assert_eq!(sandbox.order("pos", "330/3-1").await.total_minor, 350);
    assert_eq!(sandbox.counts("pos", "receipts").await, [3, 3, 0, 1]);
}

#[tokio::test]
async fn run_source_takes_a_file_that_became_another_for_newer() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50"), "junk".to_owned()]);
    let sandbox = Sandbox::new(silo.source("pos")).await;
    sandbox.run("pos").await.expect("a run");
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 3, "1.50")]);
    sandbox.run("pos").await.expect("a run");
    assert_eq!(sandbox.counts("pos", "receipts").await, [1, 1, 0, 1]);
    assert_eq!(sandbox.order("pos", "330/3-1").await.lines[0].quantity, 3);
    assert_eq!(sandbox.quarantined().await, []);
}

#[tokio::test]
async fn run_source_takes_corrected_files_in_any_order() {
    let files = [
        ("pos/330/d.csv", vec![row("3-1", 1, "7", 9, "9.00")]),
        ("pos/330/d.late.csv", vec![row("3-2", 1, "7", 1, "1.00")]),
        ("pos/330/d.v2.csv", vec![row("3-1", 1, "7", 2, "1.50")]),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let silo = Silo::new();
        let sandbox = Sandbox::new(silo.source("pos")).await;
        for index in order {
            silo.pos(files[index].0, &files[index].1);
            sandbox.run("pos").await.expect("a run");
        }
        assert_eq!(sandbox.order("pos", "330/3-1").await.total_minor, 150);
        assert_eq!(sandbox.order("pos", "330/3-2").await.total_minor, 100);
        assert_eq!(sandbox.all_orders().await.len(), 2);
    }
}

/// Holds the one place where `domain` can write.
async fn hold(sandbox: &Sandbox, domain: &str) -> AnyConnection {
    let directory = sandbox.storage.url.strip_prefix("sqlite:").expect("a directory");
    let mut held =
        AnyConnection::connect(&format!("sqlite://{directory}/{domain}.db")).await.expect("a database");
    held.execute("BEGIN IMMEDIATE").await.expect("begun");
    held
}

#[tokio::test]
async fn run_source_refuses_a_second_run_meanwhile() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50")]);
    let sandbox = Sandbox::new(silo.source("pos")).await;
    let mut held = hold(&sandbox, "ingest").await;
    let mut first = sandbox.start_run("pos").await.expect("a run");
    let status = sandbox.run("pos").await.expect_err("busy");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "RUN_IN_PROGRESS"));
    held.execute("ROLLBACK").await.expect("ended");
    let mut done = false;
    while let Some(message) = first.message().await.expect("progress") {
        done = message.done;
    }
    assert!(done);
    assert_eq!(sandbox.counts("pos", "receipts").await, [1, 1, 0, 1]);
}

#[tokio::test]
async fn run_source_ends_with_its_stream() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50"), "junk".to_owned()]);
    let sandbox = Sandbox::new(silo.source("pos")).await;
    let mut held = hold(&sandbox, "order").await;
    let mut run = sandbox.start_run("pos").await.expect("a run");
    while run.message().await.expect("open").expect("progress").object_count == 0 {}
    drop(run);
    held.execute("ROLLBACK").await.expect("ended");
    sandbox.run_when_free("pos").await;
    assert_eq!(sandbox.counts("pos", "receipts").await, [2, 1, 1, 1]);
    assert_eq!(landed(&sandbox, "pos").await.len(), 2);
}
