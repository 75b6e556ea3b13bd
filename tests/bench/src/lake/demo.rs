//! The loaded demo, and what is made of its lake for both sides.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use arrow::{array::RecordBatch, compute::concat_batches, ipc::reader::FileReader};
use tokio::time::{interval, timeout};

use crate::{node::Node, peer::python};

const INPUTS: &str = include_str!("inputs.py");
/// A file that is there once all of the inputs are.
const LOADED: &str = "loaded";
/// The table of vectors, which there is only with the text model.
pub(crate) const VECTORS: &str = "products__wl256";
/// How long anything may be waited for.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(crate) struct Demo {
    binary: PathBuf,
    directory: PathBuf,
}

impl Demo {
    /// Loads the full demo, unless it has been loaded there.
    pub(crate) async fn load(binary: &Path, directory: &Path) -> anyhow::Result<Self> {
        let demo = Self { binary: binary.to_owned(), directory: directory.to_owned() };
        if directory.join(LOADED).exists() {
            return Ok(demo);
        }
        silos::locate_dataset()?;
        fs::create_dir_all(directory)?;
        let node = Node::up(binary, &demo.data_dir(), &["--demo"]).await?;
        eprintln!("the demo is loaded, in {:.0} s", node.started_in.as_secs_f64());
        node.stop().await?;
        let vectors = demo.lake().join(format!("embeddings/{VECTORS}.lance"));
        anyhow::ensure!(vectors.is_dir(), "the text model was not there: run `make text-model` first");
        python(INPUTS, &[&demo.lake(), directory]).await?;
        File::create(directory.join(LOADED))?;
        Ok(demo)
    }

    /// Starts it again.
    pub(crate) async fn up(&self) -> anyhow::Result<Node> {
        Node::up(&self.binary, &self.data_dir(), &[]).await
    }

    fn data_dir(&self) -> PathBuf {
        self.directory.join("demo")
    }

    pub(crate) fn lake(&self) -> PathBuf {
        self.data_dir().join("lake")
    }

    /// Where the inputs are, and whatever is made of them.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads a file of Arrow.
    pub(crate) fn read(&self, name: &str) -> anyhow::Result<Vec<RecordBatch>> {
        let path = self.directory.join(format!("{name}.arrow"));
        let file = File::open(&path).with_context(|| format!("there is no {}", path.display()))?;
        Ok(FileReader::try_new(file, None)?.collect::<Result<_, _>>()?)
    }

    /// Reads a file of Arrow in one piece.
    pub(crate) fn read_whole(&self, name: &str) -> anyhow::Result<RecordBatch> {
        let batches = self.read(name)?;
        let first = batches.first().with_context(|| format!("{name} has no rows"))?;
        Ok(concat_batches(&first.schema(), &batches)?)
    }
}

/// Looks again and again until something is there.
pub(crate) async fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let looking = async {
        let mut pace = interval(Duration::from_millis(200));
        loop {
            pace.tick().await;
            if let Some(found) = look().await? {
                return anyhow::Ok(found);
            }
        }
    };
    timeout(PATIENCE, looking).await.with_context(|| format!("{what}: not within {PATIENCE:?}"))?
}

/// How many rows there are.
pub(crate) fn count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}
