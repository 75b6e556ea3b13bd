//! Runs as OpenLineage events, for catalogues that draw where a table comes from.

use serde_json::{Value, json};

use super::{Manifest, Outcome, Output};
use crate::{Error, dataset::Store};

const DIRECTORY: &str = "_meta/openlineage";
const PRODUCER: &str = "https://omnimesh.dev/lake";
const EVENT: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
const COLUMNS: &str = "https://openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json";
const VERSION: &str = "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json";
const FAULT: &str = "https://openlineage.io/spec/facets/1-0-1/ErrorMessageRunFacet.json";

/// Writes a run's events, a line each.
pub(super) async fn write(store: &Store, manifest: &Manifest) -> Result<(), Error> {
    let namespace = store.uri();
    let lines: Vec<_> =
        manifest.outputs.iter().flat_map(|output| events(manifest, output, &namespace)).collect();
    let text = lines.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n");
    store.write_file(&path(manifest), text.into_bytes()).await
}

/// Where a run's events are, below the lake's root.
pub(super) fn path(manifest: &Manifest) -> String {
    format!("{DIRECTORY}/{}.jsonl", manifest.run_id)
}

/// The beginning and the end of a table's computation. Each is a run of its own job, and all have the manifest's id as
/// their parent.
fn events(manifest: &Manifest, output: &Output, namespace: &str) -> Vec<Value> {
    let end = match output.outcome {
        Outcome::Published | Outcome::Unchanged => "COMPLETE",
        Outcome::Skipped { .. } => "ABORT",
        Outcome::Failed { .. } => "FAIL",
    };
    let times = [("START", manifest.started_at), (end, manifest.finished_at.unwrap_or(manifest.started_at))];
    times.map(|(kind, time)| event(manifest, output, namespace, kind, &time.to_string())).into()
}

fn event(manifest: &Manifest, output: &Output, namespace: &str, kind: &str, time: &str) -> Value {
    let run = uuid::Uuid::new_v5(&manifest.run_id.parse().unwrap_or_default(), output.table.as_bytes());
    let parent = json!({
        "_producer": PRODUCER,
        "_schemaURL": "https://openlineage.io/spec/facets/1-1-0/ParentRunFacet.json",
        "run": {"runId": manifest.run_id},
        "job": {"namespace": namespace, "name": "lake run"},
    });
    let mut facets = json!({ "parent": parent });
    if let Outcome::Failed { reason } | Outcome::Skipped { reason } = &output.outcome
        && kind != "START"
    {
        facets["errorMessage"] = json!({
            "_producer": PRODUCER, "_schemaURL": FAULT, "message": reason, "programmingLanguage": "SQL",
        });
    }
    let inputs = output.inputs.iter().map(|(table, version)| dataset(namespace, table, *version, None));
    json!({
        "eventType": kind,
        "eventTime": time,
        "producer": PRODUCER,
        "schemaURL": EVENT,
        "run": {"runId": run, "facets": facets},
        "job": {"namespace": namespace, "name": output.table},
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": [dataset(namespace, &output.table, output.version, Some(columns(output, namespace)))],
    })
}

fn dataset(namespace: &str, table: &str, version: u64, columns: Option<Value>) -> Value {
    let mut facets = json!({
        "version": {"_producer": PRODUCER, "_schemaURL": VERSION, "datasetVersion": version.to_string()},
    });
    if let Some(columns) = columns {
        facets["columnLineage"] = columns;
    }
    json!({"namespace": namespace, "name": table, "facets": facets})
}

fn columns(output: &Output, namespace: &str) -> Value {
    let fields = output.lineage.iter().map(|(column, sources)| {
        let sources = sources.iter().map(|(table, field)| {
            json!({"namespace": namespace, "name": table.replacen('.', "/", 1), "field": field})
        });
        (column.clone(), json!({"inputFields": sources.collect::<Vec<_>>()}))
    });
    json!({
        "_producer": PRODUCER,
        "_schemaURL": COLUMNS,
        "fields": fields.collect::<serde_json::Map<_, _>>(),
    })
}
