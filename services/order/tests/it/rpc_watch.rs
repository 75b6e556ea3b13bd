//! `WatchOrders`: every change once, in order, wherever the stream is taken up again.

use omnimesh_proto::{order::v1 as pb, r#type::v1::ChangeType};
use tonic::Streaming;

use crate::sandbox::{Sandbox, With, golden_id, order, person, reason};

/// The token of a stream that begins before the first change.
const START: &str = "0-0";

async fn watch(sandbox: &Sandbox, request: pb::WatchOrdersRequest) -> Streaming<pb::WatchOrdersResponse> {
    sandbox.client.clone().watch_orders(request).await.expect("watched").into_inner()
}

fn from(resume_token: &str) -> pb::WatchOrdersRequest {
    pb::WatchOrdersRequest {
        resume_token: resume_token.to_owned(),
        include_initial: true,
        ..Default::default()
    }
}

/// The next `count` changes, and the last one's resume token.
async fn changes(
    stream: &mut Streaming<pb::WatchOrdersResponse>,
    count: usize,
) -> (Vec<(ChangeType, String)>, String) {
    let mut seen = Vec::new();
    let mut token = String::new();
    while seen.len() < count {
        let change = stream.message().await.expect("a change").expect("an endless stream");
        token.clone_from(&change.resume_token);
        let change_type = change.change_type();
        seen.extend(change.order.map(|order| (change_type, order.name)));
    }
    (seen, token)
}

#[tokio::test]
async fn watch_orders_tells_what_stands_then_what_changes() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[order("shop:1", 0)], &[order("pos:1", 600)]]).await;
        let [one, two] = [sandbox.lookup("shop:1").await.unwrap(), sandbox.lookup("pos:1").await.unwrap()];
        // In PostgreSQL another test's open transaction can hold an event back: what can be read is not told again.
        let mut early = watch(&sandbox, from(START)).await;
        assert_eq!(changes(&mut early, 2).await.0.len(), 2);
        let mut stream = watch(&sandbox, from("")).await;
        let (initial, _) = changes(&mut stream, 2).await;
        assert_eq!(
            initial,
            [(ChangeType::Initial, one.name.clone()), (ChangeType::Initial, two.name.clone())]
        );
        let bookmark = stream.message().await.expect("a change").expect("an endless stream");
        assert_eq!((bookmark.change_type(), bookmark.order), (ChangeType::Bookmark, None));

        sandbox.import(&[&[order("pos:1", 600).version(2).naming("shop:1")]]).await;
        let expect = [(ChangeType::Deleted, two.name), (ChangeType::Changed, one.name)];
        assert_eq!(changes(&mut stream, 2).await.0, expect);
        let mut again = watch(&sandbox, from(&bookmark.resume_token)).await;
        assert_eq!(changes(&mut again, 2).await.0, expect, "a resumed stream ignores the initial state");
    }
}

#[tokio::test]
async fn watch_orders_resumes_without_loss_or_repetition() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut stream = watch(&sandbox, from("")).await;
        let mut token = stream.message().await.expect("a change").expect("an endless stream").resume_token;
        let orders: Vec<_> = (0..6).map(|n| order(&format!("shop:{n}"), 60 * n)).collect();
        sandbox.import(&[&orders[..4], &orders[4..]]).await;
        let (all, _) = changes(&mut stream, 6).await;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (two, next) = changes(&mut watch(&sandbox, from(&token)).await, 2).await;
            seen.extend(two);
            token = next;
        }
        assert_eq!(seen, all);
    }
}

#[tokio::test]
async fn watch_orders_tells_only_what_was_asked_for() {
    for sandbox in Sandbox::on_both_engines().await {
        let anna = golden_id(1);
        sandbox.identify(&[person(&anna, &["shop:anna"])]).await;
        let [other, hers] = [order("shop:1", 0).of("shop:bob"), order("shop:2", 60).of("shop:anna")];
        sandbox.import(&[&[other.clone(), hers.clone()]]).await;
        let request = pb::WatchOrdersRequest { filter: format!("golden_id = {anna}"), ..from("") };
        let mut stream = watch(&sandbox, request).await;
        sandbox.import(&[&[other.version(2), hers.version(2)]]).await;
        let name = sandbox.lookup("shop:2").await.expect("found").name;
        let expect = [(ChangeType::Initial, name.clone()), (ChangeType::Changed, name)];
        assert_eq!(changes(&mut stream, 2).await.0, expect);
    }
}

#[tokio::test]
async fn watch_orders_refuses_a_foreign_token() {
    let sandbox = Sandbox::on_sqlite().await;
    let error = sandbox.client.clone().watch_orders(from("there")).await.expect_err("refused");
    assert_eq!(reason(&error), "RESUME_TOKEN_INVALID");
}
