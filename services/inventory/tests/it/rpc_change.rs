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
        let status = client.adjust_stock(adjust(0, "")).await.expect_err("nothing");
        assert_eq!(status.message(), "quantity: is 0, which changes nothing");
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
