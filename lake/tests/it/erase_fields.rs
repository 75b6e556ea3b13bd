//! Sources that name their fields in another language than English: whom they are about is said with what lands. Where
//! nobody says so, it is told, and can be said later.

use events::NewEvent;
use lake::{Config, Erasure};
use omnimesh_proto::{customer::v1::Customer, ingest::v1::RecordsLanded};
use tempfile::TempDir;

use crate::{
    sandbox::Sandbox,
    world::{at, changed, customer_changed, linked, records, source},
};

const GOES: &str = "golden-una-k3x9";
const ID: &str = "k-1";

/// Records of one entity that land together.
struct Landing {
    system: &'static str,
    entity: &'static str,
    columns: &'static [&'static str],
    subject_keys: &'static [&'static str],
    records: &'static [&'static str],
}

impl Landing {
    fn event(&self) -> NewEvent {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let landed = self.records.iter().enumerate();
        let landed: Vec<_> = landed.map(|(at, record)| (at.to_string(), (*record).to_owned())).collect();
        let payload = RecordsLanded {
            system: self.system.to_owned(),
            entity: self.entity.to_owned(),
            object: self.entity.to_owned(),
            record_count: landed.len() as i64,
            read_time: at(1),
            records: records(&landed).into(),
            columns: texts(self.columns),
            subject_keys: texts(self.subject_keys),
            ..RecordsLanded::default()
        };
        changed("omnimesh.ingest.v1.RecordsLanded", format!("sources/{}", self.system), &payload)
    }
}

const PERSONS: Landing = Landing {
    system: "leute",
    entity: "personen",
    columns: &[],
    subject_keys: &["leute/{nummer}", "{kontakt.post}"],
    records: &[
        r#"{"nummer":"k-1","kontakt":{"post":"u@a.b"}}"#,
        r#"{"nummer":"k-2","kontakt":{"post":"v@a.b"}}"#,
    ],
};
const BEFORE: Landing = Landing {
    system: "kasse",
    entity: "bons",
    columns: &["bon", "Kd, Nr", "ware"],
    subject_keys: &[],
    records: &["1,k-1,5", "2,k-2,5"],
};
const RECEIPTS: Landing =
    Landing { subject_keys: &["leute/{Kd, Nr}"], records: &["3,k-1,5", "4,k-2,5"], ..BEFORE };
const VISITS: Landing = Landing {
    system: "web",
    entity: "besuche",
    columns: &[],
    subject_keys: &["leute/{gaeste[].nr}"],
    records: &[r#"{"gaeste":[{"nr":"k-9"},{"nr":"k-1"}]}"#, r#"{"gaeste":[{"nr":"k-2"}]}"#],
};
const LOANS: Landing = Landing {
    system: "alt",
    entity: "verleih",
    columns: &["kd_nr", "buch"],
    subject_keys: &[],
    records: &["k-1,7", "k-2,8", "k-1,7,8"],
};
const LOG: Landing = Landing {
    entity: "logbuch",
    columns: &[],
    records: &[r#"{"ausleihen":{"k-1":[{"wer":"k-1"}]},"wann":"heute"}"#],
    ..LOANS
};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_erased_goes_by_the_fields_that_sources_name() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let landings = [PERSONS, BEFORE, RECEIPTS, VISITS, LOANS, LOG].map(|landing| landing.event());
    sandbox.publish("ingest", &landings, 1).await;
    let customer = Customer {
        golden_id: GOES.to_owned(),
        source_refs: source("leute", ID).into_iter().collect(),
        ..Customer::default()
    };
    sandbox.publish("customer", &[customer_changed(customer)], 1).await;
    sandbox.publish("identity", &[linked(GOES, source("leute", ID))], 1).await;
    sandbox.export().await;
    let config = Config { root: sandbox.root().into(), ..Config::default() };
    // The lake forgets which id is whose.
    let keys = [GOES.to_owned(), format!("leute/{ID}")];
    let erase = async |dry_run: bool| lake::erase(&config, &keys, dry_run, &|_| {}).await.unwrap();
    let payloads = async |table: &str| sandbox.rows(&format!("bronze/bronze_{table}"), &["_payload"]).await;
    let unclear = |erasure: &Erasure| {
        let fields = erasure.unclear.iter().flat_map(|(table, fields)| {
            fields.iter().map(move |(field, records)| format!("{table} {field} {records}"))
        });
        fields.collect::<Vec<_>>()
    };

    let preview = erase(true).await;
    let erasure = erase(false).await;
    assert!(erasure.verified, "{erasure:?}");
    assert_eq!(payloads("leute__personen").await, &PERSONS.records[1..]);
    assert_eq!(payloads("kasse__bons").await, ["2,k-2,5", "4,k-2,5"], "what landed before is alike");
    assert_eq!(payloads("web__besuche").await, &VISITS.records[1..]);
    assert_eq!(payloads("alt__verleih").await, ["k-1,7", "k-1,7,8", "k-2,8"], "it names no persons");
    let expected = [
        "bronze/bronze_alt__logbuch ausleihen.* 1",
        "bronze/bronze_alt__logbuch ausleihen.*[].wer 1",
        "bronze/bronze_alt__verleih ? 1",
        "bronze/bronze_alt__verleih kd_nr 1",
    ];
    assert_eq!(unclear(&erasure), expected);
    assert_eq!(unclear(&preview), expected);
    let kept = sandbox.rows("_meta/erasures", &["unclear"]).await;
    assert_eq!(
        kept,
        [r#"{"bronze/bronze_alt__logbuch":2,"bronze/bronze_alt__verleih":2}"#],
        "names may be persons'"
    );

    // Once it is said, it is so for what landed before; and whatever comes again stays out.
    let said = Landing { subject_keys: &["leute/{kd_nr}"], records: &["k-2,9"], ..LOANS };
    sandbox.publish("ingest", &[said.event(), RECEIPTS.event()], 1).await;
    sandbox.export().await;
    let erasure = erase(false).await;
    assert_eq!(payloads("alt__verleih").await, ["k-1,7,8", "k-2,8", "k-2,9"]);
    assert_eq!(payloads("kasse__bons").await, ["2,k-2,5", "4,k-2,5", "4,k-2,5"]);
    assert_eq!(unclear(&erasure), expected[..3]);
}
