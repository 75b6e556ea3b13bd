//! Files stay small enough to be read at once. (Functions: clippy's `too_many_lines`, in clippy.toml.)

use crate::workspace::{self, expect_none, packages, rust_files};

const LONGEST: usize = 400;
const MEDIAN: usize = 150;

/// Every source file that is not a test, with its number of lines before its inline tests.
fn sizes() -> Vec<(usize, String)> {
    let sources = packages().iter().flat_map(|package| rust_files(package.directory.join("src")));
    let sources = sources.filter(|path| path.file_stem().is_some_and(|stem| stem != "tests"));
    let counted = sources.map(|path| {
        let text = workspace::text(&path).unwrap_or_default();
        (text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count(), path.display().to_string())
    });
    counted.collect()
}

#[test]
fn files_are_short() {
    let long = sizes().into_iter().filter(|(lines, _)| *lines > LONGEST);
    expect_none(
        "A file has more than 400 lines",
        "make it a folder of its name, split by noun, alike in every layer",
        long.map(|(lines, path)| format!("{path}: {lines}")),
    );
}

#[test]
fn the_median_file_is_short() {
    let mut sizes = sizes();
    sizes.sort();
    let (median, path) = &sizes[sizes.len() / 2];
    assert!(
        *median <= MEDIAN,
        "the median file has {median} lines ({path}), more than {MEDIAN}: split the longest ones"
    );
}
