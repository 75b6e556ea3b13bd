//! Plans: how often a consumer may call, on one edge and on several that share a database.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use edge::{Consumers, DatabaseUrl, Month, Plan, Rate, Usage};
use http::StatusCode;
use jiff::Timestamp;
use prost::Message as _;
use tempfile::TempDir;
use tonic_types::pb::{QuotaFailure, RetryInfo, Status};

use crate::backend::{Backend, frame};
use crate::harness::{Edge, PATIENCE, Reply, config, grant, tcp, upstream, with};

/// Calls that an edge may lease at once of the quotas here.
const PORTION: usize = 25;

fn plan(name: &str, rate: Option<(u32, u32)>, monthly_quota: Option<u64>) -> Plan {
    let rate = rate.map(|(per_second, burst)| Rate { per_second, burst });
    Plan { name: name.to_owned(), rate, monthly_quota }
}

/// An edge whose consumers are in that database.
async fn on_database(database: &storage::Config, failure_mode_deny: bool) -> Edge {
    let directory = TempDir::new().expect("directory");
    let mut backend = Backend::new();
    let address = backend.serve_tcp(None).await;
    let mut config = config(directory.path(), vec![upstream(tcp(address, None))]);
    config.consumers = DatabaseUrl::Plain(database.url.clone());
    config.failure_mode_deny = failure_mode_deny;
    Edge::start_with(directory, backend, &config).await
}

/// The key of a new consumer on a plan.
async fn on_plan(consumers: &Consumers, plan: &Plan) -> String {
    consumers.set_plan(plan).await.expect("plan");
    consumers.issue(grant("till-7"), Some(&plan.name)).await.expect("key").1
}

async fn call(edge: &Edge, key: &str) -> Reply {
    edge.http2(with(edge.grpc("Echo", frame(b"hi")), "x-api-key", key)).await
}

/// Calls until the plan refuses, once the edge knows the key; how many calls were served, and the refusal.
async fn call_until_refused(edge: &Edge, key: &str) -> (usize, Reply) {
    let mut served = 0;
    let calling = async {
        loop {
            let reply = call(edge, key).await;
            match reply.grpc_status() {
                Some(0) => served += 1,
                Some(8) => return reply,
                // It does not know the key yet, or the database takes its time.
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, calling).await.expect("a refusal");
    (served, refused)
}

async fn usage(consumers: &Consumers) -> Usage {
    let all = consumers.usage(Month::of(Timestamp::now())).await.expect("usage");
    all.into_iter().find(|usage| usage.consumer == "till-7").expect("the consumer")
}

#[tokio::test]
async fn plans_are_kept_on_both_engines() {
    for database in storage::testing::databases("edge", &sqlx::migrate!()).await {
        let consumers = Consumers::open(&database.config).await.expect("consumers");
        let (silver, gold) = (plan("silver", Some((2, 4)), Some(1 << 40)), plan("gold", None, None));
        for plan in [&plan("silver", None, None), &silver, &gold] {
            consumers.set_plan(plan).await.expect("set");
        }
        let list = async || consumers.plans().await.expect("plans");
        assert_eq!(list().await, [(gold.clone(), vec![]), (silver.clone(), vec![])]);

        let refused = consumers.issue(grant("till-7"), Some("bronze")).await.expect_err("no such plan");
        assert!(refused.to_string().contains("there is no plan `bronze`"), "{refused}");
        assert!(consumers.list().await.expect("keys").is_empty(), "no key was made");
        consumers.issue(grant("till-7"), Some("silver")).await.expect("key");
        consumers.issue(grant("till-7"), None).await.expect("key");
        assert_eq!(list().await[1].1, ["till-7"], "another key changes no plan");
        let refused = consumers.remove_plan("silver").await.expect_err("in use").to_string();
        assert!(refused.contains("till-7"), "{refused}");

        consumers.assign_plan("till-7", Some("gold")).await.expect("assigned");
        assert_eq!(list().await[0].1, ["till-7"]);
        consumers.assign_plan("till-7", None).await.expect("assigned");
        assert!(consumers.assign_plan("nobody", Some("gold")).await.is_err());
        assert!(consumers.assign_plan("till-7", Some("bronze")).await.is_err());
        consumers.remove_plan("silver").await.expect("removed");
        assert!(consumers.remove_plan("silver").await.is_err());
        assert_eq!(list().await, [(gold, vec![])]);
        for name in ["", "a plan", "-x"] {
            assert!(consumers.set_plan(&plan(name, None, None)).await.is_err(), "{name:?}");
        }
    }
}

#[tokio::test]
async fn two_edges_never_exceed_a_quota() {
    for database in storage::testing::databases("edge", &sqlx::migrate!()).await {
        let edges = (on_database(&database.config, true).await, on_database(&database.config, true).await);
        let key = on_plan(&edges.0.consumers, &plan("small", None, Some(60))).await;
        let ((one, refused), (other, _)) =
            tokio::join!(call_until_refused(&edges.0, &key), call_until_refused(&edges.1, &key));
        assert_eq!(one + other, 60);
        assert_eq!(refused.grpc_status(), Some(8));

        // More is there as soon as the plan says so.
        edges.0.consumers.set_plan(&plan("small", None, Some(70))).await.expect("plan");
        edges.0.becomes(&key, Some(0)).await;
        for edge in [edges.0, edges.1] {
            edge.running.shutdown(PATIENCE).await;
        }
        let consumers = Consumers::open(&database.config).await.expect("consumers");
        let usage = usage(&consumers).await;
        assert_eq!((usage.used, usage.held, usage.quota), (61, 0, Some(70)));
    }
}

#[tokio::test]
async fn usage_outlives_an_edge_however_it_ends() {
    for database in storage::testing::databases("edge", &sqlx::migrate!()).await {
        let consumers = Consumers::open(&database.config).await.expect("consumers");
        let key = on_plan(&consumers, &plan("small", None, Some(100))).await;
        let edge = on_database(&database.config, false).await;
        for _ in 0..5 {
            assert_eq!(edge.status(&key).await, Some(0));
        }
        assert!(edge.running.shutdown(PATIENCE).await);
        let seen = usage(&consumers).await;
        assert_eq!((seen.used, seen.held), (5, 0), "what was leased and not used is given back");

        let edge = on_database(&database.config, false).await;
        for _ in 0..5 {
            assert_eq!(edge.status(&key).await, Some(0));
        }
        // Without a last word, as when it is killed.
        drop(edge);
        let edge = on_database(&database.config, true).await;
        let (served, _) = call_until_refused(&edge, &key).await;
        assert!((90 - 2 * PORTION..=90).contains(&served), "{served}");
    }
}

#[tokio::test]
async fn what_is_left_and_what_is_exceeded_is_told_on_every_protocol() {
    let edge = Edge::start().await;
    let key = on_plan(&edge.consumers, &plan("small", None, Some(3))).await;
    edge.becomes(&key, Some(0)).await;
    let reply = call(&edge, &key).await;
    let header = |reply: &Reply, name: &str| reply.header(name).to_owned();
    assert_eq!(
        (header(&reply, "ratelimit-limit"), header(&reply, "ratelimit-remaining")),
        ("3".into(), "1".into())
    );
    assert!(header(&reply, "ratelimit-policy").starts_with("3;w=2"), "{reply:?}");
    let reset: u64 = header(&reply, "ratelimit-reset").parse().expect("seconds");
    assert!((1..=31 * 86_400).contains(&reset), "{reset}");

    let (_, refused) = call_until_refused(&edge, &key).await;
    assert_eq!((refused.status, refused.grpc_status()), (StatusCode::OK, Some(8)));
    assert_eq!(header(&refused, "ratelimit-remaining"), "0");
    let status = STANDARD_NO_PAD.decode(header(&refused, "grpc-status-details-bin")).expect("base64");
    let status = Status::decode(&*status).expect("a status");
    assert_eq!((status.code, &*status.message), (8, refused.header("grpc-message")));
    let failure = QuotaFailure::decode(&*status.details[0].value).expect("a failure");
    assert_eq!(failure.violations[0].subject, "consumer:till-7");
    assert!(failure.violations[0].description.contains("small"), "{failure:?}");
    let retry = RetryInfo::decode(&*status.details[1].value).expect("a time");
    assert!(retry.retry_delay.is_some_and(|delay| delay.seconds > 0), "{retry:?}");

    let web = edge.http1(with(edge.web("Echo", frame(b"hi")), "x-api-key", &key)).await;
    assert_eq!((web.status, web.grpc_status()), (StatusCode::TOO_MANY_REQUESTS, Some(8)));
    assert!(!web.header("grpc-status-details-bin").is_empty() && !web.header("retry-after").is_empty());
}

#[tokio::test]
async fn a_rate_holds_on_each_edge() {
    let edge = Edge::start().await;
    let key = on_plan(&edge.consumers, &plan("slow", Some((1, 2)), None)).await;
    let (_, refused) = call_until_refused(&edge, &key).await;
    assert_eq!(refused.grpc_status(), Some(8));
    let told = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "ratelimit-policy"];
    assert_eq!(told.map(|name| refused.header(name)), ["2", "0", "1", "1;w=1;burst=2"]);
    // A token comes back every second.
    edge.becomes(&key, Some(0)).await;
}

#[tokio::test]
async fn a_database_that_does_not_answer_opens_or_closes() {
    for (deny, status) in [(false, Some(0)), (true, Some(14))] {
        for database in storage::testing::databases("edge", &sqlx::migrate!()).await {
            let edge = on_database(&database.config, deny).await;
            let key = on_plan(&edge.consumers, &plan("small", None, Some(100))).await;
            edge.becomes(&key, Some(0)).await;
            let mut tx = database.database.begin().await.expect("begin");
            let broken = sqlx::query("DROP TABLE monthly_usage").execute(tx.connection().expect("open"));
            broken.await.expect("dropped");
            tx.commit().await.expect("broken");
            let mut replies = Vec::new();
            for _ in 0..2 * PORTION {
                replies.push(edge.status(&key).await);
            }
            assert_eq!(replies[0], Some(0), "what is leased goes on");
            assert_eq!(replies.last(), Some(&status), "{replies:?}");
        }
    }
}
