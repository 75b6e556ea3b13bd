//! Makes a table's files survive a power cut. Lance writes each file once, under a name of its own, and syncs none.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::Error;

/// Where Lance keeps a table's tags.
const TAGS: &str = "_refs";

/// What of a table is known to be on disk. Files that were there before this process count as unknown.
#[derive(Debug)]
pub(super) struct Durable {
    /// The table's directory; none in a bucket, whose store answers once an object is safe.
    directory: Option<PathBuf>,
    files: HashSet<PathBuf>,
}

impl Durable {
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, files: HashSet::new() }
    }

    /// Returns once the table's tags are on disk.
    pub(super) async fn sync_tags(&self) -> Result<(), Error> {
        let Some(table) = &self.directory else { return Ok(()) };
        // All of them: they are few, and written anew under the same name.
        Self { directory: Some(table.join(TAGS)), files: HashSet::new() }.sync().await
    }

    /// Returns once every file of the table, and every name, is on disk.
    pub(super) async fn sync(&mut self) -> Result<(), Error> {
        let Some(table) = self.directory.clone() else { return Ok(()) };
        // Unknown again if this fails or is dropped half-way.
        let known = std::mem::take(&mut self.files);
        self.files = tokio::task::spawn_blocking(move || {
            let mut files = HashSet::with_capacity(known.len());
            match sync(&table, &known, &mut files) {
                Ok(()) => Ok(files),
                // A table that begins without rows has no file before its manifest.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !table.exists() => Ok(files),
                Err(source) => Err(Error::Files { path: table, source }),
            }
        })
        .await??;
        Ok(())
    }
}

/// Writes a file as a whole: it is there afterwards, and complete, or was never there.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)?;
    let staged = path.with_extension("tmp");
    let mut file = File::create(&staged)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    File::open(directory)?.sync_all()
}

/// Syncs the files below `directory` that are not in `known`, then the directory if a name in it is new, and notes in
/// `files` what is there.
fn sync(directory: &Path, known: &HashSet<PathBuf>, files: &mut HashSet<PathBuf>) -> io::Result<()> {
    let mut has_news = false;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        // Tags alone are written anew under the same name.
        let is_new = !known.contains(&path) || path.extension().is_some_and(|kind| kind == "json");
        if entry.file_type()?.is_dir() {
            sync(&path, known, files)?;
        } else if is_new {
            match File::open(&path) {
                Ok(file) => file.sync_all()?,
                // Lance's staging files come and go.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
        }
        has_news |= is_new;
        files.insert(path);
    }
    if has_news {
        File::open(directory)?.sync_all()?;
        if let Some(parent) = directory.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}
