//! The binary that is measured.

use std::{env, path::PathBuf};

/// The one that was named, or else `omnimesh` beside this one.
pub(crate) fn locate(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let binary = match named {
        Some(named) => named,
        None => env::current_exe()?.with_file_name("omnimesh"),
    };
    anyhow::ensure!(binary.is_file(), "there is no {}: run `make build` first", binary.display());
    Ok(binary)
}
