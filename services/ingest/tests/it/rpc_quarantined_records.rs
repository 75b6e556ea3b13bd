//! GetQuarantinedRecord, ListQuarantinedRecords and ReplayQuarantinedRecord.

use omnimesh_proto::ingest::v1 as pb;
use tonic::Code;

use crate::{
    sandbox::{Sandbox, reason},
    silo::{Silo, document, row},
};

const REQUEST_ID: &str = "0198b2f0-0000-7000-8000-000000000001";
const NOBODY: &str = "quarantinedRecords/0198b2f0-0000-7000-8000-00000000dead";

#[tokio::test]
async fn get_quarantined_record_returns_what_was_put_aside() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &["junk".to_owned()]);
    let sandbox = Sandbox::new(silo.source("pos")).await;
    sandbox.run("pos").await.expect("a run");
    let listed = sandbox.records("").await.remove(0);
    let get = |name: &str| {
        let (mut client, name) = (sandbox.client.clone(), name.to_owned());
        async move { client.get_quarantined_record(pb::GetQuarantinedRecordRequest { name }).await }
    };
    let record = get(&listed.name).await.expect("a record").into_inner().record;
    assert_eq!(record, Some(listed));
    assert_eq!(get(NOBODY).await.expect_err("absent").code(), Code::NotFound);
    assert_eq!(get("records/1").await.expect_err("invalid").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn list_quarantined_records_pages_and_filters() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &["junk 1".to_owned(), "junk 2".to_owned(), "junk 3".to_owned()]);
    silo.write("marketplace/a.jsonl", "junk 4");
    let sandbox = Sandbox::new(silo.sources()).await;
    sandbox.run("pos").await.expect("a run");
    sandbox.run("marketplace").await.expect("a run");
    assert_eq!(sandbox.records("").await.len(), 4);
    assert_eq!(sandbox.records("system = \"pos\" AND entity = receipts").await.len(), 3);
    assert_eq!(sandbox.records("system != pos").await[0].payload, "junk 4");

    let mut request = pb::ListQuarantinedRecordsRequest { page_size: 3, ..Default::default() };
    let list = |request: pb::ListQuarantinedRecordsRequest| {
        let mut client = sandbox.client.clone();
        async move { client.list_quarantined_records(request).await.map(tonic::Response::into_inner) }
    };
    let first = list(request.clone()).await.expect("a page");
    request.page_token = first.next_page_token;
    let second = list(request.clone()).await.expect("a page");
    assert_eq!((first.records.len(), second.records.len(), second.next_page_token.as_str()), (3, 1, ""));
    for filter in ["payload = x", "system >"] {
        let request = pb::ListQuarantinedRecordsRequest { filter: filter.to_owned(), ..Default::default() };
        assert_eq!(list(request).await.expect_err("refused").code(), Code::InvalidArgument);
    }
    let request = pb::ListQuarantinedRecordsRequest { order_by: "system".to_owned(), ..Default::default() };
    assert_eq!(list(request).await.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn replay_quarantined_record_takes_an_edited_payload() {
    let silo = Silo::new();
    silo.write("marketplace/a.jsonl", document("1", "LOST", "0.50"));
    let sandbox = Sandbox::new(silo.source("marketplace")).await;
    sandbox.run("marketplace").await.expect("a run");
    let name = sandbox.records("").await.remove(0).name;

    let status = sandbox.replay(&name, "", "").await.expect_err("still bad");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "RECORD_STILL_BAD"));
    assert!(status.message().contains("`LOST` is no status"), "{}", status.message());
    let good = document("1", "SHIPPED", "0.50");
    let refused = good.replace("\"sku\":\"7\"", "\"sku\":\"7/8\"");
    let status = sandbox.replay(&name, &refused, REQUEST_ID).await.expect_err("refused there");
    assert!(status.message().contains("lines[0].sku: holds"), "{}", status.message());

    // The order and its buyer; the same request again gets the same answer.
    for _ in 0..2 {
        assert_eq!(sandbox.replay(&name, &good, REQUEST_ID).await.expect("taken"), 2);
    }
    let status = sandbox.replay(&name, "other", REQUEST_ID).await.expect_err("another request");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    assert_eq!(sandbox.replay(&name, &good, "").await.expect_err("gone").code(), Code::NotFound);
    assert_eq!(sandbox.counts("marketplace", "orders").await, [1, 1, 0, 1]);
    assert_eq!(sandbox.order("marketplace", "1").await.total_minor, 50);
    assert_eq!(sandbox.quarantined().await, []);
}

#[tokio::test]
async fn replay_quarantined_record_does_a_request_once() {
    let silo = Silo::new();
    silo.write("marketplace/a.jsonl", document("1", "LOST", "0.50"));
    let sources = || silo.source("marketplace");
    for sandbox in Sandbox::on_both_engines(sources).await {
        sandbox.run("marketplace").await.expect("a run");
        let name = sandbox.records("").await.remove(0).name;
        let good = document("1", "SHIPPED", "0.50");
        let replays = (0..8).map(|_| sandbox.replay(&name, &good, REQUEST_ID));
        for answer in futures::future::join_all(replays).await {
            assert_eq!(answer.expect("taken"), 2);
        }
        assert_eq!(sandbox.counts("marketplace", "orders").await, [1, 1, 0, 1]);
    }
}

#[tokio::test]
async fn replay_quarantined_record_completes_the_order_of_a_row() {
    let silo = Silo::new();
    let rows = [
        row("3-1", 1, "7", 1, "1.00"),
        row("3-1", 2, "8", 1, "x"),
        row("3-1", 3, "9", 1, "y"),
        row("3-2", 1, "7", 1, "1.00"),
    ];
    silo.pos("pos/330/a.csv", &rows);
    let definitions = || silo.source("pos");
    for sandbox in Sandbox::on_both_engines(definitions).await {
        sandbox.run("pos").await.expect("a run");
        let total = async || sandbox.order("pos", "330/3-1").await.total_minor;
        assert_eq!(total().await, 100);
        let mut records = sandbox.records("").await;
        records.sort_by(|a, b| a.position.cmp(&b.position));
        assert_eq!(
            sandbox.replay(&records[0].name, &row("3-1", 2, "8", 1, "2.00"), "").await.expect("taken"),
            1
        );
        assert_eq!(total().await, 300);
        assert_eq!(sandbox.counts("pos", "receipts").await, [4, 3, 1, 1]);
        // The row that was taken before stays as it was edited.
        assert_eq!(
            sandbox.replay(&records[1].name, &row("3-1", 3, "9", 1, "4.00"), "").await.expect("taken"),
            1
        );
        assert_eq!(total().await, 700);
        assert_eq!(sandbox.counts("pos", "receipts").await, [4, 4, 0, 1]);
        sandbox.run("pos").await.expect("a run");
        assert_eq!(total().await, 700);
    }
}

#[tokio::test]
async fn replay_quarantined_record_sends_whole_files_back_to_their_source() {
    let silo = Silo::new();
    silo.write("pos/330/a.csv", "Bon;Kasse");
    let sandbox = Sandbox::new(silo.source("pos")).await;
    sandbox.run("pos").await.expect("a run");
    let name = sandbox.records("").await.remove(0).name;
    let status = sandbox.replay(&name, "", "").await.expect_err("a file");
    assert!(status.message().contains("correct the file and run the source again"), "{}", status.message());
}
