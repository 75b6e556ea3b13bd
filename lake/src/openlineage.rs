//! What tables are made of as OpenLineage events, for catalogues that draw where a table comes from: a run tells it of
//! each table that it computes; of a table of events, to which rows come all the time, it is told once.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{Error, Lineage, Manifest, Origin, Outcome, Output, TableName, dataset::Store, table::Table};

const DIRECTORY: &str = "_meta/openlineage";
const PRODUCER: &str = "https://omnimesh.dev/lake";
const RUN: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
const JOB: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/JobEvent";
const COLUMNS: &str = "https://openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json";
const VERSION: &str = "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json";
const FAULT: &str = "https://openlineage.io/spec/facets/1-0-1/ErrorMessageRunFacet.json";

/// Writes a run's events, a line each.
pub(crate) async fn write(store: &Store, manifest: &Manifest) -> Result<(), Error> {
    let namespace = store.uri();
    let lines: Vec<_> =
        manifest.outputs.iter().flat_map(|output| events(manifest, output, &namespace)).collect();
    let text = lines.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n");
    store.write_file(&path(manifest), text.into_bytes()).await
}

/// Where a run's events are, below the lake's root.
pub(crate) fn path(manifest: &Manifest) -> String {
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
    let began = output.began_at.unwrap_or(manifest.started_at);
    let ended = began.checked_add(Duration::from_millis(output.millis)).unwrap_or(began);
    let times = [("START", began), (end, ended)];
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
    let inputs = output.inputs.iter().map(|(table, version)| dataset(namespace, table, *version));
    let mut made = dataset(namespace, &output.table, output.version);
    if kind != "START" {
        made["facets"]["columnLineage"] = of_columns(&output.lineage, namespace);
    }
    json!({
        "eventType": kind,
        "eventTime": time,
        "producer": PRODUCER,
        "schemaURL": RUN,
        "run": {"runId": run, "facets": facets},
        "job": {"namespace": namespace, "name": output.table},
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": [made],
    })
}

fn dataset(namespace: &str, table: &str, version: u64) -> Value {
    let version =
        json!({"_producer": PRODUCER, "_schemaURL": VERSION, "datasetVersion": version.to_string()});
    json!({"namespace": namespace, "name": table, "facets": {"version": version}})
}

fn of_columns(lineage: &Lineage, namespace: &str) -> Value {
    let fields = lineage
        .columns
        .iter()
        .map(|(column, origins)| (column.clone(), json!({"inputFields": input_fields(origins, namespace)})));
    json!({
        "_producer": PRODUCER,
        "_schemaURL": COLUMNS,
        "fields": fields.collect::<Map<_, _>>(),
        "dataset": input_fields(&lineage.rows, namespace),
    })
}

/// The fields that take part in something, each with all of its roles.
fn input_fields(origins: &BTreeSet<Origin>, namespace: &str) -> Vec<Value> {
    let origins: Vec<_> = origins.iter().collect();
    let fields = origins.chunk_by(|a, b| (&a.table, &a.field) == (&b.table, &b.field));
    let field = |roles: &[&Origin]| {
        let Origin { table, field, .. } = roles.first()?;
        let roles = roles.iter().map(|Origin { role, .. }| {
            json!({"type": if role.is_direct() { "DIRECT" } else { "INDIRECT" }, "subtype": role})
        });
        let transformations = roles.collect::<Vec<_>>();
        Some(
            json!({"namespace": namespace, "name": table, "field": field, "transformations": transformations}),
        )
    };
    fields.filter_map(field).collect()
}

/// Every table of events that has had rows.
pub(crate) async fn declared(store: &Store) -> Result<Vec<TableName>, Error> {
    store.named(&format!("{DIRECTORY}/"), ".json").await
}

/// Whether a table of events has had rows.
pub(crate) async fn is_declared(store: &Store, name: &TableName) -> Result<bool, Error> {
    Ok(store.find_file(&declared_at(name)).await?.is_some())
}

fn declared_at(name: &TableName) -> String {
    format!("{DIRECTORY}/{name}.json")
}

/// Says what a table of events is made of, unless just that is said already.
pub(crate) async fn declare(store: &Store, table: &dyn Table, name: &TableName) -> Result<(), Error> {
    let path = declared_at(name);
    let namespace = store.uri();
    let said = store.find_file(&path).await?.unwrap_or_default();
    let said: Value = serde_json::from_slice(&said).unwrap_or_default();
    if said == declaration(table, name, &namespace, &said["eventTime"]) {
        return Ok(());
    }
    let declared = declaration(table, name, &namespace, &json!(Timestamp::now().to_string()));
    store.write_file(&path, declared.to_string().into_bytes()).await
}

/// A table of events as a job without runs: which stream of which domain it is made of, and its columns of which fields.
fn declaration(table: &dyn Table, name: &TableName, namespace: &str, time: &Value) -> Value {
    let (domain, stream) = (format!("omnimesh://{}", table.source().domain), table.stream(name));
    let columns = table.card().columns.into_iter().filter(|(_, column)| !column.from.is_empty());
    let fields = columns.map(|(name, column)| {
        let fields = column.from.iter().map(|field| {
            json!({
                "namespace": domain, "name": stream, "field": field, "transformations": [{"type": "DIRECT"}],
            })
        });
        (name, json!({"inputFields": fields.collect::<Vec<_>>()}))
    });
    let columns = json!({
        "_producer": PRODUCER, "_schemaURL": COLUMNS, "fields": fields.collect::<Map<_, _>>(),
    });
    let name = name.to_string();
    json!({
        "eventTime": time,
        "producer": PRODUCER,
        "schemaURL": JOB,
        "job": {"namespace": namespace, "name": name},
        "inputs": [{"namespace": domain, "name": stream}],
        "outputs": [{"namespace": namespace, "name": name, "facets": {"columnLineage": columns}}],
    })
}

#[cfg(test)]
mod tests {
    use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

    use crate::table::ALL;

    /// Whether a message has a field of that path; what is inside of bytes, only its reader knows.
    fn has(message: &MessageDescriptor, path: &str) -> bool {
        let (name, rest) = path.split_once('.').unwrap_or((path, ""));
        message.get_field_by_name(name).is_some_and(|field| match field.kind() {
            Kind::Message(inner) => rest.is_empty() || has(&inner, rest),
            Kind::Bytes => true,
            _ => rest.is_empty(),
        })
    }

    #[test]
    fn columns_of_events_name_fields_that_events_have() {
        let known = DescriptorPool::decode(omnimesh_proto::FILE_DESCRIPTOR_SET).unwrap();
        let message = |name: &str| known.get_message_by_name(name).unwrap();
        let envelope = message("omnimesh.event.v1.Event");
        for table in ALL {
            let event_type = table.source().event_type;
            let payload = message(event_type);
            for (name, column) in table.card().columns.iter().filter(|(_, column)| !column.doc.is_empty()) {
                // How a record was seen is the same for all.
                assert!(!column.from.is_empty() || name == "_op", "{event_type}: {name}");
                for field in &column.from {
                    let is_there = match field.strip_prefix("event.") {
                        Some(field) => has(&envelope, field),
                        None => has(&payload, field),
                    };
                    assert!(is_there, "{event_type} has no {field}, which {name} is said to be made of");
                }
            }
        }
    }
}
