//! What can be configured about the lake. Defaults live here and nowhere else.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Root, table};

/// Configuration of the lake.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the lake is: a directory, made when it is missing, or `s3://bucket/prefix` of a store that speaks S3, which
    /// the usual `AWS_…` variables of the environment name and open. Default: `lake`, in the data directory.
    pub root: Root,
    /// Longest time that an event waits for its commit while more keep coming, in milliseconds: longer means fewer and
    /// larger commits. Default: 30000.
    pub linger_ms: u64,
    /// Time without a new event after which those that wait are committed, in milliseconds. Default: 250.
    pub quiet_ms: u64,
    /// Events held in memory at most, in MiB, over all tables. Default: 64.
    pub buffer_mib: usize,
    /// Memory that queries and runs may hold at once, in MiB; what needs more goes to the disk meanwhile. Default: 512.
    pub query_mib: usize,
    /// Rows that a query may answer with. Default: 10000000.
    pub query_rows: u64,
    /// Longest time that a query takes, until its last row is read, in seconds. Default: 60.
    pub query_seconds: u64,
    /// How often it is looked whether tables that are made of others are due, in seconds; 0 is never, and leaves
    /// computing to `omnimesh lake run` and `RunDatasets`. Default: 60.
    pub refresh_seconds: u64,
    /// Directory of the model that texts are embedded with (`model.safetensors` and `tokenizer.json`), called as the
    /// model. Default: the one that `make text-model` fetches, if it is there; else texts are embedded by their letters.
    pub text_model: Option<PathBuf>,
    /// Words for persons in the names of sources' fields, beside the English ones that erasures know: with `kunde`, the
    /// ids in `kunde_nr` are taken for a person's. Default: none.
    pub person_words: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: Root::from("lake"),
            linger_ms: 30_000,
            quiet_ms: 250,
            buffer_mib: 64,
            query_mib: 512,
            query_rows: 10_000_000,
            query_seconds: 60,
            refresh_seconds: 60,
            text_model: None,
            person_words: Vec::new(),
        }
    }
}

impl Config {
    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }

    pub(crate) fn quiet(&self) -> Duration {
        Duration::from_millis(self.quiet_ms)
    }

    pub(crate) fn refresh(&self) -> Option<Duration> {
        (self.refresh_seconds > 0).then(|| Duration::from_secs(self.refresh_seconds))
    }

    pub(crate) fn query_bytes(&self) -> usize {
        self.query_mib * 1024 * 1024
    }

    /// Each table's part of the buffer.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_mib * 1024 * 1024 / table::ALL.len()
    }
}
