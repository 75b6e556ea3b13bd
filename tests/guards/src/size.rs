//! Files stay small enough to be read at once. (Functions: clippy's `too_many_lines`, in clippy.toml.)

use crate::workspace::{expect_none, packages, product_files, product_text};

const LONGEST: usize = 400;
const MEDIAN: usize = 150;

/// Every file of the product with its number of lines, tests not counted.
fn sizes() -> Vec<(usize, String)> {
    let files = packages().iter().flat_map(product_files);
    files.map(|path| (product_text(&path).lines().count(), path.display().to_string())).collect()
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
