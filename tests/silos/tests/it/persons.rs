//! Keys link most of a household's records, and never two households.

use std::{collections::BTreeMap, fs};

use serde_json::Value;
use sqlx::Row;

use crate::world::{Built, built};

type SourceRecord = (String, String);

fn normal_email(email: &str) -> String {
    email.trim().to_lowercase()
}

fn normal_phone(phone: &str) -> String {
    let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
    if digits.len() == 10 { format!("+1{digits}") } else { format!("+{digits}") }
}

/// The keys of every person record, as the silos wrote them.
async fn keys(built: &Built) -> BTreeMap<SourceRecord, Vec<String>> {
    let mut keys = BTreeMap::new();
    let mut shop = built.shop().await;
    let customers = sqlx::query("SELECT customer_id, email, phone, loyalty_card FROM customers");
    for row in customers.fetch_all(&mut shop).await.unwrap() {
        let phone: Option<String> = row.get(2);
        let card: Option<String> = row.get(3);
        let found = [Some(normal_email(row.get(1))), phone.map(|phone| normal_phone(&phone)), card];
        keys.insert(("shop".to_owned(), row.get(0)), found.into_iter().flatten().collect());
    }
    for file in fs::read_dir(built.path("marketplace")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for document in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let buyer = &document["buyer"];
            let (Some(id), Some(email)) = (buyer["id"].as_str(), buyer["email"].as_str()) else { continue };
            let phone = buyer["phone"].as_str().map(normal_phone);
            let found = [Some(normal_email(email)), phone];
            keys.insert(("marketplace".to_owned(), id.to_owned()), found.into_iter().flatten().collect());
        }
    }
    let mut members =
        csv::ReaderBuilder::new().flexible(true).from_path(built.path("loyalty/members.csv")).unwrap();
    for row in members.records().map(Result::unwrap).filter(|row| row.len() == 9) {
        let mut found = vec![row[0].to_owned()];
        found.extend((!row[2].is_empty()).then(|| normal_email(&row[2])));
        found.extend((!row[3].is_empty()).then(|| normal_phone(&row[3])));
        keys.insert(("loyalty".to_owned(), row[0].to_owned()), found);
    }
    keys
}

fn households(built: &Built) -> Vec<Vec<SourceRecord>> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let records = |household: &Value| {
        let records = household["records"].as_array().unwrap();
        records.iter().map(|record| (text(&record["system"]), text(&record["id"]))).collect()
    };
    built.json_lines("truth/households.jsonl").iter().map(records).collect()
}

#[tokio::test]
async fn truth_names_every_person_record_once() {
    let written: Vec<SourceRecord> = keys(built().await)
        .await
        .into_keys()
        .filter(|(system, id)| system != "loyalty" || id.starts_with("6012"))
        .collect();
    let mut known: Vec<SourceRecord> = households(built().await).into_iter().flatten().collect();
    known.sort();
    assert_eq!(known, written);
}

#[tokio::test]
async fn keys_are_never_shared_by_households() {
    let keys = keys(built().await).await;
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    for (household, records) in households(built().await).iter().enumerate() {
        for key in records.iter().flat_map(|record| &keys[record]) {
            let owner = *owners.entry(key).or_insert(household);
            assert_eq!(owner, household, "{key} is shared");
        }
    }
}

#[tokio::test]
async fn nine_of_ten_records_share_a_key_with_another() {
    let keys = keys(built().await).await;
    let (mut linked, mut all) = (0, 0);
    for records in households(built().await).iter().filter(|records| records.len() > 1) {
        for record in records {
            let shared = |other: &&SourceRecord| keys[*other].iter().any(|key| keys[record].contains(key));
            all += 1;
            linked +=
                usize::from(records.iter().filter(|other| *other != record).any(|other| shared(&other)));
        }
    }
    let share = linked as f64 / all as f64;
    assert!((0.85..0.95).contains(&share), "{linked} of {all}");
}
