//! By what a changed file is known.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// When each file changed last, and how long it is. One that is missing for a moment has no stamp.
pub fn stamps(files: impl IntoIterator<Item = impl AsRef<Path>>) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |file: &Path| {
        let facts = fs::metadata(file).ok()?;
        Some((facts.modified().ok()?, facts.len()))
    };
    files.into_iter().map(|file| stamp(file.as_ref())).collect()
}
