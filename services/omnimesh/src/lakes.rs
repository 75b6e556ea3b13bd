//! `omnimesh lake`: what the lake holds, and computing what is made of it.

use std::path::Path;

use anyhow::{Context, anyhow};
use lake::{DatasetInfo, Erasure, Keys, Manifest, Outcome, TableName, Version};

use crate::{
    cli::{
        Common, LakeCommand, LakeDiffArgs, LakeEraseArgs, LakeMirrorArgs, LakeRunArgs, LakeStatusArgs,
        LakeTagArgs, ReadArgs,
    },
    config::Config,
    error::Failure,
    output,
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

/// The lake of a deployment, which must be there: a mistyped place is not made.
async fn existing(common: &Common) -> Result<lake::Config, Failure> {
    let config = Config::load(common, None)?.lake()?;
    match lake::exists(&config).await.map_err(failed)? {
        true => Ok(config),
        false => Err(Failure::Usage(anyhow!(
            "there is no lake at {}: `omnimesh up` makes one; --data-dir or `lake.root` says where it is",
            config.root
        ))),
    }
}

async fn status(args: LakeStatusArgs) -> Result<(), Failure> {
    let config = existing(&args.read.common).await?;
    let mut datasets = lake::datasets(&config).await.map_err(failed)?;
    if let Some(name) = &args.table {
        datasets.retain(|dataset| dataset.layer == name.layer().as_str() && dataset.table == name.as_str());
        if datasets.is_empty() {
            return Err(failed(lake::Error::NotFound { what: format!("table {name}") }));
        }
    }
    let broken: Vec<_> = datasets.iter().filter_map(|dataset| dataset.error.clone()).collect();
    if args.read.json {
        output::json(&datasets)?;
        return all_readable(&broken);
    }
    let written = || datasets.iter().filter(|dataset| dataset.version > 0);
    if let (Some(_), Some(dataset)) = (&args.table, written().next()) {
        describe(dataset)?;
    } else {
        let rows = written().map(|dataset| {
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
        let headings = ["table", "version", "rows", "size", "changed (UTC)", "tags"];
        output::line(table(&headings, &[1, 2, 3], rows))?;
    }
    for refusal in datasets.iter().filter_map(|dataset| dataset.refusal.as_ref()) {
        output::line(refusal)?;
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

fn describe(dataset: &DatasetInfo) -> Result<(), Failure> {
    let (rows, bytes) = (grouped(dataset.rows.cast_signed()), size(dataset.bytes));
    output::line(format_args!("{}/{}, version {}", dataset.layer, dataset.table, dataset.version))?;
    output::line(format_args!("{rows} rows, {bytes}, {}", dataset.uri))?;
    for (name, value) in &dataset.card {
        output::line(format_args!("{name}: {value}"))?;
    }
    for (tag, version) in &dataset.tags {
        output::line(format_args!("tag {tag}: version {version}"))?;
    }
    let rows = dataset.columns.iter().map(|column| {
        let name = if column.key { format!("{} (key)", column.name) } else { column.name.clone() };
        vec![name, column.kind.clone(), column.pii.clone(), column.description.clone()]
    });
    output::line(table(&["column", "type", "pii", "what it holds"], &[], rows))
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

async fn compute(args: LakeRunArgs) -> Result<(), Failure> {
    let config = existing(&args.read.common).await?;
    let run = async |told: Told<'_>| lake::run(&config, &args.tables, told).await;
    let manifest = compute_with(run, &Progress::new()).await?;
    if args.read.json {
        output::json(&manifest)?;
    } else {
        print(&manifest)?;
    }
    match manifest.has_failed() {
        true => Err(Failure::Unsound(
            "not every table could be computed; the last version of those stays".to_owned(),
        )),
        false => Ok(()),
    }
}

/// Hears of each table before it is computed.
pub(crate) type Told<'a> = &'a (dyn Fn(&TableName) + Sync);

/// Computes what is made of other tables, and shows how far it is.
pub(crate) async fn compute_with(
    run: impl AsyncFnOnce(Told<'_>) -> Result<Manifest, lake::Error>,
    progress: &Progress,
) -> Result<Manifest, Failure> {
    let stage = progress.stage("compute the lake", 0);
    let manifest = run(&|_| stage.advance()).await.map_err(failed)?;
    let published = manifest.outputs.iter().filter(|output| output.outcome == Outcome::Published).count();
    stage.done(&format!("{published} of {} tables are new", manifest.outputs.len()));
    Ok(manifest)
}

fn print(manifest: &Manifest) -> Result<(), Failure> {
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
    output::line(table(&["table", "state", "version", "rows", "took", "why"], &[2, 3, 4], rows))
}

async fn runs(args: ReadArgs) -> Result<(), Failure> {
    let config = existing(&args.common).await?;
    let runs = lake::runs(&config).await.map_err(failed)?;
    if args.json {
        return output::json(&runs);
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
    output::line(table(&headings, &[2, 3, 4, 5, 6], rows))
}

async fn tag(args: LakeTagArgs) -> Result<(), Failure> {
    let config = existing(&args.common).await?;
    let (name, version) = reference(&args.table)?;
    let number = lake::tag(&config, &name, &version, &args.tag, args.force).await.map_err(failed)?;
    eprintln!("{} is version {number} of {name}", args.tag);
    Ok(())
}

async fn diff(args: LakeDiffArgs) -> Result<(), Failure> {
    let config = existing(&args.read.common).await?;
    let (from, to) = (reference(&args.from)?, reference(&args.to)?);
    let diff = lake::diff(&config, (&from.0, &from.1), (&to.0, &to.1)).await.map_err(failed)?;
    if args.read.json {
        output::json(&diff)?;
    } else {
        let line = |what: &str, keys: &Keys| {
            vec![what.to_owned(), grouped(keys.count.cast_signed()), keys.first.join("; ")]
        };
        let rows =
            [line("added", &diff.added), line("removed", &diff.removed), line("changed", &diff.changed)];
        output::line(table(&["rows", "count", "the first by key"], &[1], rows))?;
        for (what, columns) in [("added", &diff.columns_added), ("removed", &diff.columns_removed)] {
            if !columns.is_empty() {
                output::line(format_args!("columns {what}: {}", columns.join(", ")))?;
            }
        }
    }
    match diff.is_empty() {
        true => Ok(()),
        false => Err(Failure::Unsound(format!("{} and {} differ", args.from, args.to))),
    }
}

async fn mirror(args: LakeMirrorArgs) -> Result<(), Failure> {
    let config = existing(&args.read.common).await?;
    let (name, version) = reference(&args.table)?;
    let out = args.out.map(|out| out.below(Path::new("."))).transpose().map_err(Failure::usage)?;
    let mirror = lake::mirror(&config, &name, &version, out.as_ref()).await.map_err(failed)?;
    if args.read.json {
        output::json(&mirror)?;
    } else {
        output::line(&mirror.uri)?;
        eprintln!("version {} of {name}: {} rows", mirror.version, grouped(mirror.rows.cast_signed()));
    }
    Ok(())
}

async fn erase(args: LakeEraseArgs) -> Result<(), Failure> {
    let config = existing(&args.read.common).await?;
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
    match args.read.json {
        true => output::json(&erasure),
        false => describe_erasure(&erasure),
    }
}

fn describe_erasure(erasure: &Erasure) -> Result<(), Failure> {
    let rows = erasure.tables.iter().map(|(table, loss)| {
        vec![table.clone(), grouped(loss.rows.cast_signed()), loss.references.join(" ")]
    });
    match erasure.tables.is_empty() {
        true => output::line("no row of any table held any of these keys: are they spelt right?")?,
        false => output::line(table(&["table", "rows", "tags and branches"], &[1], rows))?,
    }
    output::line(format_args!("searched for by {} keys", erasure.keys))?;
    if erasure.keys_left_out > 0 {
        output::line(format_args!(
            "{} values were left out: others have them too, or they are too short",
            erasure.keys_left_out
        ))?;
    }
    if erasure.verified {
        output::line(format_args!(
            "erased as {}; {} files were looked into and hold nothing that is known to be the person's",
            erasure.erasure_id, erasure.files_searched
        ))?;
    }
    for (table, fields) in &erasure.unclear {
        for (field, records) in fields {
            let records = grouped(records.cast_signed());
            output::line(format_args!(
                "{records} records of {table} hold a key in `{field}`: nobody says whose"
            ))?;
        }
    }
    if !erasure.unclear.is_empty() {
        output::line(
            "what of it is the person's stays: say so in the source's `subject_keys`, and erase by the same \
             ids again once records have landed with that",
        )?;
    }
    Ok(())
}

/// Reads `LAYER/TABLE[@VERSION]`.
fn reference(text: &str) -> Result<(TableName, Version), Failure> {
    let (name, version) = text.split_once('@').unwrap_or((text, ""));
    Ok((name.parse().map_err(Failure::usage)?, Version::from(version)))
}
