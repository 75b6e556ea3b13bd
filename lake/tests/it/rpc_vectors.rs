//! `VectorService` through a real channel, over tables that the tests write themselves.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, RecordBatch, RecordBatchIterator,
        StringArray,
    },
    datatypes::{DataType, Field, Schema},
};
use lance::dataset::{Dataset, WriteMode, WriteParams};
use omnimesh_proto::feature::v1::{
    SearchVectorsRequest, SearchVectorsResponse, Vector, search_vectors_request::Query,
    vector_service_client::VectorServiceClient,
};
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::sandbox::{Sandbox, until};

type Client = VectorServiceClient<mesh::Channel>;

const TABLE: &str = "products__hand2";

/// An entity at an angle, in degrees; its department, and whether it is in stock.
type Row = (&'static str, f32, Option<&'static str>, Option<bool>);

const ROWS: [Row; 6] = [
    ("f", 100.0, None, None),
    ("a", 0.0, Some("grocery"), Some(true)),
    ("b", 10.0, Some("grocery"), Some(false)),
    ("c", 10.0, Some("drug"), Some(true)),
    ("d", 40.0, Some("drug"), Some(false)),
    ("e", 90.0, Some("grocery"), Some(true)),
];

/// Writes a version of the table and publishes it.
async fn publish(root: &Path, rows: &[Row]) -> u64 {
    let angles = rows.iter().flat_map(|row| [row.1.to_radians().cos(), row.1.to_radians().sin()]);
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new(Float32Array::from_iter_values(angles));
    let columns: [(&str, ArrayRef); 5] = [
        ("entity_id", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)))),
        ("vector", Arc::new(FixedSizeListArray::try_new(item, 2, values, None).unwrap())),
        ("model_id", Arc::new(StringArray::from(vec!["hand2"; rows.len()]))),
        ("department", Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2)))),
        ("in_stock", Arc::new(BooleanArray::from(rows.iter().map(|row| row.3).collect::<Vec<_>>()))),
    ];
    let fields: Vec<_> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.map(|(_, array)| array).into()).unwrap();
    let path = root.join(format!("embeddings/{TABLE}.lance"));
    let mode = if path.exists() { WriteMode::Overwrite } else { WriteMode::Create };
    let params = WriteParams { mode, ..WriteParams::default() };
    let batches = RecordBatchIterator::new([Ok(batch)], schema);
    let dataset = Dataset::write(batches, &*path.to_string_lossy(), Some(params)).await.unwrap();
    let version = dataset.version().version;
    match mode {
        WriteMode::Create => dataset.tags().create("prod", version).await.unwrap(),
        _ => dataset.tags().update("prod", version).await.unwrap(),
    }
    version
}

fn ask(query: Query, k: i32, filter: &str) -> SearchVectorsRequest {
    SearchVectorsRequest { table: TABLE.to_owned(), query: Some(query), k, filter: filter.to_owned() }
}

fn direction(degrees: f32) -> Query {
    // Its length does not matter.
    Query::Vector(Vector { values: vec![3.0 * degrees.to_radians().cos(), 3.0 * degrees.to_radians().sin()] })
}

fn names(found: &SearchVectorsResponse) -> Vec<&str> {
    found.hits.iter().map(|hit| hit.entity_id.as_str()).collect()
}

async fn search(client: &Client, request: SearchVectorsRequest) -> Result<SearchVectorsResponse, Status> {
    client.clone().search_vectors(request).await.map(tonic::Response::into_inner)
}

/// Asks until this version is served.
async fn served(client: &Client, version: u64) {
    let is_served = async || match search(client, ask(direction(0.0), 1, "")).await {
        Ok(found) => found.table_version == version.cast_signed(),
        Err(status) => {
            assert_eq!(status.code(), Code::NotFound, "{status}");
            false
        }
    };
    until("what is published is not served", is_served).await;
}

async fn with_vectors(check: impl AsyncFnOnce(Client, &Path)) {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let version = publish(sandbox.root(), &ROWS).await;
    let root = sandbox.root();
    sandbox
        .serve_then(root, async |channel| {
            let client = Client::new(channel);
            served(&client, version).await;
            check(client, root).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn search_vectors_finds_the_nearest_of_a_vector_and_of_an_entity() {
    with_vectors(async |client, _| {
        let found = search(&client, ask(direction(8.0), 3, "")).await.unwrap();
        assert_eq!((names(&found), found.model_id.as_str()), (vec!["b", "c", "a"], "hand2"));
        assert_eq!(found.recall_at_10, 1.0, "so few are all compared");
        let cosine = 2.0_f32.to_radians().cos();
        assert!((found.hits[0].similarity - cosine).abs() < 1e-5, "{:?}", found.hits[0]);
        let attributes = [("department", "drug"), ("in_stock", "true")];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(found.hits[1].attributes, attributes);

        let found = search(&client, ask(Query::EntityId("a".to_owned()), 0, "")).await.unwrap();
        assert_eq!(names(&found), ["b", "c", "d", "e", "f"], "all but itself");
        assert!(found.hits[4].attributes.is_empty(), "what is missing is not told");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn search_vectors_returns_as_many_as_match_the_filter() {
    with_vectors(async |client, _| {
        for (filter, expect) in [
            ("department = \"grocery\"", vec!["b", "a", "e"]),
            ("department = \"grocery\" AND department = \"drug\"", vec![]),
            ("department != \"grocery\"", vec!["c", "d", "f"]),
            ("department = \"toys\"", vec![]),
            ("department = \"\"", vec!["f"]),
            ("department = \"Grocery\"", vec![]),
            ("in_stock = true", vec!["c", "a", "e"]),
            ("in_stock = false", vec!["b", "d"]),
            ("in_stock != false", vec!["c", "a", "e", "f"]),
            ("department = \"grocery\" AND in_stock = true", vec!["a", "e"]),
        ] {
            let found = search(&client, ask(direction(9.0), 10, filter)).await.unwrap();
            assert_eq!(names(&found), expect, "{filter}");
            let found = search(&client, ask(direction(9.0), 2, filter)).await.unwrap();
            assert_eq!(names(&found), expect[..expect.len().min(2)], "{filter}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn search_vectors_changes_with_what_is_published() {
    with_vectors(async |client, root| {
        let without: Vec<_> = ROWS.into_iter().filter(|row| row.0 != "b").collect();
        served(&client, publish(root, &without).await).await;
        let found = search(&client, ask(direction(8.0), 3, "")).await.unwrap();
        assert_eq!(names(&found), ["c", "a", "d"]);
        let gone = search(&client, ask(Query::EntityId("b".to_owned()), 3, "")).await.unwrap_err();
        assert_eq!((gone.code(), gone.message().contains("no entity b")), (Code::NotFound, true), "{gone}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn search_vectors_says_what_is_wrong_with_a_request() {
    with_vectors(async |client, _| {
        let vector = |values: &[f32]| Query::Vector(Vector { values: values.to_vec() });
        let requests = [
            (ask(vector(&[1.0]), 1, ""), "vector.values"),
            (ask(vector(&[0.0, 0.0]), 1, ""), "vector.values"),
            (ask(vector(&[f32::NAN, 0.0]), 1, ""), "vector.values"),
            (ask(direction(0.0), 1001, ""), "k"),
            (ask(direction(0.0), -1, ""), "k"),
            (ask(direction(0.0), 1, "color = red"), "filter"),
            (ask(direction(0.0), 1, "department = a OR department = b"), "filter"),
            (ask(direction(0.0), 1, "NOT department = a"), "filter"),
            (ask(direction(0.0), 1, "-department = a"), "filter"),
            (ask(direction(0.0), 1, "department:a"), "filter"),
            (ask(direction(0.0), 1, "(department = a)"), "filter"),
            (ask(direction(0.0), 1, "channel = web"), "filter"),
            (ask(direction(0.0), 1, "in_stock = perhaps"), "filter"),
            (ask(Query::Text("cheese".to_owned()), 1, ""), "text"),
            (ask(Query::Text(" ".to_owned()), 1, ""), "query"),
            (SearchVectorsRequest { query: None, ..ask(direction(0.0), 1, "") }, "query"),
            (SearchVectorsRequest { table: String::new(), ..ask(direction(0.0), 1, "") }, "table"),
        ];
        for (request, field) in requests {
            let status = search(&client, request).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            assert!(status.message().starts_with(&format!("{field}: ")), "{field}: {status}");
        }
        let elsewhere = SearchVectorsRequest { table: "products".to_owned(), ..ask(direction(0.0), 1, "") };
        let status = search(&client, elsewhere).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().contains("`products`"), "{status}");
    })
    .await;
}
