//! Consumers as an operator keeps them, while the edge runs that they call.

use std::time::Duration;

use omnimesh_proto::{
    ingest::v1::{ListSourcesRequest, ingest_service_client::IngestServiceClient},
    order::v1::{ListOrdersRequest, order_service_client::OrderServiceClient},
};
use serde_json::{Value, json};
use tokio::time::{interval, timeout};
use tonic::Code;

use crate::{
    client::grpc,
    deployment::Deployment,
    process::{Ended, PATIENCE},
};

/// `omnimesh consumer`, ended.
async fn consumer(deployment: &Deployment, command: &str, flags: &[&str]) -> Ended {
    deployment.start("consumer", &[&[command], flags].concat()).ended().await
}

/// The key that a consumer is given.
async fn add(deployment: &Deployment, flags: &[&str]) -> String {
    let ended = consumer(deployment, "add", flags).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let key = ended.stdout.strip_suffix('\n').expect("a line").to_owned();
    assert!(key.starts_with("omk_") && !key.contains(char::is_whitespace), "{key}");
    assert!(!ended.stderr.contains(&key), "it is printed once: {}", ended.stderr);
    key
}

async fn list(deployment: &Deployment) -> Value {
    let ended = consumer(deployment, "list", &["--json"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("list prints JSON")
}

/// How a call to read orders ends.
async fn read_orders(deployment: &Deployment, key: &str) -> Code {
    let mut client = OrderServiceClient::new(grpc(deployment.address(), Some(key.to_owned())).await);
    client.list_orders(ListOrdersRequest::default()).await.err().map_or(Code::Ok, |status| status.code())
}

/// How a call to read sources ends.
async fn read_sources(deployment: &Deployment, key: &str) -> Code {
    let mut client = IngestServiceClient::new(grpc(deployment.address(), Some(key.to_owned())).await);
    client.list_sources(ListSourcesRequest::default()).await.err().map_or(Code::Ok, |status| status.code())
}

/// Waits until calls with the key end so.
async fn becomes(deployment: &Deployment, key: &str, code: Code) {
    let mut poll = interval(Duration::from_millis(100));
    let becoming = async {
        while read_orders(deployment, key).await != code {
            poll.tick().await;
        }
    };
    timeout(PATIENCE, becoming).await.expect("a running edge hears of keys that were added and revoked");
}

#[tokio::test]
async fn a_key_works_for_what_and_as_long_as_it_was_given() {
    for deployment in [Deployment::embedded(), Deployment::postgres().await] {
        let mut process = deployment.up(&[]);
        process.ready().await;
        let reader = add(&deployment, &["reports"]).await;
        let till = add(&deployment, &["till-7", "--permission", "order.read", "--expires", "90d"]).await;
        becomes(&deployment, &till, Code::Ok).await;
        becomes(&deployment, &reader, Code::Ok).await;
        assert_eq!(read_sources(&deployment, &till).await, Code::PermissionDenied);
        assert_eq!(read_sources(&deployment, &reader).await, Code::Ok);

        let listed = list(&deployment).await;
        let named = |name: &str| {
            let keys = listed.as_array().expect("a list").iter();
            keys.filter(|key| key["consumer"] == name).cloned().collect::<Vec<_>>()
        };
        assert_eq!((named("admin").len(), named("reports").len(), named("till-7").len()), (1, 1, 1));
        assert_eq!(named("till-7")[0]["permissions"], json!(["order.read"]));
        assert_eq!(named("till-7")[0]["expired"], json!(false));
        assert_eq!(named("reports")[0]["expires_at"], Value::Null);
        let id = named("till-7")[0]["key"].as_str().expect("an id").to_owned();
        assert!(till.starts_with(&format!("{id}_")) && !listed.to_string().contains(&till));

        for (key, revoked) in [(&till, &*id), (&reader, "reports")] {
            assert_eq!(consumer(&deployment, "revoke", &[revoked]).await.code, Some(0));
            becomes(&deployment, key, Code::Unauthenticated).await;
        }
        let again = consumer(&deployment, "revoke", &["reports"]).await;
        assert_eq!(again.code, Some(1));
        assert!(again.stderr.contains("there is no consumer and no key `reports`"), "{}", again.stderr);
        let ended = process.stop("TERM").await;
        assert_eq!((ended.code, ended.stderr.contains("WARN")), (Some(0), false), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_plan_bounds_its_consumers_and_what_they_used_is_told() {
    for deployment in [Deployment::embedded(), Deployment::postgres().await] {
        let mut process = deployment.up(&[]);
        process.ready().await;
        let plan = async |flags: &[&str]| consumer(&deployment, "plan", flags).await;
        assert_eq!(plan(&["set", "small", "--monthly-quota", "3"]).await.code, Some(0));
        let key = add(&deployment, &["till-7", "--plan", "small"]).await;
        becomes(&deployment, &key, Code::Ok).await;
        becomes(&deployment, &key, Code::ResourceExhausted).await;
        assert_eq!(plan(&["assign", "till-7"]).await.code, Some(0));
        becomes(&deployment, &key, Code::Ok).await;
        assert_eq!(plan(&["assign", "till-7", "small"]).await.code, Some(0));
        process.stop("TERM").await;

        let usage = consumer(&deployment, "usage", &["--json"]).await;
        let usage: Value = serde_json::from_str(&usage.stdout).expect("usage prints JSON");
        let mut entries = usage["consumers"].as_array().expect("a list").iter();
        let till = entries.find(|entry| entry["consumer"] == "till-7").expect("the consumer");
        assert_eq!((&till["plan"], &till["quota"], &till["held"]), (&json!("small"), &json!(3), &json!(0)));
        assert!(till["used"].as_u64().is_some_and(|used| used >= 4), "{till}");
        assert_eq!(plan(&["remove", "small"]).await.code, Some(2), "till-7 is on it");
        let other = consumer(&deployment, "usage", &["--month", "2020-01", "--json"]).await;
        assert!(other.stdout.contains(r#""used": 0"#), "{}", other.stdout);
        assert_eq!(consumer(&deployment, "usage", &["--month", "spring"]).await.code, Some(2));
    }
}

#[tokio::test]
async fn a_key_ends_by_itself() {
    let deployment = Deployment::embedded();
    let mut process = deployment.up(&[]);
    process.ready().await;
    let key = add(&deployment, &["partner", "--expires", "1s"]).await;
    let mut poll = interval(Duration::from_millis(100));
    let expiring = async {
        while list(&deployment).await[1]["expired"] != json!(true) {
            poll.tick().await;
        }
    };
    timeout(PATIENCE, expiring).await.expect("a second passes");
    assert_eq!(read_orders(&deployment, &key).await, Code::Unauthenticated);
    process.stop("TERM").await;
}

#[tokio::test]
async fn edges_that_share_a_database_share_its_consumers_and_keep_their_own_admin_keys() {
    let one = Deployment::postgres().await;
    let other = one.beside();
    let mut processes = [one.up(&[]), other.up(&[])];
    for process in &mut processes {
        process.ready().await;
    }
    let key = add(&one, &["till-7"]).await;
    for deployment in [&one, &other] {
        for key in [&key, &one.key(), &other.key()] {
            becomes(deployment, key, Code::Ok).await;
        }
    }
    let [first, second] = processes;
    first.stop("TERM").await;

    // A lost file is made anew, and takes nothing from the other edge.
    let lost = one.key();
    std::fs::remove_file(one.path().join("admin.key")).expect("removed");
    let mut first = one.up(&[]);
    first.ready().await;
    assert_ne!(one.key(), lost);
    for key in [one.key(), other.key()] {
        assert_eq!(read_orders(&one, &key).await, Code::Ok);
    }
    becomes(&other, &one.key(), Code::Ok).await;
    assert_eq!(read_orders(&other, &other.key()).await, Code::Ok);
    for process in [first, second] {
        process.stop("TERM").await;
    }
}

#[tokio::test]
async fn what_cannot_be_granted_is_refused_in_a_line() {
    let deployment = Deployment::embedded();
    let absent = deployment.path().join("absent");
    let absent = absent.to_str().expect("a path in UTF-8");
    for (flags, says) in [
        (&["till-7", "--permission", "order.raed"][..], "`order.raed`: take one of catalog.read, "),
        (&["till-7", "--expires", "soon"][..], "take a span such as 90d"),
        (&["till-7", "--expires", "2020-01-01T00:00:00Z"][..], "is not in the future"),
        (&["admin"][..], "`admin` cannot be a consumer's name"),
        (&["till-7", "--plan", "silver"][..], "there is no plan `silver`"),
        (&["till-7", "--data-dir", absent][..], "there is no data directory"),
    ] {
        let ended = match flags.contains(&absent) {
            true => crate::process::omnimesh([&["consumer", "add"], flags].concat()).await,
            false => consumer(&deployment, "add", flags).await,
        };
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
        assert!(ended.stderr.contains(says) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    }
}
