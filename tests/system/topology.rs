//! One process or one per role, SQLite or PostgreSQL: the same sources come to the same end.

use std::{os::unix::fs::symlink, time::Duration};

use omnimesh_proto::ingest::v1::{RunSourceRequest, ingest_service_client::IngestServiceClient};
use serde_json::Value;
use tokio::time::{interval, timeout};

use crate::{
    client::grpc,
    deployment::{Deployment, admin_key, edge_address},
    process::PATIENCE,
    report::differences,
    split::Split,
};

/// Another order than the demo's: orders before the persons and products that they name.
const SOURCES: [&str; 6] = ["stock", "pos", "marketplace", "shop", "loyalty", "events"];

#[tokio::test]
async fn the_end_is_the_same_on_every_engine_and_topology() {
    let reference = Deployment::embedded();
    reference.load().await;
    let expected = reference.verify().await;

    let postgres = Deployment::postgres().await;
    postgres.load().await;
    assert_eq!(differences(&postgres.verify().await, &expected), [""; 0], "one process on PostgreSQL");

    for (engine, deployment) in
        [("SQLite", Deployment::embedded()), ("PostgreSQL", Deployment::postgres().await)]
    {
        let silos = deployment.path().join("silos");
        symlink(reference.path().join("silos"), &silos).expect("the same silos");
        let sources = ingest::demo_sources(&silos, None).expect("the demo's sources");
        let split = Split::start(&deployment, sources).await;
        run_sources(&split).await;
        lake_holds(&deployment, &expected["lake"]).await;
        split.stop().await;
        assert_eq!(
            differences(&deployment.verify().await, &expected),
            [""; 0],
            "a process per role on {engine}"
        );
    }
}

/// Runs every source to its end, through the edge.
async fn run_sources(split: &Split<'_>) {
    let home = split.home("edge");
    let mut client = IngestServiceClient::new(grpc(edge_address(&home), Some(admin_key(&home))).await);
    for source in SOURCES {
        let request = RunSourceRequest { name: format!("sources/{source}") };
        let mut messages = client.run_source(request).await.expect("a run").into_inner();
        let mut done = false;
        while let Some(message) = messages.message().await.expect("a run that goes on") {
            done = message.done;
        }
        assert!(done, "the run over {source} ended before the source did");
    }
}

/// Waits until the lake has heard everything.
async fn lake_holds(deployment: &Deployment, expected: &Value) {
    let root = deployment.path().join("lake");
    let found = async || serde_json::to_value(lake::summary(&root).await.expect("a lake")).expect("JSON");
    let mut poll = interval(Duration::from_secs(1));
    let caught_up = async {
        while found().await != *expected {
            poll.tick().await;
        }
    };
    // What is still missing then is for the caller to compare, in full.
    timeout(PATIENCE, caught_up).await.ok();
}
