//! `WatchProducts`: every change once, in order, wherever the stream is taken up again.

use omnimesh_proto::{catalog::v1 as pb, r#type::v1::ChangeType};
use tonic::Streaming;

use crate::sandbox::{Sandbox, called, cheese, fields, reason};

async fn watch(sandbox: &Sandbox, request: pb::WatchProductsRequest) -> Streaming<pb::WatchProductsResponse> {
    sandbox.client.clone().watch_products(request).await.expect("watched").into_inner()
}

fn from(resume_token: &str) -> pb::WatchProductsRequest {
    pb::WatchProductsRequest {
        resume_token: resume_token.to_owned(),
        include_initial: true,
        ..Default::default()
    }
}

async fn next(stream: &mut Streaming<pb::WatchProductsResponse>) -> pb::WatchProductsResponse {
    stream.message().await.expect("a change").expect("an endless stream")
}

/// The next `count` changes, and the last one's resume token.
async fn changes(
    stream: &mut Streaming<pb::WatchProductsResponse>,
    count: usize,
) -> (Vec<(ChangeType, String)>, String) {
    let mut seen = Vec::new();
    let mut token = String::new();
    while seen.len() < count {
        let change = next(stream).await;
        token.clone_from(&change.resume_token);
        let change_type = change.change_type();
        seen.extend(change.product.map(|product| (change_type, product.sku)));
    }
    (seen, token)
}

#[tokio::test]
async fn watch_products_tells_what_stands_then_what_changes() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&["1", "2"].map(cheese)]).await;
        sandbox.told(2).await;
        let mut stream = watch(&sandbox, from("")).await;
        let (initial, _) = changes(&mut stream, 2).await;
        assert_eq!(initial, ["1", "2"].map(|sku| (ChangeType::Initial, sku.to_owned())));
        let bookmark = next(&mut stream).await;
        assert_eq!((bookmark.change_type(), bookmark.product), (ChangeType::Bookmark, None));

        sandbox.import(&[&[called("GOUDA", cheese("2"))]]).await;
        let change = next(&mut stream).await;
        assert_eq!(change.change_type(), ChangeType::Changed);
        let product = sandbox.get("products/2").await.expect("found");
        assert_eq!((change.event_time, change.product), (product.update_time, Some(product)));
        let (again, _) = changes(&mut watch(&sandbox, from(&bookmark.resume_token)).await, 1).await;
        assert_eq!(
            again,
            [(ChangeType::Changed, "2".to_owned())],
            "a resumed stream ignores the initial state"
        );
    }
}

#[tokio::test]
async fn watch_products_begins_now_unless_told_otherwise() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[cheese("1")]]).await;
        sandbox.told(1).await;
        let mut stream = watch(&sandbox, pb::WatchProductsRequest::default()).await;
        assert_eq!(next(&mut stream).await.change_type(), ChangeType::Bookmark);
        sandbox.import(&[&["1", "2"].map(cheese)]).await;
        assert_eq!(changes(&mut stream, 1).await.0, [(ChangeType::Changed, "2".to_owned())]);
    }
}

#[tokio::test]
async fn watch_products_tells_every_initial_product() {
    for sandbox in Sandbox::on_both_engines().await {
        let products: Vec<_> = (10_000..12_500).map(|sku| cheese(&sku.to_string())).collect();
        sandbox.import(&[&products]).await;
        sandbox.told(products.len()).await;
        let mut stream = watch(&sandbox, from("")).await;
        let expect: Vec<_> = products.into_iter().map(|product| (ChangeType::Initial, product.sku)).collect();
        assert_eq!(changes(&mut stream, expect.len()).await.0, expect);
        assert_eq!(next(&mut stream).await.change_type(), ChangeType::Bookmark);
    }
}

#[tokio::test]
async fn watch_products_resumes_without_loss_or_repetition() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut stream = watch(&sandbox, from("")).await;
        let mut token = next(&mut stream).await.resume_token;
        let products = ["1", "2", "3", "4", "5", "6"].map(cheese);
        sandbox.import(&[&products[..4], &products[4..]]).await;
        let (all, _) = changes(&mut stream, 6).await;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (two, last) = changes(&mut watch(&sandbox, from(&token)).await, 2).await;
            seen.extend(two);
            token = last;
        }
        assert_eq!(seen, all);
    }
}

#[tokio::test]
async fn watch_products_refuses_what_it_cannot_follow() {
    let sandbox = Sandbox::on_sqlite().await;
    let error = sandbox.client.clone().watch_products(from("there")).await.expect_err("refused");
    assert_eq!(
        (error.code(), reason(&error)),
        (tonic::Code::InvalidArgument, "RESUME_TOKEN_INVALID".to_owned())
    );
    let request = pb::WatchProductsRequest { filter: "brand = x".to_owned(), ..Default::default() };
    let error = sandbox.client.clone().watch_products(request).await.expect_err("refused");
    assert_eq!(fields(&error), ["filter"]);
}
