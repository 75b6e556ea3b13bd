//! Sets aside a newest manifest that a power cut left torn, so that the version before it is the newest again, and the
//! tags on its version, whose number another one will have. The events of the lost version come again. Until they have,
//! where it was set aside stays as a mark: whoever opens the table first may be killed before that, or may not be its
//! exporter.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use lance::dataset::refs::TagContents;
use lance_table::io::commit::ManifestNamingScheme;

use crate::Error;

/// What every whole manifest ends with.
const MAGIC: &[u8; 4] = b"LANC";

/// Moves torn manifests of `table` to `quarantine`. True if that is there, for these or for those of before.
pub(super) fn heal(table: &Path, quarantine: &Path) -> Result<bool, Error> {
    let versions = table.join("_versions");
    let healed = newest_torn(&versions).and_then(|mut torn| {
        while let Some(manifest) = torn {
            let tags = tags_on(&manifest, table)?;
            fs::create_dir_all(quarantine)?;
            // In this order: who is killed in between finds the manifest torn again.
            tags.iter().chain([&manifest]).try_for_each(|file| set_aside(file, quarantine))?;
            let tags: Vec<_> = tags.iter().filter_map(|tag| tag.file_stem()).collect();
            let (manifest, to) = (manifest.display(), quarantine.display());
            tracing::warn!(%manifest, ?tags, %to, "set a torn manifest aside, and the tags on its version");
            torn = newest_torn(&versions)?;
        }
        quarantine.try_exists()
    });
    healed.map_err(|source| Error::Files { path: versions, source })
}

/// The newest manifest, if it is torn.
fn newest_torn(versions: &Path) -> io::Result<Option<PathBuf>> {
    // Lance counts manifests' names down, so that the newest comes first.
    let newest = files(versions, "manifest")?.into_iter().min();
    newest.map_or(Ok(None), |path| Ok((!is_whole(&path)?).then_some(path)))
}

/// The tags of `table` on the version of a manifest. A branch counts versions of its own.
fn tags_on(manifest: &Path, table: &Path) -> io::Result<Vec<PathBuf>> {
    let name = manifest.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let version = ManifestNamingScheme::V2.parse_version(name);
    let mut tags = files(&table.join("_refs/tags"), "json")?;
    tags.retain(|tag| {
        let told = fs::read(tag).ok().and_then(|told| serde_json::from_slice::<TagContents>(&told).ok());
        told.is_some_and(|told| told.branch.is_none() && Some(told.version) == version)
    });
    Ok(tags)
}

/// What is in a directory by names with that extension; nothing if it is not there.
fn files(directory: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    Ok(files)
}

/// Moves a file to `quarantine`.
fn set_aside(file: &Path, quarantine: &Path) -> io::Result<()> {
    fs::rename(file, quarantine.join(file.file_name().unwrap_or_default()))?;
    File::open(quarantine)?.sync_all()?;
    File::open(file.parent().unwrap_or(file))?.sync_all()
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
