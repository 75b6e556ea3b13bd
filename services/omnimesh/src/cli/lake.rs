//! `omnimesh lake`: its subcommands and their flags.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Common, ReadArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum LakeCommand {
    /// List the tables: version, rows, size, when they last changed, their tags; or all about one.
    #[command(after_help = "Examples:\n  omnimesh lake status\n  omnimesh lake status gold/dim_customer\n  \
        omnimesh lake status --json")]
    Status(LakeStatusArgs),
    /// Compute tables from those that they are made of, as far as something has changed.
    #[command(
        after_help = "Examples:\n  omnimesh lake run\n  omnimesh lake run --table gold/fct_order_line --table gold/dim_date"
    )]
    Run(LakeRunArgs),
    /// List what runs have done, the newest first.
    #[command(after_help = "Example:\n  omnimesh lake runs --json")]
    Runs(ReadArgs),
    /// Keep a version of a table under a name: it can be read by that name whatever happens to the table.
    #[command(after_help = "Examples:\n  omnimesh lake tag gold/dim_customer train-churn-2026-11\n  \
        omnimesh lake tag features/customer_daily@12 train-churn-2026-11 --force")]
    Tag(LakeTagArgs),
    /// Show what tells two versions of a table apart. Exit code 1 if something does.
    #[command(after_help = "Examples:\n  omnimesh lake diff gold/dim_customer@7 gold/dim_customer\n  \
        omnimesh lake diff gold/dim_customer@train-churn-2026-11 gold/dim_customer@prod --json")]
    Diff(LakeDiffArgs),
    /// Write a version of a table as Parquet, for tools that do not read Lance; nothing is done where it is there.
    #[command(after_help = "Examples:\n  omnimesh lake mirror gold/fct_order_line\n  \
        omnimesh lake mirror gold/dim_customer@prod --out s3://bi/omnimesh\n\n\
        A directory parquet/<layer>/<table>/v=<version> is complete once it has its _SUCCESS.json.")]
    Mirror(LakeMirrorArgs),
    /// Erase a person from every table, version, tag, branch, index and mirror of the lake, for good, and prove it.
    /// What was cut short is finished by erasing again.
    #[command(after_help = "Examples:\n  omnimesh lake erase --key ada@example.com --dry-run\n  \
        omnimesh lake erase --key ada@example.com --key shop/C0042\n  omnimesh lake erase --file keys.txt --json\n\n\
        A lake in a bucket: its versioning must be off or suspended, and rules of its lifecycle must expire old versions\n\
        and incomplete uploads. Copies that were made elsewhere stay.")]
    Erase(LakeEraseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LakeStatusArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// One table, with its columns and all that is said about it.
    #[arg(value_name = "LAYER/TABLE")]
    pub(crate) table: Option<::lake::TableName>,
}

#[derive(Debug, Args)]
pub(crate) struct LakeRunArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// A table to compute; several times for several [default: all].
    #[arg(long = "table", value_name = "LAYER/TABLE")]
    pub(crate) tables: Vec<::lake::TableName>,
}

#[derive(Debug, Args)]
pub(crate) struct LakeEraseArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// What the person is known by: a golden id, e-mail address, phone number, loyalty card, or the id of a source record,
    /// as it is or as SYSTEM/ID; several times for several.
    #[arg(long = "key", value_name = "KEY", required_unless_present = "file")]
    pub(crate) keys: Vec<String>,
    /// File of keys of the one person, a line each, so that no list of commands holds them.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Only tell what would be taken away.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LakeTagArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The table, at its published version or the one after `@` (a number or a tag).
    #[arg(value_name = "LAYER/TABLE[@VERSION]")]
    pub(crate) table: String,
    /// The name.
    #[arg(value_name = "TAG")]
    pub(crate) tag: String,
    /// Moves the tag if it is on another version.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LakeDiffArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// The table as it was.
    #[arg(value_name = "LAYER/TABLE[@VERSION]")]
    pub(crate) from: String,
    /// The table as it is.
    #[arg(value_name = "LAYER/TABLE[@VERSION]")]
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct LakeMirrorArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// The table, at its published version or the one after `@` (a number or a tag).
    #[arg(value_name = "LAYER/TABLE[@VERSION]")]
    pub(crate) table: String,
    /// Directory, or s3://bucket/prefix, that it is written below [default: mirror, in the lake].
    // Clap by itself would take any text for a directory.
    #[arg(long, value_name = "DIR", value_parser = str::parse::<::lake::Root>)]
    pub(crate) out: Option<::lake::Root>,
}
