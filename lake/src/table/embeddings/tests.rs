//! Tables of vectors over small tables with answers known by hand.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{BooleanArray, TimestampMicrosecondArray};
use tempfile::TempDir;

use super::*;
use crate::{
    TableName,
    columns::{Column, batch, integer, list, optional_text, text},
    dataset::Store,
    sql,
    table::DERIVED,
    vector::{
        components,
        embedder::{HashEmbedder, TextEmbedder},
    },
};

/// Counts what it is asked for.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl TextEmbedder for Counting {
    fn model_id(&self) -> &str {
        "counting"
    }

    fn dimension(&self) -> usize {
        HashEmbedder.dimension()
    }

    fn embed(&self, text: &str) -> Option<Vec<f32>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        HashEmbedder.embed(text)
    }
}

/// A lake of tables that are what a test says.
struct Lake {
    _directory: TempDir,
    store: Store,
    snapshot: Snapshot,
    runtime: Arc<RuntimeEnv>,
}

impl Lake {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let store = Store::create(&directory.path().into()).unwrap();
        Self {
            _directory: directory,
            store,
            snapshot: Snapshot::default(),
            runtime: sql::runtime(1 << 28).unwrap(),
        }
    }

    async fn put(&mut self, layer: Layer, name: &str, columns: Vec<Column>) {
        let name = TableName::new(layer, name).unwrap();
        let schema = batch(columns).unwrap();
        let rows = stream::iter([Ok(schema.clone())]);
        let rows = Box::pin(RecordBatchStreamAdapter::new(schema.schema(), rows));
        let card = Card { key: vec![schema.schema().field(0).name().clone()], ..Card::default() };
        let mut table = self.store.open(name.clone()).await.unwrap();
        let turn = self.store.turn().await.unwrap();
        table.replace(&turn, rows, &card, Default::default(), None).await.unwrap();
        self.snapshot.insert(name, table.dataset().unwrap().clone());
    }

    /// Products: sku, title, category path, brand; and what gold makes of them.
    async fn products(&mut self, products: &[(&str, &str, &[&str], &str)]) {
        let paths = products.iter().map(|product| product.2);
        let count = products.len();
        let ids: Vec<_> = paths.clone().map(|path| path.join(".")).collect();
        let unsaid = || std::iter::repeat_n("", count);
        let columns = vec![
            text("sku", products.iter().map(|product| product.0)),
            optional_text("title", products.iter().map(|product| product.1)),
            list("category_path", paths.clone().map(<[_]>::len), text("item", paths.flatten().copied())),
            optional_text("brand", products.iter().map(|product| product.3)),
            optional_text("category_id", ids.iter().map(String::as_str)),
            optional_text("manufacturer_id", unsaid()),
            optional_text("package_size", unsaid()),
            Column::new("is_current", BooleanArray::from(vec![true; count])),
            Column::new("valid_from", TimestampMicrosecondArray::from(vec![1; count]).with_timezone("UTC")),
        ];
        self.put(Layer::Silver, "products_scd", columns).await;
        let is_dimension = |derived: &&&dyn Derived| derived.name().unwrap().as_str() == "dim_product";
        self.compute(*DERIVED.iter().find(is_dimension).unwrap()).await;
    }

    /// Lines of orders of their own: customer, sku.
    async fn lines(&mut self, lines: &[(&str, &str)]) {
        let orders: Vec<_> = (0..lines.len()).map(|number| format!("{number:04}")).collect();
        let times = TimestampMicrosecondArray::from_iter_values(0..lines.len() as i64);
        let columns = vec![
            text("order_uid", orders.iter().map(String::as_str)),
            text("golden_id", lines.iter().map(|line| line.0)),
            text("channel", lines.iter().map(|line| if line.0 == "ada" { "pos" } else { "web" })),
            text(
                "status",
                lines.iter().map(|line| if line.1 == "taken-back" { "cancelled" } else { "placed" }),
            ),
            text("sku", lines.iter().map(|line| line.1)),
            integer("amount_minor", lines.iter().map(|line| if line.1 == "returned" { -100 } else { 100 })),
            Column::new("ordered_at", times.with_timezone("UTC")),
        ];
        self.put(Layer::Gold, "fct_order_line", columns).await;
    }

    /// Stocks at locations of their own: sku, how much is on hand.
    async fn stocks(&mut self, stocks: &[(&str, i64)]) {
        let locations: Vec<_> = (0..stocks.len()).map(|number| number.to_string()).collect();
        let columns = vec![
            text("location_id", locations.iter().map(String::as_str)),
            text("sku", stocks.iter().map(|stock| stock.0)),
            integer("on_hand", stocks.iter().map(|stock| stock.1)),
        ];
        self.put(Layer::Silver, "inventory_snapshots", columns).await;
    }

    /// Computes a table and keeps it, as a run does.
    async fn compute(&mut self, derived: &dyn Derived) -> RecordBatch {
        let name = derived.name().unwrap();
        let rows = derived.compute(&self.snapshot, &self.runtime).await.unwrap();
        let mut table = self.store.open(name.clone()).await.unwrap();
        let turn = self.store.turn().await.unwrap();
        table.replace(&turn, rows, &derived.card(), Default::default(), None).await.unwrap();
        derived.ready(&mut table).await.unwrap();
        let dataset = table.dataset().unwrap().clone();
        let batch = dataset.scan().try_into_batch().await.unwrap();
        self.snapshot.insert(name, dataset);
        batch
    }
}

fn column(rows: &RecordBatch, column: &str) -> Vec<String> {
    texts(rows, column).unwrap().map(str::to_owned).collect()
}

fn in_stock(rows: &RecordBatch) -> Vec<Option<bool>> {
    rows.column_by_name("in_stock").unwrap().as_boolean().iter().collect()
}

fn cosine(rows: &RecordBatch, a: &str, b: &str) -> f32 {
    let entities = column(rows, ENTITY);
    let (dimension, values) = components(rows).unwrap();
    let vector = |entity: &str| {
        let row = entities.iter().position(|known| known == entity).unwrap();
        values[row * dimension..][..dimension].to_vec()
    };
    vector(a).iter().zip(vector(b)).map(|(a, b)| a * b).sum()
}

const PRODUCTS: [(&str, &str, &[&str], &str); 5] = [
    (
        "1",
        "NUT BUTTERS/PEANUT  BUTTER",
        &["nutrition", "condiments", "nut-butters-peanut--butter"],
        "National",
    ),
    ("2", "Cheddar", &["grocery", "cheese"], "Private"),
    ("3", "CHEDDAR", &["grocery", "cheese"], "National"),
    ("4", "", &[], "National"),
    ("5", "Soap", &[], ""),
];

#[tokio::test]
async fn products_are_described_by_title_and_categories() {
    let mut lake = Lake::new();
    lake.products(&PRODUCTS).await;
    let rows = lake.compute(&ProductsByText::new(Arc::new(HashEmbedder))).await;
    // The fourth has nothing that could be embedded.
    assert_eq!(column(&rows, ENTITY), ["1", "2", "3", "5"]);
    let texts = [
        "nut butters/peanut butter, condiments, nutrition",
        "cheddar, cheese, grocery",
        "cheddar, cheese, grocery",
        "soap",
    ];
    assert_eq!(column(&rows, TEXT), texts);
    assert_eq!(column(&rows, "department"), ["nutrition", "grocery", "grocery", "unknown"]);
    let categories = ["nutrition.condiments", "grocery.cheese", "grocery.cheese", "unknown"];
    assert_eq!(column(&rows, "category"), categories);
    assert_eq!(column(&rows, MODEL), ["hash256"; 4]);
    let (dimension, values) = components(&rows).unwrap();
    for (text, vector) in texts.iter().zip(values.chunks_exact(dimension)) {
        assert_eq!(Some(vector.to_vec()), HashEmbedder.embed(text));
    }
    let digests = rows.column_by_name("text_sha256").unwrap().as_fixed_size_binary();
    assert_eq!(
        hex::encode(digests.value(3)),
        "736bc2d4e0945110e88f7808a4a4d38d3479a0122de1de7ac84c920121928480"
    );
}

#[tokio::test]
async fn products_of_any_script_are_described() {
    let mut lake = Lake::new();
    let products: [(&str, &str, &[&str], &str); 3] = [
        ("1", "米飯/白", &["食品", "米飯-白"], ""),
        ("2", "ข้าว 5%", &["อาหาร", "ข้าว-5-"], ""),
        ("3", "Käse", &["essen", "käse"], ""),
    ];
    lake.products(&products).await;
    let rows = lake.compute(&ProductsByText::new(Arc::new(HashEmbedder))).await;
    assert_eq!(column(&rows, TEXT), ["米飯/白, 食品", "ข้าว 5%, อาหาร", "käse, essen"]);
    assert_eq!(column(&rows, "department"), ["食品", "อาหาร", "essen"]);
    assert_eq!(column(&rows, "category"), ["食品.米飯-白", "อาหาร.ข้าว-5-", "essen.käse"]);
}

#[tokio::test]
async fn only_texts_that_changed_are_embedded_again() {
    let mut lake = Lake::new();
    let model = Arc::new(Counting::default());
    let table = ProductsByText::new(model.clone());
    lake.products(&PRODUCTS).await;
    lake.compute(&table).await;
    assert_eq!(model.0.swap(0, Ordering::Relaxed), 4, "two products share a text");
    let mut changed = PRODUCTS;
    changed[4].1 = "Soap bar";
    changed[1].3 = "National";
    lake.products(&changed).await;
    let rows = lake.compute(&table).await;
    // What has no vector is not in the table, so it is tried again.
    assert_eq!(model.0.load(Ordering::Relaxed), 2);
    assert_eq!(column(&rows, "brand"), ["National", "National", "National", ""]);
    assert!(cosine(&rows, "2", "3") > 0.999);
}

#[tokio::test]
async fn stock_that_comes_and_goes_makes_no_vector_anew() {
    let mut lake = Lake::new();
    let model = Arc::new(Counting::default());
    let table = ProductsByText::new(model.clone());
    lake.products(&PRODUCTS[..3]).await;
    assert_eq!(in_stock(&lake.compute(&table).await), [None; 3], "nobody tells of stocks");
    model.0.store(0, Ordering::Relaxed);
    lake.stocks(&[("1", 0), ("1", 2), ("2", 0), ("2", -1)]).await;
    assert_eq!(in_stock(&lake.compute(&table).await), [Some(true), Some(false), None]);
    lake.stocks(&[("1", 0), ("2", 1)]).await;
    assert_eq!(in_stock(&lake.compute(&table).await), [Some(false), Some(true), None]);
    assert_eq!(model.0.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn products_are_alike_that_the_same_customers_buy() {
    let mut lake = Lake::new();
    lake.products(&PRODUCTS).await;
    // Ada and Bob buy cheese, Cy and Dee buy soap and something that no catalogue knows; `unknown` is nobody.
    let mut lines = vec![("unknown", "1"), ("ada", "taken-back"), ("ada", "returned")];
    for customer in ["ada", "bob"] {
        lines.extend([(customer, "2"), (customer, "3"), (customer, "2")]);
    }
    for customer in ["cy", "dee"] {
        lines.extend([(customer, "5"), (customer, "unknown")]);
    }
    lake.lines(&lines).await;
    lake.stocks(&[("2", 1), ("3", 0)]).await;
    let products = lake.compute(&ProductsByBuyers).await;
    assert_eq!(column(&products, ENTITY), ["2", "3", "5", "unknown"]);
    assert_eq!(column(&products, "department"), ["grocery", "grocery", "unknown", ""]);
    assert_eq!(in_stock(&products), [Some(true), Some(false), None, None]);
    assert!(cosine(&products, "2", "3") > 0.999 && cosine(&products, "5", "unknown") > 0.999);
    assert!(cosine(&products, "2", "5").abs() < 1e-3);

    let customers = lake.compute(&CustomersByPurchases).await;
    assert_eq!(column(&customers, ENTITY), ["ada", "bob", "cy", "dee"]);
    assert_eq!(column(&customers, "channel"), ["pos", "web", "web", "web"]);
    assert!(cosine(&customers, "ada", "bob") > 0.999 && cosine(&customers, "ada", "cy").abs() < 1e-3);
    // In one space: a customer lies where its products do.
    let (dimension, products) = components(&products).unwrap();
    let (_, customers) = components(&customers).unwrap();
    let near: f32 = products[..dimension].iter().zip(&customers[..dimension]).map(|(a, b)| a * b).sum();
    assert!(near > 0.999);

    let lineage = ProductsByBuyers.lineage(&lake.snapshot, &lake.runtime).await.unwrap();
    let vector = lineage.columns[VECTOR].iter().filter(|origin| origin.role.is_direct());
    let vector: Vec<_> = vector.map(|origin| (&*origin.table, &*origin.field)).collect();
    assert_eq!(vector, [("gold/fct_order_line", "golden_id"), ("gold/fct_order_line", "sku")]);
}

#[tokio::test]
async fn without_purchases_there_are_no_vectors() {
    let mut lake = Lake::new();
    lake.products(&PRODUCTS).await;
    lake.lines(&[("unknown", "1")]).await;
    assert_eq!(lake.compute(&ProductsByBuyers).await.num_rows(), 0);
    assert_eq!(lake.compute(&CustomersByPurchases).await.num_rows(), 0);
}
