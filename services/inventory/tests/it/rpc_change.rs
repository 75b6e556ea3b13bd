//! What operators change: `AdjustStock`, `RecordPhysicalCount`.

use omnimesh_proto::inventory::v1 as pb;
use pb::MovementKind::Count;
use uuid::Uuid;

use crate::sandbox::{STOCK, Sandbox, movement, reason};

fn adjust(quantity: i64, etag: &str) -> pb::AdjustStockRequest {
    let request_id = Uuid::new_v4().to_string();
    pb::AdjustStockRequest {
        name: STOCK.to_owned(),
        quantity,
        etag: etag.to_owned(),
        request_id,
        event_time: None,
    }
}

#[tokio::test]
async fn adjust_stock_answers_a_repeated_request_as_before() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[movement(Count, 10, 1, "opening")]).await;
        let mut client = sandbox.client.clone();
        let request = adjust(-2, "");
        let first = client.adjust_stock(request.clone()).await.expect("adjusted").into_inner().stock;
        assert_eq!(client.adjust_stock(request.clone()).await.expect("repeated").into_inner().stock, first);
        assert_eq!(sandbox.on_hand(STOCK).await, Some(8));
        let other = pb::AdjustStockRequest { quantity: -3, ..request };
        let status = client.adjust_stock(other).await.expect_err("another payload");
        assert_eq!(reason(&status), "REQUEST_ID_REUSED");
    }
}

#[tokio::test]
async fn adjust_stock_refuses_what_it_cannot_do() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut client = sandbox.client.clone();
        let status = client.adjust_stock(adjust(1, "")).await.expect_err("not tracked");
        assert_eq!(reason(&status), "STOCK_NOT_FOUND");
        sandbox.import(&[movement(Count, 10, 1, "opening")]).await;
        let status = client.adjust_stock(adjust(1, "stale")).await.expect_err("changed meanwhile");
        assert_eq!((reason(&status).as_str(), status.code()), ("ETAG_MISMATCH", tonic::Code::Aborted));
        for (quantity, message) in [
            (0, "quantity: is 0, which changes nothing"),
            (i64::MIN, "quantity: is more than 10^12 either way"),
        ] {
            let status = client.adjust_stock(adjust(quantity, "")).await.expect_err("no quantity");
            assert_eq!(status.message(), message);
        }
    }
}

#[tokio::test]
async fn record_physical_count_begins_tracking_and_overrules_the_book() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut client = sandbox.client.clone();
        let mut request =
            pb::RecordPhysicalCountRequest { name: STOCK.to_owned(), quantity: 7, ..Default::default() };
        let stock = client.record_physical_count(request.clone()).await.expect("counted").into_inner().stock;
        assert_eq!(stock.map(|stock| (stock.on_hand, stock.ledger_sequence)), Some((7, 1)));
        request.quantity = -1;
        let status = client.record_physical_count(request).await.expect_err("negative");
        assert_eq!(reason(&status), "INVALID_REQUEST");
        assert_eq!(sandbox.on_hand(STOCK).await, Some(7));
    }
}

#[tokio::test]
async fn record_physical_count_keeps_to_the_etag() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut client = sandbox.client.clone();
        let mut count = async |quantity: i64, etag: &str| {
            let etag = etag.to_owned();
            let name = STOCK.to_owned();
            let request = pb::RecordPhysicalCountRequest { name, quantity, etag, ..Default::default() };
            let answer = client.record_physical_count(request).await;
            answer.map(|answer| answer.into_inner().stock.expect("a stock"))
        };
        let status = count(7, "seen").await.expect_err("nobody can have seen it");
        assert_eq!((reason(&status).as_str(), status.code()), ("ETAG_MISMATCH", tonic::Code::Aborted));
        let seen = count(7, "").await.expect("counted").etag;
        let stock = count(8, &seen).await.expect("not changed since");
        assert_eq!(stock.on_hand, 8);
        let status = count(9, &seen).await.expect_err("changed since");
        assert_eq!(reason(&status), "ETAG_MISMATCH");
        assert_eq!(sandbox.on_hand(STOCK).await, Some(8));
        let status = count(i64::MAX, "").await.expect_err("too much");
        assert_eq!(status.message(), "quantity: is more than 10^12 either way");
    }
}
