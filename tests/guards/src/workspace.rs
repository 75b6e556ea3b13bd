//! The project as the guards see it: its crates, its files, and how a broken rule is reported.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use cargo_metadata::MetadataCommand;
use walkdir::{DirEntry, WalkDir};

/// What others write or generate, and the version control's own.
const NOT_OURS: [&str; 5] = [".git", "target", "node_modules", "dist", "gen"];

/// The crates on which domains stand. Every other crate in `services/` but the binary is a domain.
pub(crate) const FOUNDATIONS: [&str; 4] = ["types", "mesh", "storage", "events"];

pub(crate) struct Package {
    pub(crate) name: String,
    /// Relative to the project's root.
    pub(crate) directory: PathBuf,
    /// Names of what it depends on, for whatever purpose: crates of this workspace, then all others.
    pub(crate) internal: Vec<String>,
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
    static ROOT: LazyLock<PathBuf> =
        LazyLock::new(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap());
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
    let names = |dependencies: Vec<cargo_metadata::Dependency>| {
        dependencies.into_iter().map(|dependency| dependency.name).collect()
    };
    let manifest = metadata.manifest_path.into_std_path_buf();
    Package {
        name: metadata.name.to_string(),
        directory: manifest.parent().unwrap().strip_prefix(root()).unwrap().to_owned(),
        internal: names(internal),
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
        .filter_entry(|entry| !NOT_OURS.contains(&&*entry.file_name().to_string_lossy()))
        .filter_map(Result::ok)
        .collect()
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

/// Fails when a rule is broken, with what to do and every place where it is.
#[track_caller]
pub(crate) fn expect_none<T: Display>(rule: &str, remedy: &str, violations: impl IntoIterator<Item = T>) {
    let violations: Vec<String> =
        violations.into_iter().map(|violation| format!("  {violation}\n")).collect();
    assert!(violations.is_empty(), "{rule}.\n{}What to do: {remedy}.", violations.concat());
}
