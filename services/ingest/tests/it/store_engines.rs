//! The service's own tables on both engines: the same runs come to the same.

use crate::{
    sandbox::Sandbox,
    silo::{Silo, row},
};

#[tokio::test]
async fn store_keeps_the_same_on_both_engines() {
    let silo = Silo::new();
    let first =
        |quantity| silo.pos("pos/330/0.csv", &[row("3-0", 1, "7", quantity, "1"), "junk 0".to_owned()]);
    for file in 1..600 {
        silo.pos(
            &format!("pos/330/{file}.csv"),
            &[row(&format!("3-{file}"), 1, "7", 1, "1"), format!("junk {file}")],
        );
    }
    let mut ends = Vec::new();
    let definitions = || silo.source("pos");
    for sandbox in Sandbox::on_both_engines(definitions).await {
        first(1);
        sandbox.run("pos").await.expect("a run");
        first(2);
        sandbox.run("pos").await.expect("a run");
        let name = sandbox.records("").await.remove(0).name;
        sandbox.replay(&name, &row("4-1", 1, "7", 1, "1"), "").await.expect("taken");
        sandbox.run("pos").await.expect("a run");
        assert_eq!(sandbox.counts("pos", "receipts").await, [1200, 601, 599, 600]);
        let mut source = sandbox.source("pos").await;
        (source.update_time, source.etag) = (None, String::new());
        ends.push((source, sandbox.all_orders().await.len()));
    }
    assert_eq!(ends[0], ends[1]);
}
