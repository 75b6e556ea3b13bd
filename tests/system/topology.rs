//! One process or one per role, SQLite or PostgreSQL: the same sources come to the same end.

use crate::{
    client::run_sources,
    deployment::{Deployment, admin_key, edge_address},
    report::differences,
    split::Split,
};

/// Another order than the demo's: orders before the persons and products that they name.
const SOURCES: [&str; 6] = ["stock", "pos", "marketplace", "shop", "loyalty", "events"];

#[tokio::test]
async fn the_end_is_the_same_on_every_engine_and_topology() {
    let reference = Deployment::embedded().of_events();
    reference.load().await;
    let expected = reference.verify().await;

    let postgres = Deployment::postgres().await.of_events();
    postgres.load().await;
    assert_eq!(differences(&postgres.verify().await, &expected), [""; 0], "one process on PostgreSQL");

    for (engine, deployment) in
        [("SQLite", Deployment::embedded()), ("PostgreSQL", Deployment::postgres().await)]
    {
        let silos = deployment.share_silos(&reference);
        let sources = ingest::demo_sources(&silos, None).expect("the demo's sources");
        let split = Split::start(&deployment, sources).await;
        let home = split.home("edge");
        run_sources(edge_address(&home), admin_key(&home), &SOURCES).await;
        deployment.lake_holds(&expected["lake"]).await;
        split.stop().await;
        assert_eq!(
            differences(&deployment.verify().await, &expected),
            [""; 0],
            "a process per role on {engine}"
        );
    }
}
