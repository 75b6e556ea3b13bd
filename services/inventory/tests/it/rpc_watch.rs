//! `WatchStock`: a resumed stream loses and repeats nothing.

use futures::StreamExt;
use omnimesh_proto::{inventory::v1 as pb, r#type::v1::ChangeType};
use pb::MovementKind::{Count, Delivery, Sale};

use crate::sandbox::{STOCK, Sandbox, movement, reason};

/// The token of a stream that begins before the first change.
const START: &str = "0-0";

async fn next(
    stream: &mut tonic::Streaming<pb::WatchStockResponse>,
    wanted: ChangeType,
) -> pb::WatchStockResponse {
    loop {
        let response = stream.next().await.expect("goes on").expect("no error");
        if response.change_type() == wanted {
            return response;
        }
    }
}

#[tokio::test]
async fn watch_stock_begins_with_the_state_and_resumes_exactly() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[movement(Count, 10, 1, "a")]).await;
        let mut client = sandbox.client.clone();
        // In PostgreSQL another test's open transaction can hold an event back: what can be read is not told again.
        let request = pb::WatchStockRequest { resume_token: START.to_owned(), ..Default::default() };
        let mut early = client.watch_stock(request).await.expect("watching").into_inner();
        next(&mut early, ChangeType::Changed).await;
        let request = pb::WatchStockRequest { include_initial: true, ..Default::default() };
        let mut stream = client.watch_stock(request).await.expect("watching").into_inner();
        let initial = next(&mut stream, ChangeType::Initial).await;
        assert_eq!(initial.stock.map(|stock| stock.on_hand), Some(10));
        let token = next(&mut stream, ChangeType::Bookmark).await.resume_token;
        drop(stream);

        for (number, id) in ["b", "c", "d"].into_iter().enumerate() {
            sandbox.import(&[movement(Delivery, 1, 2 + number as i64, id)]).await;
        }
        let request = pb::WatchStockRequest { resume_token: token, ..Default::default() };
        let mut stream = client.watch_stock(request).await.expect("resumed").into_inner();
        let mut seen = Vec::new();
        let mut token = String::new();
        for _ in 0..2 {
            let change = next(&mut stream, ChangeType::Changed).await;
            seen.extend(change.stock.map(|stock| stock.on_hand));
            token = change.resume_token;
        }
        drop(stream);
        let request = pb::WatchStockRequest { resume_token: token, ..Default::default() };
        let mut stream = client.watch_stock(request).await.expect("resumed").into_inner();
        seen.extend(next(&mut stream, ChangeType::Changed).await.stock.map(|stock| stock.on_hand));
        assert_eq!(seen, [11, 12, 13]);
    }
}

#[tokio::test]
async fn watch_stock_tells_of_tracked_stocks_that_the_filter_lets_through() {
    for sandbox in Sandbox::on_both_engines().await {
        let at = |location: &str, sku: &str, id: &str| pb::StockMovement {
            location_id: location.to_owned(),
            sku: sku.to_owned(),
            ..movement(Count, 10, 1, id)
        };
        sandbox.import(&[movement(Sale, -1, 2, "early")]).await;
        sandbox.import(&[at("1", "3", "other sku"), at("9", "2", "other location")]).await;
        sandbox.import(&[movement(Count, 10, 1, "begin")]).await;
        let mut client = sandbox.client.clone();
        for (filter, expect) in [
            ("", vec!["locations/1/stocks/3", "locations/9/stocks/2", STOCK]),
            ("location_id = 1", vec!["locations/1/stocks/3", STOCK]),
            ("sku != 3", vec!["locations/9/stocks/2", STOCK]),
            ("location_id = 1 AND sku = 2", vec![STOCK]),
        ] {
            let (filter, resume_token) = (filter.to_owned(), START.to_owned());
            let request =
                pb::WatchStockRequest { filter: filter.clone(), resume_token, ..Default::default() };
            let mut stream = client.watch_stock(request).await.expect("watching").into_inner();
            let mut told = Vec::new();
            for _ in &expect {
                let change = next(&mut stream, ChangeType::Changed).await;
                told.extend(change.stock.map(|stock| stock.name));
            }
            assert_eq!(told, expect, "{filter}");

            let request = pb::ListStocksRequest { filter: filter.clone(), ..Default::default() };
            let listed = client.list_stocks(request).await.expect("listed").into_inner().stocks;
            told.sort();
            assert_eq!(listed.into_iter().map(|stock| stock.name).collect::<Vec<_>>(), told, "{filter}");
        }
        let request = pb::WatchStockRequest { filter: "on_hand = 1".to_owned(), ..Default::default() };
        let status = client.watch_stock(request).await.expect_err("no such field");
        assert_eq!(reason(&status), "INVALID_REQUEST");
    }
}

#[tokio::test]
async fn watch_stock_refuses_a_foreign_token() {
    for sandbox in Sandbox::on_both_engines().await {
        let request = pb::WatchStockRequest { resume_token: "yesterday".to_owned(), ..Default::default() };
        let status = sandbox.client.clone().watch_stock(request).await.expect_err("refused");
        assert_eq!(reason(&status), "RESUME_TOKEN_INVALID");
    }
}
