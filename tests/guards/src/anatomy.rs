//! Every domain service is built alike, so that who knows one knows all.

use std::path::Path;

use crate::{
    source,
    workspace::{self, Package, domains, expect_none, root, rust_files},
};

/// `peer` is missing here because not every service has peers.
const MODULES: [&str; 9] = ["lib", "config", "grpc", "wire", "service", "domain", "store", "error", "event"];
const README_LINES: usize = 20;
const BOTH_ENGINES: [&str; 2] = ["databases", "postgres_database"];

#[test]
fn services_look_alike() {
    expect_none(
        "A service lacks a part that all services have",
        "add it, as ARCHITECTURE.md describes under \"How to add a service\"",
        domains().flat_map(missing_parts),
    );
}

fn missing_parts(domain: &Package) -> Vec<String> {
    let here = &domain.directory;
    let exists = |path: &Path| root().join(path).exists();
    let modules = MODULES.iter().filter(|module| {
        let path = here.join("src").join(module);
        !exists(&path.with_extension("rs")) && !exists(&path.join("mod.rs"))
    });
    let files = ["README.md", "tests/it/main.rs"].into_iter().filter(|file| !exists(&here.join(file)));
    let begun = [("migrations", ""), ("tests/it", "rpc_")].into_iter().filter(|(directory, prefix)| {
        let files = workspace::files(here.join(directory));
        !files.iter().any(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
    });
    let missing = modules.map(|module| format!("src/{module}.rs"));
    let missing = missing.chain(files.map(str::to_owned));
    let missing = missing.chain(begun.map(|(directory, prefix)| format!("{directory}/{prefix}*")));
    missing.map(|part| format!("{}/{part}", here.display())).collect()
}

/// SQLite comes by default: a service whose tests never ask for PostgreSQL runs on it for the first time at a user's.
#[test]
fn services_are_tested_on_both_engines() {
    let untested = domains().filter(|domain| {
        let mut tests = rust_files(domain.directory.join("tests")).into_iter();
        !tests.any(|path| source::tokens(&path).iter().any(|token| BOTH_ENGINES.contains(&&*token.text)))
    });
    expect_none(
        "A service is not tested on PostgreSQL",
        "run its tests on each of `storage::testing::databases`, or on SQLite and a `postgres_database`",
        untested.map(|domain| &domain.name),
    );
}

#[test]
fn services_say_in_short_what_they_own() {
    let long = domains().filter_map(|domain| {
        let readme = domain.directory.join("README.md");
        let lines = std::fs::read_to_string(root().join(&readme)).ok()?.lines().count();
        (lines > README_LINES).then(|| format!("{} has {lines} lines", readme.display()))
    });
    expect_none(
        "A service's README.md has more than 20 lines",
        "keep to what it owns, its RPCs, tables, events in and out, and peers",
        long,
    );
}

#[test]
fn services_register_themselves() {
    let silent = domains().map(|domain| domain.directory.join("src/lib.rs")).filter(|lib| {
        root().join(lib).exists() && !source::functions(lib).iter().any(|name| name == "register")
    });
    expect_none(
        "A service cannot be added to a server",
        "give its lib.rs `pub async fn register(config, &Peers, &mut ServerBuilder)`",
        silent.map(|lib| lib.display().to_string()),
    );
}

#[test]
fn one_test_binary_per_crate() {
    let stray = workspace::packages().iter().filter(|package| !package.is_test()).flat_map(|package| {
        let tests = package.directory.join("tests");
        rust_files(&tests).into_iter().filter(move |path| path.parent() == Some(&*tests))
    });
    expect_none(
        "A crate links more than one test binary, which costs every build",
        "make it a module of tests/it/main.rs",
        stray.map(|path| path.display().to_string()),
    );
}
