//! The order in which sources arrive: sales before the stock that they are taken from come to the same end.

use crate::{client::run_sources, deployment::Deployment, report::differences};

/// About the opposite of the demo's order.
const SOURCES: [&str; 6] = ["pos", "marketplace", "shop", "events", "loyalty", "stock"];

#[tokio::test]
async fn the_end_is_the_same_when_stock_comes_last() {
    let reference = Deployment::embedded().of_events();
    reference.load().await;
    let expected = reference.verify().await;
    assert!(!reference.path().join("lake/_meta/runs").exists(), "it computes what was to be left alone");

    let deployment = Deployment::embedded().of_events();
    deployment.share_silos(&reference);
    let mut process = deployment.up(&[]);
    process.ready().await;
    run_sources(deployment.address(), deployment.key(), &SOURCES).await;
    deployment.lake_holds(&expected["lake"]).await;
    assert_eq!(process.stop("TERM").await.code, Some(0));
    assert_eq!(differences(&deployment.verify().await, &expected), [""; 0]);
}
