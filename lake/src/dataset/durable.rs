//! Makes a table's files survive a power cut. Lance writes each file once, under a name of its own, and syncs none.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use futures::{StreamExt, stream};

use crate::Error;

/// Where Lance keeps a table's tags.
const TAGS: &str = "_refs";
/// Files that are synced side by side.
const AT_ONCE: usize = 8;

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
        let at = table.clone();
        let failed = |source| Error::Files { path: at.clone(), source };
        let (files, due) = tokio::task::spawn_blocking(move || due(&table, &known)).await?.map_err(failed)?;
        // Side by side they wait for the same write of the disk's journal.
        let synced = stream::iter(due).map(|path| tokio::task::spawn_blocking(move || sync(&path)));
        let mut synced = synced.buffer_unordered(AT_ONCE);
        while let Some(done) = synced.next().await {
            done?.map_err(failed)?;
        }
        self.files = files;
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

/// What there is of a table, and what of that is to be synced: whatever is not in `known`, and where its name stands.
fn due(table: &Path, known: &HashSet<PathBuf>) -> io::Result<(HashSet<PathBuf>, HashSet<PathBuf>)> {
    let mut found = HashSet::with_capacity(known.len());
    match list(table, &mut found) {
        // A table that begins without rows has no file before its manifest.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !table.exists() => {}
        done => done?,
    }
    let new = found.difference(known);
    let due = new.flat_map(|path| [Some(path.as_path()), path.parent()]).flatten().map(Path::to_owned);
    let due = due.collect();
    Ok((found, due))
}

/// A directory, and all that is in it.
fn list(directory: &Path, found: &mut HashSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => list(&entry.path(), found)?,
            false => drop(found.insert(entry.path())),
        }
    }
    found.insert(directory.to_owned());
    Ok(())
}

/// Syncs a file, or the names in a directory.
fn sync(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all(),
        // Lance's staging files come and go.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
