//! The service's own tables on both engines: the same runs come to the same.

use std::sync::Arc;

use crate::{
    domains::Domains,
    sandbox::Sandbox,
    silo::{Silo, row},
};

#[tokio::test]
async fn store_keeps_the_same_on_both_engines() {
    let silo = Silo::new();
    for file in 0..600 {
        silo.pos(&format!("pos/330/{file}.csv"), &[row(&format!("3-{file}"), 1, "7", 1, "1"), format!("junk {file}")]);
    }
    let mut ends = Vec::new();
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let sqlite = storage::Config { url: format!("sqlite:{}", directory.path().display()) };
    for storage in [sqlite, storage::testing::postgres_database().await] {
        let domains = Domains::new();
        let sandbox = Sandbox::start(storage, Arc::clone(&domains), silo.source("pos")).await.expect("registered");
        sandbox.run("pos").await.expect("a run");
        silo.pos("pos/330/0.csv", &[row("3-0", 1, "7", 2, "1"), "junk 0".to_owned()]);
        sandbox.run("pos").await.expect("a run");
        let name = sandbox.records("").await.remove(0).name;
        sandbox.replay(&name, &row("4-1", 1, "7", 1, "1"), "").await.expect("taken");
        sandbox.run("pos").await.expect("a run");
        assert_eq!(sandbox.counts("pos", "receipts").await, [1200, 601, 599, 600]);
        let mut source = sandbox.source("pos").await;
        (source.update_time, source.etag) = (None, String::new());
        ends.push((source, domains.held().orders.len()));
        silo.pos("pos/330/0.csv", &[row("3-0", 1, "7", 1, "1"), "junk 0".to_owned()]);
    }
    assert_eq!(ends[0], ends[1]);
}
