//! RunSource over Parquet files, whole and torn.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::Schema,
};
use ingest::Definition;
use omnimesh_proto::ingest::v1::ListQuarantinedRecordsRequest;
use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};

use crate::{sandbox::Sandbox, silo::Silo};

/// Products as the bytes of a file, three in a row group.
fn products(rows: &[(Option<&str>, Option<i64>)]) -> Vec<u8> {
    let columns: [(&str, ArrayRef); 3] = [
        ("sku", Arc::new(rows.iter().map(|(sku, _)| *sku).collect::<StringArray>())),
        ("size", Arc::new(rows.iter().map(|(_, size)| *size).collect::<Int64Array>())),
        ("extra", Arc::new(StringArray::from(vec!["extra"; rows.len()]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let schema: Arc<Schema> = batch.schema();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(3)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).expect("a writer");
    writer.write(&batch).expect("written");
    writer.into_inner().expect("closed")
}

fn definition(silo: &Silo) -> Vec<Definition> {
    let text = r#"
        system = "erp"
        [files]
        root = "stock"
        format = "parquet"
        [[entity]]
        name = "products"
        files = "*.parquet"
        expect = [["sku", "text"], ["size", "integer"]]
        map.product = { sku = "{sku}", package_size = "{size} OZ" }
    "#;
    vec![Definition::parse(text, "erp.toml").expect("a definition").below(&silo.path(""))]
}

#[tokio::test]
async fn run_source_reads_parquet() {
    let silo = Silo::new();
    let rows = [(Some("7"), Some(1)), (Some("8"), None), (None, Some(1)), (Some(""), Some(1))];
    silo.write("stock/products.parquet", products(&rows));
    silo.write("stock/torn.parquet", "PAR1");
    let sandbox = Sandbox::new(definition(&silo)).await;
    for _ in 0..2 {
        sandbox.run("erp").await.expect("a run");
        assert_eq!(sandbox.counts("erp", "products").await, [5, 1, 4, 2]);
    }
    assert_eq!(sandbox.product("7").await.package_size, "1 OZ");
    let quarantined = sandbox.quarantined().await;
    let reasons: Vec<_> = quarantined.iter().map(|(_, reason, _)| reason.as_str()).collect();
    assert_eq!(reasons[..3], ["size: is missing", "sku: is missing", "sku: is missing"]);
    assert!(reasons[3].starts_with("the file cannot be read as Parquet: "), "{quarantined:?}");
}

#[tokio::test]
async fn run_source_quarantines_torn_parquet_as_one() {
    let silo = Silo::new();
    let skus: Vec<_> = (0..3000).map(|number| number.to_string()).collect();
    let whole = products(&skus.iter().map(|sku| (Some(sku.as_str()), Some(1))).collect::<Vec<_>>());
    // The footer stays as it was: the damage shows only when a row group inside is read.
    let mut torn = whole.clone();
    torn[1000..1200].fill(0xff);
    silo.write("stock/a.parquet", &torn);
    silo.write("stock/b.parquet", products(&[(Some("b"), Some(1))]));
    let sandbox = Sandbox::new(definition(&silo)).await;
    for _ in 0..2 {
        sandbox.run("erp").await.expect("a run");
        assert_eq!(sandbox.counts("erp", "products").await, [2, 1, 1, 2]);
        // It has another time, and is what it was.
        silo.write("stock/a.parquet", &torn);
    }
    let [(position, reason, _)] = sandbox.quarantined().await.try_into().expect("one record");
    assert_eq!(position, "a.parquet");
    assert!(reason.starts_with("the file cannot be read as Parquet: "), "{reason}");
    assert_eq!(sandbox.product("b").await.package_size, "1 OZ");

    silo.write("stock/a.parquet", &whole);
    sandbox.run("erp").await.expect("a run");
    assert_eq!(sandbox.counts("erp", "products").await, [3001, 3001, 0, 2]);
}

#[tokio::test]
async fn run_source_withstands_any_damage_to_parquet() {
    let silo = Silo::new();
    let whole =
        products(&[(Some("7"), Some(1)), (Some("8"), Some(2)), (Some("9"), None), (Some("10"), Some(3))]);
    for byte in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[byte] = !damaged[byte];
        silo.write(&format!("stock/{byte}.parquet"), damaged);
    }
    let sandbox = Sandbox::new(definition(&silo)).await;
    sandbox.run("erp").await.expect("a run");
    let [landed, applied, quarantined, files] = sandbox.counts("erp", "products").await;
    assert_eq!((applied + quarantined, files), (landed, whole.len() as i64));
}

#[tokio::test]
async fn run_source_lands_large_records_in_events_that_can_be_read() {
    let silo = Silo::new();
    // Nothing that compresses well: 24 MiB in one row group, and a record that is too long.
    let mut state = 1_u64;
    let mut text = |bytes: usize| -> String {
        let letter = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + 1 + (state >> 58) as u8 % 64)
        };
        (0..bytes).map(letter).collect::<String>().replace(['"', '\\'], "x")
    };
    let skus: Vec<_> =
        [[2; 12].as_slice(), &[5]].concat().into_iter().map(|mib| text(mib * 1024 * 1024)).collect();
    let column: ArrayRef = Arc::new(StringArray::from(skus));
    let batch = RecordBatch::try_from_iter([("sku", column)]).expect("a batch");
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    silo.write("stock/large.parquet", writer.into_inner().expect("closed"));
    let sandbox = Sandbox::new(definition(&silo)).await;
    sandbox.run("erp").await.expect("a run");
    assert_eq!(sandbox.counts("erp", "products").await, [13, 0, 13, 1]);
    assert!(sandbox.events("ingest").await.len() > 4);

    // They are read back in pages that can be sent.
    let mut request = ListQuarantinedRecordsRequest { page_size: 1000, ..Default::default() };
    let mut pages = Vec::new();
    loop {
        let page = sandbox.list_records(request.clone()).await.expect("a page");
        pages.push(page.records.len());
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!((pages.len() > 3, pages.iter().sum::<usize>()), (true, 13), "{pages:?}");
}
