//! What a library says of a failure, as a user can make use of it.

use std::fmt::Display;

/// What begins where a library asks for a report of its own defect, or shows where it was.
const ASIDES: [&str; 2] = ["This issue was likely caused by", "backtrace:"];

/// The text in one line, without lines of source code and without where another project takes reports.
pub(super) fn plain(said: &impl Display) -> String {
    let said = said.to_string();
    let end = ASIDES.iter().filter_map(|aside| said.find(aside)).min();
    let words = said.get(..end.unwrap_or(said.len())).unwrap_or_default().split_whitespace();
    let words: Vec<_> = words.filter(|word| !is_of_source_code(word)).collect();
    words.join(" ").trim_end_matches([',', ':', ';', '.', ' ']).to_owned()
}

/// Whether it is a place such as `/cargo/registry/lance/src/dataset.rs:12:3`, or announces one.
fn is_of_source_code(word: &str) -> bool {
    word == "location:"
        || word.rsplit_once(".rs:").is_some_and(|(_, place)| place.starts_with(char::is_numeric))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_only_its_authors_can_use_is_left_out() {
        for (said, plain) in [
            (
                "LanceError(IO): Object at x/y not found: No such file, /cargo/registry/src/mirror-1/\
                 lance-io-14.0.2/src/local.rs:76:22",
                "LanceError(IO): Object at x/y not found: No such file",
            ),
            (
                "Append with different schema: a is missing, location: C:\\lance\\src\\dataset.rs:1:2, b.rs:3:4",
                "Append with different schema: a is missing",
            ),
            (
                "Internal error: no field a.\nThis issue was likely caused by a bug in DataFusion's code. Please help us \
                 to resolve this by filing a bug report: https://github.com/apache/datafusion/issues",
                "Internal error: no field a",
            ),
            ("two\nlines, (b.rs:3:4) go on", "two lines, go on"),
            ("as it was", "as it was"),
        ] {
            assert_eq!(super::plain(&said), plain);
        }
    }
}
