//! Makes a table's files survive a power cut. Lance writes each file once, under a name of its own, and syncs none.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::Error;

/// What of a table is known to be on disk. Files that were there before this process count as unknown.
#[derive(Debug, Default)]
pub(super) struct Durable {
    files: HashSet<PathBuf>,
}

impl Durable {
    /// Returns once every file of the table, and every name, is on disk.
    pub(super) async fn sync(&mut self, table: &Path) -> Result<(), Error> {
        let mut files = std::mem::take(&mut self.files);
        let table = table.to_owned();
        let (files, synced) = tokio::task::spawn_blocking(move || {
            let synced = sync(&table, &mut files).map_err(|source| Error::Files { path: table, source });
            (files, synced)
        })
        .await?;
        self.files = files;
        synced
    }
}

/// Syncs files not yet in `known` below `directory`, then the directory, if a name in it is new.
fn sync(directory: &Path, known: &mut HashSet<PathBuf>) -> io::Result<()> {
    let mut has_news = false;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let is_new = !known.contains(&path);
        if entry.file_type()?.is_dir() {
            sync(&path, known)?;
        } else if is_new {
            match File::open(&path) {
                Ok(file) => file.sync_all()?,
                // Lance's staging files come and go.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
        }
        has_news |= is_new;
        known.insert(path);
    }
    if has_news {
        File::open(directory)?.sync_all()?;
        if let Some(parent) = directory.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}
