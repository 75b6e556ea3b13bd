//! Sources of the configuration: `up` reads them before it is ready, and says what came of each.

use std::fs;

use serde_json::Value;

use crate::deployment::{DEMO, Deployment};

/// A configuration file with these sources of products, each a folder of CSV files below the data directory.
fn configuration(deployment: &Deployment, systems: &[&str]) -> String {
    let mut text = String::new();
    for system in systems {
        let root = deployment.path().join(system);
        text.push_str(&format!(
            r#"
            [[ingest.sources]]
            system = "{system}"
            files = {{ root = "{}", format = "csv" }}
            [[ingest.sources.entity]]
            name = "products"
            files = "*.csv"
            expect = [["sku", "text"], ["title", "text"]]
            map.product = {{ sku = "{{sku}}", title = "{{title}}" }}
            "#,
            root.display()
        ));
    }
    let file = deployment.path().join("omnimesh.toml");
    fs::write(&file, text).expect("a configuration");
    file.to_str().expect("a path in UTF-8").to_owned()
}

fn products(deployment: &Deployment, system: &str, rows: &str) {
    let folder = deployment.path().join(system);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("products.csv"), format!("sku,title\n{rows}")).expect("a file");
}

/// `system: landed, applied, quarantined` of what is known of each of these systems' products.
async fn sources(deployment: &Deployment, file: &str, systems: &[&str]) -> Vec<String> {
    let ended = deployment.start("status", &["--json", "--config", file]).ended().await;
    let status: Value = serde_json::from_str(&ended.stdout).expect("status prints JSON");
    let rows = status["sources"].as_array().expect("sources").iter();
    rows.filter(|row| systems.iter().any(|system| row["system"] == **system))
        .map(|row| {
            let system = row["system"].as_str().unwrap_or_default();
            format!("{system}: {}, {}, {}", row["landed"], row["applied"], row["quarantined"])
        })
        .collect()
}

#[tokio::test]
async fn configured_sources_are_read_before_it_is_ready() {
    let deployment = Deployment::embedded();
    products(&deployment, "erp", "1,Cookies\n2,Milk\n,Nothing\n");
    products(&deployment, "pim", "3,Bread\n");
    let file = configuration(&deployment, &["pim", "erp"]);
    for records in ["1 records", "0 records"] {
        let ended = deployment.up(&["--config", &file, "--exit-when-ready"]).ended().await;
        assert_eq!((ended.code, ended.stdout.lines().last()), (Some(0), Some("ready")), "{}", ended.stderr);
        let lines: Vec<_> = ended.stderr.lines().filter(|line| line.contains("ingest ")).collect();
        assert!(lines[0].contains("ingest pim") && lines[0].contains(records), "{lines:?}");
        assert!(lines[1].contains("ingest erp"), "{lines:?}");
        assert!(ended.stderr.contains("  1 records wait in quarantine"), "{}", ended.stderr);
    }
    assert_eq!(sources(&deployment, &file, &["erp", "pim"]).await, ["erp: 3, 2, 1", "pim: 1, 1, 0"]);
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_told_and_keeps_no_other_from_being_read() {
    let deployment = Deployment::embedded();
    products(&deployment, "erp", "1,Cookies\n");
    let file = configuration(&deployment, &["absent", "erp"]);
    let ended = deployment.up(&["--config", &file, "--exit-when-ready"]).ended().await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("the source absent cannot be ingested: "), "{}", ended.stderr);
    assert_eq!(sources(&deployment, &file, &["erp"]).await, ["erp: 1, 1, 0"]);
}

#[tokio::test]
async fn the_demo_is_read_before_configured_sources_and_never_without_being_asked() {
    let deployment = Deployment::embedded().of_events();
    products(&deployment, "erp", "1,Cookies\n");
    let file = configuration(&deployment, &["erp"]);
    let ended = deployment.up(&[&DEMO[..], &["--config", &file, "--exit-when-ready"]].concat()).ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let read: Vec<_> = ended
        .stderr
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ingest ")?.split_whitespace().next())
        .collect();
    assert_eq!((read.len(), read.last()), (7, Some(&"erp")), "{}", ended.stderr);

    for (flags, expect) in [(&["--config", &*file][..], 1), (&[], 0)] {
        let ended = deployment.up(&[flags, &["--exit-when-ready"]].concat()).ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.stderr.matches("ingest ").count(), expect, "{}", ended.stderr);
    }
    assert_eq!(sources(&deployment, &file, &["erp", "shop"]).await.len(), 4);
}
