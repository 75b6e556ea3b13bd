//! RunSource: what lands says by which fields it names persons, as the definition has mapped them.

use std::collections::BTreeMap;

use ingest::Definition;
use omnimesh_proto::ingest::v1::RecordsLanded;
use prost::Message;

use crate::{
    sandbox::Sandbox,
    silo::{Silo, document, row},
};

const SHOP: &str = r#"
    system = "laden"
    files = { root = "laden", format = "jsonl" }
    [[entity]]
    name = "kunden"
    files = "kunden.jsonl"
    expect = [["kd_nr", "text"], ["kontakt.mail", "text?"], ["ort", "text?"]]
    map.identity = { id = "K-{kd_nr}", email = "{kontakt.mail}", city = "{ort}", update_time = [] }
    [[entity]]
    name = "besuche"
    files = "besuche.jsonl"
    subject_keys = ["laden/K-{gast.nr}", "{karten[].nummer}"]
    expect = [["gast.nr", "text"], ["karten[].nummer", "text"]]
    [[entity]]
    name = "waren"
    files = "waren.jsonl"
    expect = [["nr", "text"]]
"#;

/// By system and entity.
const SUBJECT_KEYS: [(&str, &str, &[&str]); 5] = [
    ("laden", "besuche", &["laden/K-{gast.nr}", "{karten[].nummer}"]),
    ("laden", "kunden", &["laden/K-{kd_nr}", "{kontakt.mail}"]),
    ("laden", "waren", &[]),
    ("marketplace", "orders", &["marketplace/{buyer.id}", "{buyer.email}", "{buyer.phone}"]),
    ("pos", "receipts", &["loyalty/{loyalty_card}"]),
];

#[tokio::test]
async fn run_source_tells_which_fields_name_persons() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50")]);
    silo.write("marketplace/a.jsonl", document("1", "SHIPPED", "0.50"));
    silo.write("laden/kunden.jsonl", r#"{"kd_nr":"17","kontakt":{"mail":"a@example.com"}}"#);
    silo.write("laden/besuche.jsonl", r#"{"gast":{"nr":"17"},"karten":[{"nummer":"1"}]}"#);
    silo.write("laden/waren.jsonl", r#"{"nr":"17"}"#);
    let shop = Definition::parse(SHOP, "laden.toml").expect("a definition").below(&silo.path(""));
    let sandbox = Sandbox::new(silo.sources().into_iter().chain([shop]).collect()).await;
    for system in ["laden", "marketplace", "pos"] {
        sandbox.run(system).await.expect("a run");
    }
    let events = sandbox.events("ingest").await.into_iter();
    let landed = events.filter(|event| event.r#type.ends_with("RecordsLanded"));
    let landed = landed.map(|event| RecordsLanded::decode(event.payload).expect("a payload"));
    let told = landed.map(|landed| ((landed.system, landed.entity), landed.subject_keys));
    let expected = SUBJECT_KEYS.map(|(system, entity, keys)| {
        let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        ((system.to_owned(), entity.to_owned()), keys)
    });
    assert_eq!(told.collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));
}
