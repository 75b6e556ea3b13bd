//! RunSource, more than once: what is new and only that, exactly once, however a run ended.

use std::collections::BTreeMap;

use arrow::{array::AsArray, ipc::reader::StreamReader};
use omnimesh_proto::ingest::v1::RecordsLanded;
use prost::Message;
use tonic::Code;

use crate::{
    sandbox::{Sandbox, reason},
    silo::{Silo, document, row},
};

/// What landed, by object and position.
async fn landed(sandbox: &Sandbox) -> Vec<(String, String, String)> {
    let mut records = Vec::new();
    for event in sandbox.events().await.iter().filter(|event| event.r#type == "omnimesh.ingest.v1.RecordsLanded") {
        let landed = RecordsLanded::decode(event.payload.clone()).expect("a payload");
        let mut count = 0;
        for batch in StreamReader::try_new(&*landed.records, None).expect("an Arrow stream") {
            let batch = batch.expect("a batch");
            let (positions, payloads) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            for (position, payload) in positions.iter().zip(payloads) {
                let text = |text: Option<&str>| text.expect("a text").to_owned();
                records.push((landed.object.clone(), text(position), text(payload)));
                count += 1;
            }
        }
        assert_eq!(landed.record_count, count);
    }
    records
}

#[tokio::test]
async fn run_source_again_changes_nothing() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50"), "junk".to_owned()]);
    silo.write("pos/330/b.csv", "Bon;Kasse");
    let sandbox = Sandbox::new(silo.source("pos")).await;
    sandbox.run("pos").await.expect("a run");
    let (source, events) = (sandbox.source("pos").await, sandbox.events().await.len());
    // A touched file is read again, but says nothing new.
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50"), "junk".to_owned()]);
    let end = sandbox.run("pos").await.expect("a run");
    assert_eq!((end.record_count, end.quarantined_count), (0, 0));
    assert_eq!(sandbox.source("pos").await, source);
    assert_eq!((sandbox.events().await.len(), sandbox.domains.calls()), (events, 1));
}

#[tokio::test]
async fn run_source_lands_records_unaltered() {
    let silo = Silo::new();
    let odd = r#"{"event_id":"1",  "x": [1.50]}"#;
    silo.write("events/views/a.jsonl", &format!("{odd}\r\n\nnot json"));
    let sandbox = Sandbox::new(silo.source("events")).await;
    sandbox.run("events").await.expect("a run");
    let record = |position: &str, payload: &str| ("views/a.jsonl".to_owned(), position.to_owned(), payload.to_owned());
    assert_eq!(landed(&sandbox).await, [record("1", odd), record("3", "not json")]);
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
    assert_eq!(landed(&sandbox).await.iter().map(|(_, position, _)| position.as_str()).collect::<Vec<_>>(), ["1", "2"]);
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
    assert_eq!(sandbox.domains.held().orders["pos:330/3-1"].lines[0].quantity, 3);
    assert_eq!(sandbox.quarantined().await, []);
}

#[tokio::test]
async fn run_source_takes_corrected_files_in_any_order() {
    let files = [
        ("pos/330/d.csv", vec![row("3-1", 1, "7", 9, "9.00")]),
        ("pos/330/d.late.csv", vec![row("3-2", 1, "7", 1, "1.00")]),
        ("pos/330/d.v2.csv", vec![row("3-1", 1, "7", 2, "1.50")]),
    ];
    let mut ends = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let silo = Silo::new();
        let sandbox = Sandbox::new(silo.source("pos")).await;
        for index in order {
            silo.pos(files[index].0, &files[index].1);
            sandbox.run("pos").await.expect("a run");
        }
        let held = sandbox.domains.held();
        assert_eq!(held.orders["pos:330/3-1"].lines[0].amount_minor, 150);
        ends.push(held);
    }
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Files of several portions, with junk among them; one file is longer than a portion, and no order ends with a batch.
fn large(silo: &Silo) {
    for file in 0..3 {
        let receipts = if file == 1 { 3_000 } else { 700 };
        let rows: Vec<_> = (0..receipts)
            .flat_map(|receipt| {
                let id = format!("{file}-{receipt}");
                let mut rows: Vec<_> = (1..=7).map(|line| row(&id, line, "7", 1, "0.25")).collect();
                if receipt % 100 == 3 {
                    rows.push(format!("junk {receipt}"));
                }
                rows
            })
            .collect();
        silo.pos(&format!("pos/33{file}/a.csv"), &rows);
    }
}

fn totals(sandbox: &Sandbox) -> BTreeMap<String, (usize, i64)> {
    let orders = sandbox.domains.held().orders;
    let total = |order: &omnimesh_proto::order::v1::SourceOrder| {
        (order.lines.len(), order.lines.iter().map(|line| line.amount_minor).sum())
    };
    orders.iter().map(|(key, order)| (key.clone(), total(order))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_source_broken_off_is_taken_up() {
    let silo = Silo::new();
    large(&silo);
    let undisturbed = Sandbox::new(silo.source("pos")).await;
    undisturbed.run("pos").await.expect("a run");
    let expect = totals(&undisturbed);
    assert_eq!(expect.len(), 4_400);
    assert!(expect.values().all(|total| *total == (7, 175)));
    let calls = undisturbed.domains.calls();
    assert!(calls > 3, "{calls}");

    for answered in 0..calls {
        let mut sandbox = Sandbox::new(silo.source("pos")).await;
        sandbox.domains.allow(answered);
        let run = sandbox.start_run("pos").await.expect("a run");
        sandbox.domains.called(answered + 1).await;
        drop(run);
        sandbox = sandbox.restart(silo.source("pos")).await;
        sandbox.domains.allow(1_000_000);
        sandbox.run("pos").await.expect("a run");
        assert_eq!(totals(&sandbox), expect);
        assert_eq!(sandbox.source("pos").await.entities, undisturbed.source("pos").await.entities);
        assert_eq!(sandbox.quarantined().await, undisturbed.quarantined().await);
        assert_eq!(landed(&sandbox).await, landed(&undisturbed).await);
    }
}

#[tokio::test]
async fn run_source_refuses_a_second_run_meanwhile() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50")]);
    let sandbox = Sandbox::new(silo.source("pos")).await;
    sandbox.domains.allow(0);
    let mut first = sandbox.start_run("pos").await.expect("a run");
    sandbox.domains.called(1).await;
    let status = sandbox.run("pos").await.expect_err("busy");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "RUN_IN_PROGRESS"));
    sandbox.domains.allow(1);
    let mut done = false;
    while let Some(message) = first.message().await.expect("progress") {
        done = message.done;
    }
    assert!(done);
    sandbox.run("pos").await.expect("a run");
}
