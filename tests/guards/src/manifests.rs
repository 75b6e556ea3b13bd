//! Cargo manifests: one place for versions and lints, crates called as their directories, all of them described.

use std::path::Path;

use toml::{Table, Value};

use crate::workspace::{self, Package, expect_none, packages};

fn manifest(directory: &Path) -> Table {
    workspace::text(&directory.join("Cargo.toml")).unwrap_or_default().parse().expect("a manifest is TOML")
}

#[test]
fn crates_take_the_workspace_lints() {
    let without = packages().iter().filter(|package| {
        let manifest = manifest(&package.directory);
        manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&Value::Boolean(true))
    });
    expect_none(
        "A crate does not take the workspace's lints",
        "add `[lints] workspace = true` to its Cargo.toml",
        without.map(|package| &package.name),
    );
}

#[test]
fn versions_are_the_workspaces() {
    let own = packages().iter().flat_map(|package| {
        let manifest = manifest(&package.directory);
        let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
        let dependencies = sections.iter().filter_map(|section| manifest.get(*section)?.as_table()).flatten();
        // A crate that its own tests use once more, with a feature, has no version.
        let own = dependencies.filter(|(name, dependency)| {
            *name != &package.name && dependency.get("workspace") != Some(&Value::Boolean(true))
        });
        own.map(|(name, _)| format!("{}: {name}", package.name)).collect::<Vec<_>>()
    });
    expect_none(
        "A crate chooses a version of its own",
        "move it to [workspace.dependencies] of the root Cargo.toml and write `name.workspace = true`",
        own,
    );
}

#[test]
fn crates_are_called_as_their_directories() {
    let misnamed = packages().iter().filter(|package| {
        // The contract is published under its own name; its directory is what buf expects.
        package.name != "omnimesh-proto" && !package.directory.ends_with(&package.name)
    });
    expect_none(
        "A crate's name is not its directory's",
        "rename one of them",
        misnamed.map(|package| format!("{} in {}", package.name, package.directory.display())),
    );
}

#[test]
fn architecture_names_every_crate() {
    let architecture = std::fs::read_to_string(workspace::root().join("ARCHITECTURE.md"))
        .expect("ARCHITECTURE.md at the project's root");
    let unnamed = packages().iter().filter(|package| {
        let Package { name, directory, .. } = package;
        let marks = [format!("**{name}**"), format!("`{name}`"), format!("`{}`", directory.display())];
        !marks.iter().any(|mark| architecture.contains(mark))
    });
    expect_none(
        "ARCHITECTURE.md does not say what a crate is for",
        "add a line on it to the code map, beginning with **its name**",
        unnamed.map(|package| package.directory.display()),
    );
}
