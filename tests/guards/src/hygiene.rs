//! What no file of the project holds: grab bags, leftovers, and traces of the machine it was written on.

use std::path::{Path, PathBuf};

use crate::{
    source,
    workspace::{self, entries, expect_none, files, relative, root, rust_files},
};

#[test]
fn every_module_says_what_it_is_for() {
    let silent = rust_files("").into_iter().filter(|path| {
        let text = workspace::text(path).unwrap_or_default();
        !text.starts_with("//! ")
    });
    expect_none(
        "A module does not say what it is for",
        "begin the file with a line `//! …`",
        silent.map(|path| path.display().to_string()),
    );
}

#[test]
fn there_are_no_grab_bags() {
    const GRAB_BAGS: [&str; 9] =
        ["common", "util", "utils", "helper", "helpers", "misc", "scripts", "shared", "xtask"];
    let bags = entries("")
        .into_iter()
        .map(|entry| relative(&entry))
        .filter(|path| path.file_stem().is_some_and(|stem| GRAB_BAGS.contains(&&*stem.to_string_lossy())));
    expect_none(
        "A grab bag, which only grows",
        "name it after what it does, or move its parts to where they are used; automation is a test or a line in the Makefile",
        bags.map(|path| path.display().to_string()),
    );
}

#[test]
fn exceptions_carry_a_reason() {
    let silenced = rust_files("").into_iter().flat_map(|path| {
        let tokens = source::tokens(&path);
        let silenced = tokens.windows(2).filter(|pair| pair[0].text == "[" && pair[1].text == "allow");
        silenced.map(|pair| format!("{}:{}", path.display(), pair[1].line)).collect::<Vec<_>>()
    });
    expect_none(
        "A lint is silenced without a reason, and stays so when there is nothing left to silence",
        "write `#[expect(lint, reason = \"…\")]`, or mend the code",
        silenced,
    );
}

#[test]
fn every_test_runs() {
    let ignored = rust_files("").into_iter().flat_map(|path| {
        let tokens = source::tokens(&path);
        let ignored = tokens.windows(2).filter(|pair| pair[0].text == "[" && pair[1].text == "ignore");
        ignored.map(|pair| format!("{}:{}", path.display(), pair[0].line)).collect::<Vec<_>>()
    });
    expect_none("A test that does not run", "mend it or delete it", ignored);
}

#[test]
fn tests_wait_on_conditions() {
    let tests =
        rust_files("").into_iter().filter(|path| path.components().any(|part| part.as_os_str() == "tests"));
    let sleeping = tests.flat_map(|path| {
        let tokens = source::tokens(&path);
        let calls = tokens.windows(2).filter(|pair| pair[0].text == "sleep" && pair[1].text == "(");
        calls.map(|pair| format!("{}:{}", path.display(), pair[0].line)).collect::<Vec<_>>()
    });
    expect_none(
        "A test that sleeps is slow on a fast machine and fails on a slow one",
        "wait until the condition holds, with a deadline",
        sleeping,
    );
}

#[test]
fn nothing_is_left_for_later() {
    expect_none(
        "A note to do something later",
        "do it, or take the note away",
        lines_with(&[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")]),
    );
}

/// Built from parts, so that this file passes too.
const TRACES: [&str; 12] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/tmp/", "omni"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("npmjs", ".org"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("deb.", "debian.org"),
    concat!("arti", "factory"),
];

#[test]
fn files_hold_no_trace_of_a_machine() {
    expect_none(
        "A path or a host of one machine",
        "take paths from the environment or the configuration, and packages through their ordinary clients by name",
        lines_with(&TRACES),
    );
}

/// Lines that hold one of the strings, not as the end of a longer path or word.
fn lines_with(strings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files("").into_iter().filter(|path| !is_locked(path)) {
        for (number, line) in workspace::text(&path).unwrap_or_default().lines().enumerate() {
            let hits = strings.iter().filter(|string| stands_alone(line, string));
            found.extend(hits.map(|string| format!("{}:{}: {string}", path.display(), number + 1)));
        }
    }
    found
}

/// Package managers write their registry into these.
fn is_locked(path: &Path) -> bool {
    ["Cargo.lock", "package-lock.json"].iter().any(|name| path.ends_with(name))
}

fn stands_alone(line: &str, string: &str) -> bool {
    line.match_indices(string).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || "})_-~*".contains(letter))
    })
}

#[test]
fn the_top_level_is_what_the_architecture_says() {
    const DIRECTORIES: [&str; 8] = [".ci", ".config", "charts", "edge", "lake", "proto", "services", "tests"];
    let unknown = entries("").into_iter().filter(|entry| entry.depth() == 1 && entry.file_type().is_dir());
    let unknown = unknown.map(|entry| relative(&entry)).filter(|path| !is_one_of(path, &DIRECTORIES));
    let missing = DIRECTORIES.iter().map(PathBuf::from).filter(|path| !root().join(path).is_dir());
    expect_none(
        "A directory at the top that the architecture does not know, or lacks",
        "put it where it belongs, or change DIRECTORIES here and ARCHITECTURE.md",
        unknown.chain(missing).map(|path| path.display().to_string()),
    );
}

fn is_one_of(path: &Path, names: &[&str]) -> bool {
    names.iter().any(|name| path == Path::new(name))
}
