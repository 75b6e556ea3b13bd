//! Sets aside a newest manifest that a power cut left torn, so that the version before it is the newest again. The
//! events of the lost version come again, because their cursor was in it.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use crate::Error;

/// What every whole manifest ends with.
const MAGIC: &[u8; 4] = b"LANC";

/// Moves torn manifests of `table` to `quarantine`. True if there were any.
pub(super) fn heal(table: &Path, quarantine: &Path) -> Result<bool, Error> {
    let versions = table.join("_versions");
    let healed = newest_torn(&versions).and_then(|mut torn| {
        let was_torn = torn.is_some();
        while let Some(manifest) = torn {
            let name = manifest.file_name().unwrap_or_default();
            fs::create_dir_all(quarantine)?;
            fs::rename(&manifest, quarantine.join(name))?;
            File::open(&versions)?.sync_all()?;
            tracing::warn!(manifest = %manifest.display(), to = %quarantine.display(), "set a torn manifest aside");
            torn = newest_torn(&versions)?;
        }
        Ok(was_torn)
    });
    healed.map_err(|source| Error::Files { path: versions, source })
}

/// The newest manifest, if it is torn.
fn newest_torn(versions: &Path) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(versions) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut manifests = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    manifests.retain(|path| path.extension().is_some_and(|extension| extension == "manifest"));
    // Lance counts manifests' names down, so that the newest comes first.
    let newest = manifests.into_iter().min();
    newest.map_or(Ok(None), |path| Ok((!is_whole(&path)?).then_some(path)))
}

fn is_whole(manifest: &Path) -> io::Result<bool> {
    let mut file = File::open(manifest)?;
    if file.metadata()?.len() < MAGIC.len() as u64 {
        return Ok(false);
    }
    let mut end = [0; MAGIC.len()];
    file.seek(SeekFrom::End(-4))?;
    file.read_exact(&mut end)?;
    Ok(end == *MAGIC)
}
