//! Building: the same every time, once, and never over something else.

use std::fs;

use silos::Error;
use tempfile::TempDir;

use crate::world::{Quiet, built, config, digests};

#[tokio::test]
async fn same_seed_gives_the_same_bytes() {
    let again = TempDir::new().unwrap();
    let output = again.path().join("silos");
    let summary = silos::build(&config(output.clone()), &Quiet).await.unwrap();
    assert_eq!(summary, built().await.summary);
    assert_eq!(digests(&output), digests(&built().await.root));
}

#[tokio::test]
async fn complete_directory_is_left_as_it_is() {
    let directory = TempDir::new().unwrap();
    let output = directory.path().join("silos");
    fs::create_dir(&output).unwrap();
    fs::copy(built().await.path("silos.json"), output.join("silos.json")).unwrap();
    let summary = silos::build(&config(output.clone()), &Quiet).await.unwrap();
    assert_eq!(summary, built().await.summary);
    assert_eq!(digests(&output).len(), 1, "nothing was built");
}

#[tokio::test]
async fn remains_of_a_killed_build_are_replaced() {
    let directory = TempDir::new().unwrap();
    let output = directory.path().join("silos");
    let partial = directory.path().join("silos.partial");
    fs::create_dir_all(partial.join("pos")).unwrap();
    fs::write(partial.join("pos/stray.csv"), "half").unwrap();
    silos::build(&config(output.clone()), &Quiet).await.unwrap();
    assert!(!partial.exists());
    assert_eq!(digests(&output), digests(&built().await.root));
}

#[tokio::test]
async fn foreign_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("thesis.txt"), "precious").unwrap();
    let error = silos::build(&config(directory.path().to_owned()), &Quiet).await.unwrap_err();
    assert!(matches!(error, Error::Occupied { .. }), "{error}");
    assert!(directory.path().join("thesis.txt").exists());
}
