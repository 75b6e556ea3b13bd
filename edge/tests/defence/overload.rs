//! More calls than can be answered: the least important ones are refused, at once.

use serde_json::json;

use crate::backend::Backend;
use crate::edge::{Config, Edge};
use crate::honest::{Client, Protocol, whole};
use crate::{ends, until};

#[tokio::test]
async fn checkout_passes_where_analytics_is_refused() {
    let backend = Backend::start().await;
    let shedding = json!({"name": "shed", "typed_config": {
        "@type": "type.googleapis.com/omnimesh.edge.v1.LoadShedding",
        "classes": [
            {"name": "checkout", "path_prefixes": ["/test.Probe/Echo"], "share_percent": 100},
            {"name": "analytics", "path_prefixes": ["/test.Probe/Hold"], "share_percent": 50},
        ],
        "min_concurrency": 4,
        "max_concurrency": 4,
        "retry_after": "1.5s",
    }});
    let edge = Edge::start(&backend, &Config { filters: vec![shedding], ..Config::default() }).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(Protocol::Grpc, edge.address(), None).await;
        held.push(tokio::spawn(async move { (client.begin("Hold").await, client) }));
    }
    until("two calls are under way", || backend.calls() == 2).await;
    let mut refused = Client::connect(Protocol::Grpc, edge.address(), None).await;
    let reply = ends(refused.begin("Hold")).await.expect("an answer");
    let header = |name: &str| reply.headers()[name].to_str().expect("text").to_owned();
    let told = ["grpc-status", "grpc-retry-pushback-ms"].map(header);
    assert_eq!(told, ["14", "1500"]);
    assert!(reply.headers().contains_key("grpc-status-details-bin"));
    Client::connect(Protocol::Grpc, edge.address(), None).await.call().await;
    Client::connect(Protocol::GrpcWeb, edge.address(), None).await.call().await;
    assert_eq!(edge.stat("http.web.load_shedding.analytics.rq_shed").await, 1);
    backend.release();
    for call in held {
        let (reply, _client) = ends(call).await.expect("no panic");
        ends(whole(reply.expect("an answer"))).await.expect("nothing is cut");
    }
    let reply = ends(refused.begin("Hold")).await.expect("an answer");
    assert!(!reply.headers().contains_key("grpc-status"), "there is room again");
}
