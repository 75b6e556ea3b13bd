//! What becomes of `prod` where the version that it is on has to go.

use tempfile::TempDir;

use super::*;
use crate::{
    Layer, Version,
    card::Card,
    columns::{batch, text},
    table::Change,
};

/// Adds rows; returns the version that has them.
async fn add(store: &Store, name: &TableName, persons: [&str; 2]) -> u64 {
    let rows = batch(vec![text("golden_id", persons.into_iter()).key(1)]).unwrap();
    let turn = store.turn().await.unwrap();
    let mut table = turn.open(name.clone()).await.unwrap();
    table.commit(&turn, Change::Append(vec![rows]), HashMap::new(), &Card::default()).await.unwrap();
    table.dataset().unwrap().version().version
}

async fn purge(store: &Store, name: &TableName, person: &str) {
    let denied = Arc::new(Denied::default().with([person]));
    let found = store.search(&name.path(), &denied, &BTreeSet::new()).await.unwrap();
    let mut table = store.open(name.clone()).await.unwrap();
    table.purge(&denied, &found.files, Timestamp::now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn prod_moves_to_what_stands_or_goes() {
    let directory = TempDir::new().unwrap();
    let store = Store::create(&directory.path().into()).unwrap();
    let name = TableName::new(Layer::Gold, "dim_made").unwrap();
    let prod = async || store.at(&name, &Version::Tag(PROD.to_owned())).await.unwrap();
    let published = add(&store, &name, ["golden-71", "golden-72"]).await;
    store.open(name.clone()).await.unwrap().tag(PROD, published).await.unwrap();
    purge(&store, &name, "golden-71").await;
    let stands = prod().await.unwrap();
    assert_eq!(stands.count_rows(None).await.unwrap(), 1);

    // Nobody has said yet that what is added now may be relied on.
    let newest = add(&store, &name, ["golden-73", "golden-74"]).await;
    assert!(newest > stands.version().version);
    purge(&store, &name, "golden-72").await;
    assert!(prod().await.is_none());
}
