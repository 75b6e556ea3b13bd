//! `omnimesh lake`: what the lake holds, and computing what is made of it.

use anyhow::Context;
use lake::{DatasetInfo, Erasure, Keys, Manifest, Outcome, TableName, Version};

use crate::{
    cli::{
        LakeCommand, LakeDiffArgs, LakeEraseArgs, LakeMirrorArgs, LakeRunArgs, LakeStatusArgs, LakeTagArgs,
        ReadArgs,
    },
    config::Config,
    error::Failure,
    progress::Progress,
    table::{grouped, table},
};

pub(crate) async fn run(command: LakeCommand) -> Result<(), Failure> {
    match command {
        LakeCommand::Status(args) => status(args).await,
        LakeCommand::Run(args) => compute(args).await,
        LakeCommand::Runs(args) => runs(args).await,
        LakeCommand::Tag(args) => tag(args).await,
        LakeCommand::Diff(args) => diff(args).await,
        LakeCommand::Mirror(args) => mirror(args).await,
        LakeCommand::Erase(args) => erase(args).await,
    }
}

fn failed(error: lake::Error) -> Failure {
    Failure::Failed(error.into())
}

async fn status(args: LakeStatusArgs) -> Result<(), Failure> {
    let config = Config::load(&args.read.common, None)?.lake();
    let mut datasets = lake::datasets(&config).await.map_err(failed)?;
    if let Some(name) = &args.table {
        datasets.retain(|dataset| dataset.layer == name.layer().as_str() && dataset.table == name.as_str());
        if datasets.is_empty() {
            return Err(failed(lake::Error::NotFound { what: format!("table {name}") }));
        }
    }
    let broken: Vec<_> = datasets.iter().filter_map(|dataset| dataset.error.clone()).collect();
    if args.read.json {
        println!("{}", serde_json::to_string_pretty(&datasets).map_err(Failure::usage)?);
    } else if let (Some(_), [dataset], []) = (&args.table, datasets.as_slice(), broken.as_slice()) {
        describe(dataset);
    } else {
        let readable = datasets.iter().filter(|dataset| dataset.error.is_none());
        let rows = readable.map(|dataset| {
            vec![
                format!("{}/{}", dataset.layer, dataset.table),
                dataset.version.to_string(),
                grouped(dataset.rows.cast_signed()),
                size(dataset.bytes),
                dataset.updated_at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                dataset
                    .tags
                    .keys()
                    .filter(|tag| !lake::is_of_run(tag))
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(" "),
            ]
        });
        println!(
            "{}",
            table(&["table", "version", "rows", "size", "changed (UTC)", "tags"], &[1, 2, 3], rows)
        );
    }
    if !args.read.json {
        let refusals = lake::refusals(&config).await.map_err(failed)?;
        let is_asked = |table: &str| args.table.as_ref().is_none_or(|name| name.to_string() == table);
        for (_, reason) in refusals.iter().filter(|(table, _)| is_asked(table)) {
            println!("{reason}");
        }
    }
    all_readable(&broken)
}

/// Fails with what is wrong with the tables that cannot be read, if there are any.
pub(crate) fn all_readable(broken: &[String]) -> Result<(), Failure> {
    match broken {
        [] => Ok(()),
        _ => Err(Failure::Unsound(broken.join("\n"))),
    }
}

fn describe(dataset: &DatasetInfo) {
    println!("{}/{}, version {}", dataset.layer, dataset.table, dataset.version);
    println!("{} rows, {}, {}", grouped(dataset.rows.cast_signed()), size(dataset.bytes), dataset.uri);
    for (name, value) in &dataset.card {
        println!("{name}: {value}");
    }
    for (tag, version) in &dataset.tags {
        println!("tag {tag}: version {version}");
    }
    let rows = dataset.columns.iter().map(|column| {
        let name = if column.key { format!("{} (key)", column.name) } else { column.name.clone() };
        vec![name, column.kind.clone(), column.pii.clone(), column.description.clone()]
    });
    println!("{}", table(&["column", "type", "pii", "what it holds"], &[], rows));
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

async fn compute(args: LakeRunArgs) -> Result<(), Failure> {
    let config = Config::load(&args.read.common, None)?.lake();
    let manifest = compute_with(&config, &args.tables, &Progress::new()).await?;
    if args.read.json {
        println!("{}", serde_json::to_string_pretty(&manifest).map_err(Failure::usage)?);
    } else {
        print(&manifest);
    }
    match manifest.has_failed() {
        true => Err(Failure::Unsound(
            "not every table could be computed; the last version of those stays".to_owned(),
        )),
        false => Ok(()),
    }
}

/// Computes what is made of other tables, and shows how far it is.
pub(crate) async fn compute_with(
    config: &lake::Config,
    tables: &[TableName],
    progress: &Progress,
) -> Result<Manifest, Failure> {
    let stage = progress.stage("compute the lake", 0);
    let manifest = lake::run(config, tables, &|_| stage.advance()).await.map_err(failed)?;
    let published = manifest.outputs.iter().filter(|output| output.outcome == Outcome::Published).count();
    stage.done(&format!("{published} of {} tables are new", manifest.outputs.len()));
    Ok(manifest)
}

fn print(manifest: &Manifest) {
    let rows = manifest.outputs.iter().map(|output| {
        let (state, reason) = match &output.outcome {
            Outcome::Published => ("published", ""),
            Outcome::Unchanged => ("unchanged", ""),
            Outcome::Skipped { reason } => ("skipped", reason.as_str()),
            Outcome::Failed { reason } => ("failed", reason.as_str()),
        };
        vec![
            output.table.clone(),
            state.to_owned(),
            output.version.to_string(),
            grouped(output.rows.cast_signed()),
            format!("{:.1} s", output.millis as f64 / 1000.0),
            reason.to_owned(),
        ]
    });
    println!("{}", table(&["table", "state", "version", "rows", "took", "why"], &[2, 3, 4], rows));
}

async fn runs(args: ReadArgs) -> Result<(), Failure> {
    let config = Config::load(&args.common, None)?.lake();
    let runs = lake::runs(&config).await.map_err(failed)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&runs).map_err(Failure::usage)?);
        return Ok(());
    }
    let rows = runs.iter().map(|run| {
        let count = |wanted: fn(&Outcome) -> bool| {
            run.outputs.iter().filter(|output| wanted(&output.outcome)).count().to_string()
        };
        vec![
            run.run_id.clone(),
            run.started_at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            run.finished_at.map_or_else(
                || "not finished".to_owned(),
                |at| format!("{:.1} s", at.duration_since(run.started_at).as_secs_f64()),
            ),
            count(|outcome| *outcome == Outcome::Published),
            count(|outcome| *outcome == Outcome::Unchanged),
            count(|outcome| matches!(outcome, Outcome::Skipped { .. })),
            count(|outcome| matches!(outcome, Outcome::Failed { .. })),
        ]
    });
    let headings = ["run", "began (UTC)", "took", "published", "unchanged", "skipped", "failed"];
    println!("{}", table(&headings, &[2, 3, 4, 5, 6], rows));
    Ok(())
}

async fn tag(args: LakeTagArgs) -> Result<(), Failure> {
    let config = Config::load(&args.common, None)?.lake();
    let (name, version) = reference(&args.table)?;
    let number = lake::tag(&config, &name, &version, &args.tag, args.force).await.map_err(failed)?;
    eprintln!("{} is version {number} of {name}", args.tag);
    Ok(())
}

async fn diff(args: LakeDiffArgs) -> Result<(), Failure> {
    let config = Config::load(&args.read.common, None)?.lake();
    let (from, to) = (reference(&args.from)?, reference(&args.to)?);
    let diff = lake::diff(&config, (&from.0, &from.1), (&to.0, &to.1)).await.map_err(failed)?;
    if args.read.json {
        println!("{}", serde_json::to_string_pretty(&diff).map_err(Failure::usage)?);
    } else {
        let line = |what: &str, keys: &Keys| {
            vec![what.to_owned(), grouped(keys.count.cast_signed()), keys.first.join("; ")]
        };
        let rows =
            [line("added", &diff.added), line("removed", &diff.removed), line("changed", &diff.changed)];
        println!("{}", table(&["rows", "count", "the first by key"], &[1], rows));
        for (what, columns) in [("added", &diff.columns_added), ("removed", &diff.columns_removed)] {
            if !columns.is_empty() {
                println!("columns {what}: {}", columns.join(", "));
            }
        }
    }
    match diff.is_empty() {
        true => Ok(()),
        false => Err(Failure::Unsound(format!("{} and {} differ", args.from, args.to))),
    }
}

async fn mirror(args: LakeMirrorArgs) -> Result<(), Failure> {
    let config = Config::load(&args.read.common, None)?.lake();
    let (name, version) = reference(&args.table)?;
    let mirror = lake::mirror(&config, &name, &version, args.out.as_ref()).await.map_err(failed)?;
    if args.read.json {
        println!("{}", serde_json::to_string_pretty(&mirror).map_err(Failure::usage)?);
    } else {
        println!("{}", mirror.uri);
        eprintln!("version {} of {name}: {} rows", mirror.version, grouped(mirror.rows.cast_signed()));
    }
    Ok(())
}

async fn erase(args: LakeEraseArgs) -> Result<(), Failure> {
    let config = Config::load(&args.read.common, None)?.lake();
    let mut keys = args.keys;
    if let Some(file) = &args.file {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
        let text = text.map_err(Failure::Usage)?;
        keys.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    let progress = Progress::new();
    let stage = progress.stage(if args.dry_run { "search the lake" } else { "erase from the lake" }, 0);
    let erasure = lake::erase(&config, &keys, args.dry_run, &|_| stage.advance()).await.map_err(failed)?;
    stage.done(&format!("{} files looked into", erasure.files_searched));
    if args.read.json {
        println!("{}", serde_json::to_string_pretty(&erasure).map_err(Failure::usage)?);
    } else {
        describe_erasure(&erasure);
    }
    Ok(())
}

fn describe_erasure(erasure: &Erasure) {
    let rows = erasure.tables.iter().map(|(table, loss)| {
        vec![table.clone(), grouped(loss.rows.cast_signed()), loss.references.join(" ")]
    });
    println!("{}", table(&["table", "rows", "tags and branches"], &[1], rows));
    println!("searched for by {} keys", erasure.keys);
    if erasure.keys_left_out > 0 {
        println!(
            "{} values were left out: others have them too, or they are too short",
            erasure.keys_left_out
        );
    }
    if erasure.verified {
        println!(
            "erased as {}; {} files were looked into and hold nothing of it",
            erasure.erasure_id, erasure.files_searched
        );
    }
}

/// Reads `LAYER/TABLE[@VERSION]`.
fn reference(text: &str) -> Result<(TableName, Version), Failure> {
    let (name, version) = text.split_once('@').unwrap_or((text, ""));
    Ok((name.parse().map_err(Failure::usage)?, Version::from(version)))
}
