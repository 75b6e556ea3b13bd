//! The project as the guards see it: its crates, its files, and how a broken rule is reported.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use cargo_metadata::{Dependency, DependencyKind, MetadataCommand};
use walkdir::{DirEntry, WalkDir};

/// What is generated or downloaded, and what the demo leaves; hidden directories are the tools' own, but for these.
const NOT_OURS: [&str; 5] = ["target", "node_modules", "dist", "gen", "omnimesh-data"];
const HIDDEN_BUT_OURS: [&str; 2] = [".ci", ".config"];

/// The crates on which domains stand. Every other crate in `services/` but the binary is a domain.
pub(crate) const FOUNDATIONS: [&str; 4] = ["types", "mesh", "storage", "events"];

pub(crate) struct Package {
    pub(crate) name: String,
    /// Relative to the project's root.
    pub(crate) directory: PathBuf,
    /// The crates of this workspace that it is built from, then those that only its tests use.
    pub(crate) uses: Vec<String>,
    pub(crate) tested_with: Vec<String>,
    /// The crates of others, for whatever purpose.
    pub(crate) external: Vec<String>,
}

impl Package {
    pub(crate) fn is_domain(&self) -> bool {
        self.directory.starts_with("services")
            && !FOUNDATIONS.contains(&&*self.name)
            && self.name != "omnimesh"
    }

    pub(crate) fn is_test(&self) -> bool {
        self.directory.starts_with("tests")
    }
}

pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| Path::new("../..").canonicalize().unwrap());
    &ROOT
}

pub(crate) fn packages() -> &'static [Package] {
    static PACKAGES: LazyLock<Vec<Package>> = LazyLock::new(|| {
        let metadata = MetadataCommand::new()
            .manifest_path(root().join("Cargo.toml"))
            .no_deps()
            .exec()
            .expect("cargo metadata reads the workspace");
        metadata.packages.into_iter().map(package).collect()
    });
    &PACKAGES
}

fn package(metadata: cargo_metadata::Package) -> Package {
    let (internal, external): (Vec<_>, Vec<_>) =
        metadata.dependencies.into_iter().partition(|dependency| dependency.path.is_some());
    let (tested_with, uses): (Vec<_>, Vec<_>) =
        internal.into_iter().partition(|dependency| dependency.kind == DependencyKind::Development);
    let names =
        |dependencies: Vec<Dependency>| dependencies.into_iter().map(|dependency| dependency.name).collect();
    let manifest = metadata.manifest_path.into_std_path_buf();
    Package {
        name: metadata.name.to_string(),
        directory: manifest.parent().unwrap().strip_prefix(root()).unwrap().to_owned(),
        uses: names(uses),
        tested_with: names(tested_with),
        external: names(external),
    }
}

pub(crate) fn domains() -> impl Iterator<Item = &'static Package> {
    packages().iter().filter(|package| package.is_domain())
}

/// Everything below a directory of the project that people write, as paths relative to the root, sorted.
pub(crate) fn entries(directory: impl AsRef<Path>) -> Vec<DirEntry> {
    WalkDir::new(root().join(directory))
        .min_depth(1)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(is_ours)
        .filter_map(Result::ok)
        .collect()
}

fn is_ours(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    let is_foreign =
        NOT_OURS.contains(&&*name) || (name.starts_with('.') && !HIDDEN_BUT_OURS.contains(&&*name));
    !(entry.file_type().is_dir() && entry.depth() > 0 && is_foreign)
}

/// The files below a directory, relative to the root.
pub(crate) fn files(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    entries(directory)
        .into_iter()
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| relative(&entry))
        .collect()
}

/// The Rust files below a directory, relative to the root.
pub(crate) fn rust_files(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut files = files(directory);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files
}

pub(crate) fn relative(entry: &DirEntry) -> PathBuf {
    entry.path().strip_prefix(root()).unwrap().to_owned()
}

/// A file's text, or none when it is not text.
pub(crate) fn text(path: &Path) -> Option<String> {
    String::from_utf8(fs::read(root().join(path)).unwrap()).ok()
}

/// The Rust files of a crate that make the product: its sources without modules of tests.
pub(crate) fn product_files(package: &Package) -> Vec<PathBuf> {
    let source = package.directory.join("src");
    let mut files = rust_files(&source);
    files.retain(|path| {
        let module = path.strip_prefix(&source).unwrap().with_extension("");
        module.components().all(|part| part.as_os_str() != "tests")
    });
    files
}

/// A file's text without the tests at its end.
pub(crate) fn product_text(path: &Path) -> String {
    let text = text(path).unwrap_or_default();
    match text.find("\n#[cfg(test)]\nmod tests {") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Fails when a rule is broken, with what to do and every place where it is.
#[track_caller]
pub(crate) fn expect_none<T: Display>(rule: &str, remedy: &str, violations: impl IntoIterator<Item = T>) {
    let violations: Vec<String> =
        violations.into_iter().map(|violation| format!("  {violation}\n")).collect();
    assert!(violations.is_empty(), "{rule}.\n{}What to do: {remedy}.", violations.concat());
}
