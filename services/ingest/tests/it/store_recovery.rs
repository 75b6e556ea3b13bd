//! Runs that break off at any step, on both engines: the next one completes them with nothing lost and nothing doubled.

use std::collections::BTreeMap;

use storage::{
    Database,
    sqlx::{self, AnyConnection, Connection, Executor, migrate::Migrator},
};
use tonic::Code;

use crate::{
    rpc_run_source_again::landed,
    sandbox::{GRANTS, Sandbox, reason},
    silo::{POS_HEADER, Silo, row},
};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// What ingest may do where it may not hand over orders.
const WITHOUT_ORDERS: &[&str] = &["identity.write", "catalog.write", "inventory.write"];

const RECEIPTS: [usize; 3] = [700, 3_000, 700];
const JUNK: i64 = 44 + 7 * 700;

/// Files of several portions, with junk among them; one is longer than a portion, and one has a bad row after each
/// good one, so that wherever a batch ends it ends within an order.
fn large(silo: &Silo) {
    for (file, receipts) in RECEIPTS.into_iter().enumerate() {
        let mut rows = Vec::new();
        for receipt in 0..receipts {
            let id = format!("{file}-{receipt}");
            for line in 1..=7 {
                rows.push(row(&id, line, "7", 1, "0.25"));
                if file == 2 {
                    rows.push(format!("junk {receipt}"));
                }
            }
            if receipt % 100 == 3 {
                rows.push(format!("junk {receipt}"));
            }
        }
        silo.pos(&format!("pos/33{file}/a.csv"), &rows);
    }
}

/// Nothing is lost and nothing is there twice.
async fn check_large(sandbox: &Sandbox, silo: &Silo) {
    let receipts: usize = RECEIPTS.iter().sum();
    let applied = receipts as i64 * 7;
    assert_eq!(sandbox.counts("pos", "receipts").await, [applied + JUNK, applied, JUNK, 3]);
    let orders = sandbox.all_orders().await;
    assert_eq!(orders.len(), receipts);
    assert!(orders.values().all(|order| (order.lines.len(), order.total_minor) == (7, 175)));

    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for (object, _, payload) in landed(sandbox, "pos").await {
        let file = files.entry(object).or_insert_with(|| format!("{POS_HEADER}\n"));
        file.push_str(&payload);
        file.push('\n');
    }
    for (object, landed) in files {
        let written = std::fs::read_to_string(silo.path(&format!("pos/{object}"))).expect("a file");
        assert!(landed == written, "{object} is not as it was read");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_source_broken_off_is_taken_up() {
    let silo = Silo::new();
    large(&silo);
    for quarter in 0..4 {
        let definitions = || silo.source("pos");
        for sandbox in Sandbox::on_both_engines(definitions).await {
            let mut run = sandbox.start_run("pos").await.expect("a run");
            while let Some(message) = run.message().await.expect("progress") {
                if message.object_count > 0 && message.record_count >= quarter * 7_700 {
                    break;
                }
            }
            drop(run);
            sandbox.run_when_free("pos").await;
            check_large(&sandbox, &silo).await;
            sandbox.run("pos").await.expect("a run");
            check_large(&sandbox, &silo).await;
        }
    }
}

#[tokio::test]
async fn run_source_applies_what_landed_before() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50"), "junk".to_owned()]);
    let definitions = || silo.source("pos");
    for sandbox in Sandbox::on_both_engines(definitions).await {
        let sandbox = sandbox.restart(silo.source("pos"), WITHOUT_ORDERS).await;
        for _ in 0..2 {
            let status = sandbox.run("pos").await.expect_err("refused");
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "PEER_FAILED"));
            assert_eq!(sandbox.counts("pos", "receipts").await, [2, 0, 0, 1]);
        }
        let sandbox = sandbox.restart(silo.source("pos"), GRANTS).await;
        sandbox.run("pos").await.expect("a run");
        assert_eq!(sandbox.counts("pos", "receipts").await, [2, 1, 1, 1]);
        assert_eq!(sandbox.order("pos", "330/3-1").await.total_minor, 150);
        assert_eq!(landed(&sandbox, "pos").await.len(), 2);
    }
}

#[tokio::test]
async fn run_source_settles_what_was_applied_before() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50"), "junk".to_owned()]);
    let definitions = || silo.source("pos");
    for mut sandbox in Sandbox::on_both_engines(definitions).await {
        sandbox.run("pos").await.expect("a run");
        let (quarantined, updated) =
            (sandbox.quarantined().await, sandbox.order("pos", "330/3-1").await.update_time);
        sandbox.stop().await;
        // As if the service had died before it noted what the domains had acknowledged.
        let database = Database::open(&sandbox.storage, "ingest", &MIGRATIONS).await.expect("a database");
        let mut tx = database.begin().await.expect("begun");
        for sql in [
            "UPDATE objects SET applied_count = 0, quarantined_count = 0, applied_to = -1",
            "DELETE FROM quarantine",
        ] {
            sqlx::query(sql).execute(tx.connection().expect("open")).await.expect(sql);
        }
        tx.commit().await.expect("committed");
        drop(database);
        let sandbox = sandbox.restart(silo.source("pos"), GRANTS).await;
        assert_eq!(sandbox.counts("pos", "receipts").await, [2, 0, 0, 1]);
        sandbox.run("pos").await.expect("a run");
        assert_eq!(sandbox.counts("pos", "receipts").await, [2, 1, 1, 1]);
        assert_eq!(sandbox.quarantined().await, quarantined);
        assert_eq!(sandbox.order("pos", "330/3-1").await.update_time, updated);
    }
}

#[tokio::test]
async fn run_source_takes_up_a_file_as_it_became() {
    let silo = Silo::new();
    let definitions = || silo.source("pos");
    for sandbox in Sandbox::on_both_engines(definitions).await {
        silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 9, "9.00"), "junk".to_owned()]);
        silo.pos("pos/330/b.csv", &[row("3-2", 1, "7", 1, "1.00")]);
        sandbox.run("pos").await.expect("a run");
        // One file grows, whose first rows are far back in our own log; the other becomes another.
        silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50")]);
        silo.pos("pos/330/b.csv", &[row("3-2", 1, "7", 1, "1.00"), row("3-3", 1, "7", 1, "3.00")]);
        let sandbox = sandbox.restart(silo.source("pos"), WITHOUT_ORDERS).await;
        sandbox.run("pos").await.expect_err("refused");
        let sandbox = sandbox.restart(silo.source("pos"), GRANTS).await;
        sandbox.run("pos").await.expect("a run");
        assert_eq!(sandbox.counts("pos", "receipts").await, [3, 3, 0, 2]);
        let totals: Vec<_> = sandbox.all_orders().await.values().map(|order| order.total_minor).collect();
        assert_eq!(totals, [150, 100, 300]);
    }
}

#[tokio::test]
async fn run_source_waits_for_what_landed_and_cannot_be_read_yet() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50")]);
    let sandbox = Sandbox::on_postgres(silo.source("pos")).await;
    let sandbox = sandbox.restart(silo.source("pos"), WITHOUT_ORDERS).await;
    // An older transaction: while it is open, nobody may read the log beyond it.
    let mut older = AnyConnection::connect(&sandbox.storage.url).await.expect("a database");
    older.execute("BEGIN").await.expect("begun");
    older.execute("SELECT pg_current_xact_id()::text").await.expect("a transaction's id");
    sandbox.run("pos").await.expect_err("refused");
    let sandbox = sandbox.restart(silo.source("pos"), GRANTS).await;
    let mut run = sandbox.start_run("pos").await.expect("a run");
    for _ in 0..20 {
        assert_eq!(sandbox.counts("pos", "receipts").await, [1, 0, 0, 1]);
    }
    older.execute("ROLLBACK").await.expect("ended");
    while run.message().await.expect("progress").is_some() {}
    assert_eq!(sandbox.counts("pos", "receipts").await, [1, 1, 0, 1]);
    assert_eq!(sandbox.order("pos", "330/3-1").await.total_minor, 150);
}
