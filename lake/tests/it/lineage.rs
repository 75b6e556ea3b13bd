//! What tables are made of, as OpenLineage events tell it: from the sources up to features, and in the spec's terms.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{landed, sandbox::Sandbox, world};

/// Where lineage is, below the lake's root.
const DIRECTORY: &str = "_meta/openlineage";

/// Every event below a directory.
fn events(directory: &Path) -> Vec<Value> {
    let mut events = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            events.extend(self::events(&path));
        } else {
            let text = fs::read_to_string(path).unwrap();
            events.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    events
}

/// Fails unless an object has all of the first names, and beside them none but the second.
fn has(value: &Value, required: &[&str], optional: &[&str]) {
    let names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(required.iter().all(|name| names.contains(name)), "{required:?} are not all in {value}");
    let known = |name: &&str| required.contains(name) || optional.contains(name);
    assert!(names.iter().all(known), "{value} has other names than {required:?} and {optional:?}");
}

/// Fails unless an event is as version 2-0-2 of the spec and its facets want it.
fn is_to_spec(event: &Value) {
    let schema = event["schemaURL"].as_str().unwrap();
    let base = ["eventTime", "producer", "schemaURL", "job", "inputs", "outputs"];
    match schema.rsplit('/').next() {
        Some("RunEvent") => has(event, &[&base[..], &["run", "eventType"]].concat(), &[]),
        Some("JobEvent") => has(event, &base, &[]),
        _ => panic!("{schema} is no event"),
    }
    event["eventTime"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    has(&event["job"], &["namespace", "name"], &["facets"]);
    let datasets = ["inputs", "outputs"].map(|side| event[side].as_array().unwrap());
    for dataset in datasets.into_iter().flatten() {
        has(dataset, &["namespace", "name"], &["facets"]);
        for (name, facet) in dataset["facets"].as_object().into_iter().flatten() {
            let base = ["_producer", "_schemaURL"];
            match name.as_str() {
                "version" => has(facet, &[&base[..], &["datasetVersion"]].concat(), &[]),
                "columnLineage" => {
                    has(facet, &[&base[..], &["fields"]].concat(), &["dataset"]);
                    fields(facet).for_each(field_is_to_spec);
                }
                _ => panic!("{name} is no facet that we tell"),
            }
        }
    }
}

/// Every input field of a facet.
fn fields(facet: &Value) -> impl Iterator<Item = &Value> {
    let of_columns = facet["fields"].as_object().unwrap().values();
    let of_columns = of_columns.flat_map(|column| column["inputFields"].as_array().unwrap());
    of_columns.chain(facet["dataset"].as_array().into_iter().flatten())
}

fn field_is_to_spec(field: &Value) {
    has(field, &["namespace", "name", "field", "transformations"], &[]);
    for transformation in field["transformations"].as_array().unwrap() {
        has(transformation, &["type"], &["subtype", "description", "masking"]);
        let known: &[_] = match transformation["type"].as_str() {
            Some("DIRECT") => &["IDENTITY", "TRANSFORMATION", "AGGREGATION"],
            Some("INDIRECT") => &["CONDITIONAL", "FILTER", "GROUP_BY", "JOIN", "SORT", "WINDOW"],
            _ => panic!("{transformation} is of no type"),
        };
        let subtype = transformation["subtype"].as_str();
        assert!(subtype.is_none_or(|subtype| known.contains(&subtype)), "{transformation}");
    }
}

/// What is told of each dataset that is made of others.
struct Told(BTreeMap<String, Value>);

/// Namespace, dataset and field.
type Field = (String, String, String);

impl Told {
    fn of(events: &[Value]) -> Self {
        let made = events
            .iter()
            .filter(|event| ["COMPLETE", ""].contains(&event["eventType"].as_str().unwrap_or("")));
        let outputs = made.flat_map(|event| event["outputs"].as_array().unwrap());
        let told = |output: &Value| {
            let name = output["name"].as_str().unwrap().to_owned();
            (name, output["facets"]["columnLineage"].clone())
        };
        Self(outputs.map(told).collect())
    }

    /// The fields that a column is made of, with how each takes part.
    fn column(&self, table: &str, column: &str) -> Vec<(Field, BTreeSet<String>)> {
        inputs(&self.0[table]["fields"][column]["inputFields"])
    }

    /// The fields of nothing that we make at which one arrives from a column, all the way back.
    fn back(&self, table: &str, column: &str, seen: &mut BTreeSet<Field>) -> BTreeSet<Field> {
        let mut ends = BTreeSet::new();
        for (field, _) in self.column(table, column) {
            if !seen.insert(field.clone()) {
                continue;
            }
            match self.0.contains_key(&field.1) {
                true => ends.extend(self.back(&field.1, &field.2, seen)),
                false => drop(ends.insert(field)),
            }
        }
        ends
    }
}

fn inputs(fields: &Value) -> Vec<(Field, BTreeSet<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let field = |field: &Value| {
        let roles = field["transformations"].as_array().unwrap().iter();
        let roles = roles.filter_map(|role| Some(role["subtype"].as_str()?.to_owned())).collect();
        ((text(&field["namespace"]), text(&field["name"]), text(&field["field"])), roles)
    };
    fields.as_array().into_iter().flatten().map(field).collect()
}

/// What is told of a lake that has everything there is.
async fn of_every_source(sandbox: &Sandbox) -> Vec<Value> {
    world::publish(sandbox, 9).await;
    landed::publish(sandbox, None).await;
    sandbox.export().await;
    sandbox.run().await;
    events(&sandbox.root().join(DIRECTORY))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_is_followed_back_to_what_no_table_is() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let events = of_every_source(&sandbox).await;
    events.iter().for_each(is_to_spec);
    let told = Told::of(&events);
    for dataset in lake::datasets(&Sandbox::config(sandbox.root())).await.unwrap() {
        let table = format!("{}/{}", dataset.layer, dataset.table);
        assert!(told.0.contains_key(&table), "nothing is told of {table}");
    }

    let of = |namespace: &str, dataset: &str, field: &str| {
        (format!("omnimesh://{namespace}"), dataset.to_owned(), field.to_owned())
    };
    let lines = of("order", "omnimesh.order.v1.OrderChanged", "order.lines");
    let searches = of("ingest", "sources/events/searches", "records.payload");
    for (table, column, source) in [
        ("features/order_fraud", "units", &lines),
        ("embeddings/customers__svd64", "vector", &lines),
        ("gold/agg_customer_360", "searches", &searches),
    ] {
        let ends = told.back(table, column, &mut BTreeSet::new());
        assert!(ends.contains(source), "{table}.{column} comes from {ends:?}");
        assert!(ends.iter().all(|(namespace, ..)| namespace.starts_with("omnimesh://")), "{ends:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_is_told_to_take_the_time_that_it_took() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 9).await;
    sandbox.export().await;
    let run = sandbox.run().await;
    let told =
        fs::read_to_string(sandbox.root().join(DIRECTORY).join(format!("{}.jsonl", run.run_id))).unwrap();
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let time = |event: &Value| event["eventTime"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let mut before = run.started_at;
    for (output, events) in run.outputs.iter().zip(told.chunks(2)) {
        let [begin, end] = [&events[0], &events[1]].map(time);
        assert_eq!(events[0]["job"]["name"], output.table.as_str());
        assert_eq!(end.duration_since(begin).as_millis(), i128::from(output.millis));
        // One comes after the other.
        assert!(before <= begin && end <= run.finished_at.unwrap(), "{}: {begin} to {end}", output.table);
        before = end;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_counts_rows_is_made_of_what_decides_which_there_are() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let told = Told::of(&of_every_source(&sandbox).await);
    let roles = |fields: Vec<(Field, BTreeSet<String>)>, table: &str, column: &str| {
        let found = fields.into_iter().find(|((_, name, field), _)| name == table && field == column);
        found.map(|(_, roles)| roles.into_iter().collect::<Vec<_>>()).unwrap_or_default()
    };
    let customers = "gold/agg_customer_360";
    let redemptions = told.column(customers, "redemptions");
    assert_eq!(redemptions.len(), 1, "{redemptions:?}");
    assert_eq!(roles(redemptions, "silver/redemptions", "golden_id"), ["GROUP_BY"]);
    let rows = || inputs(&told.0[customers]["dataset"]);
    assert_eq!(roles(rows(), "silver/redemptions", "golden_id"), ["GROUP_BY", "JOIN"]);
    assert_eq!(roles(rows(), "gold/dim_customer", "golden_id"), ["FILTER", "JOIN"]);
    let orders = told.column("gold/agg_rfm_clv", "monetary_minor");
    assert!(roles(orders.clone(), "gold/fct_order_line", "amount_minor").contains(&"AGGREGATION".to_owned()));
    assert!(roles(orders, "gold/fct_order_line", "status").contains(&"FILTER".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_events_is_told_of_once_and_anew_where_that_is_another() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let file = sandbox.root().join(DIRECTORY).join("silver/orders_unified.json");
    let mut told = Vec::new();
    for seed in [2, 3] {
        world::publish(&sandbox, seed).await;
        sandbox.export().await;
        told.push(fs::read_to_string(&file).unwrap());
    }
    assert_eq!(told[0], told[1]);
    fs::write(&file, told[0].replace("OrderChanged", "OrderPlaced")).unwrap();
    sandbox.export().await;
    let anew: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(anew["inputs"][0]["name"], "omnimesh.order.v1.OrderChanged");
}
