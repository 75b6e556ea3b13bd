//! `ImportStockMovements`, and the sales that orders bring.

use omnimesh_proto::{inventory::v1 as pb, order::v1::OrderStatus};
use pb::MovementKind::{Adjustment, Count, Delivery, Sale};

use crate::sandbox::{STOCK, Sandbox, movement, order, reason};

#[tokio::test]
async fn import_stock_movements_records_each_source_once() {
    for sandbox in Sandbox::on_both_engines().await {
        let movements = [movement(Count, 10, 1, "count"), movement(Delivery, 5, 2, "delivery")];
        assert_eq!(sandbox.import(&movements).await, (2, 0));
        assert_eq!(sandbox.import(&movements).await, (0, 2));
        assert_eq!(sandbox.on_hand(STOCK).await, Some(15));
    }
}

#[tokio::test]
async fn import_stock_movements_in_any_order_gives_the_same_stock() {
    let movements = [
        movement(Count, 10, 1, "opening"),
        movement(Delivery, 5, 2, "delivery"),
        movement(Sale, -4, 3, "sale"),
        movement(Count, 9, 4, "recount"),
        movement(Adjustment, -1, 5, "broken"),
        movement(Delivery, 2, 6, "late"),
    ];
    for turn in 0..movements.len() {
        for sandbox in Sandbox::on_both_engines().await {
            let mut movements = movements.clone();
            movements.rotate_left(turn);
            for movement in movements {
                sandbox.import(&[movement]).await;
            }
            assert_eq!(sandbox.on_hand(STOCK).await, Some(10), "{turn}");
        }
    }
}

#[tokio::test]
async fn import_stock_movements_names_what_is_wrong() {
    for sandbox in Sandbox::on_both_engines().await {
        let bad = pb::StockMovement { kind: 0, sku: String::new(), ..movement(Count, 1, 1, "1") };
        let portion = pb::ImportStockMovementsRequest { movements: vec![movement(Count, 1, 1, "2"), bad] };
        let answer = sandbox.client.clone().import_stock_movements(futures::stream::iter([portion])).await;
        let status = answer.expect_err("refused");
        assert_eq!(reason(&status), "INVALID_REQUEST");
        assert!(status.message().starts_with("movements[1].kind: is required"), "{}", status.message());
        assert_eq!(sandbox.on_hand(STOCK).await, None);
    }
}

#[tokio::test]
async fn import_stock_movements_bounds_what_moves_and_what_is_there() {
    for sandbox in Sandbox::on_both_engines().await {
        let most = 1_000_000_000_000;
        for quantity in [most + 1, -most - 1, i64::MIN] {
            let portion =
                pb::ImportStockMovementsRequest { movements: vec![movement(Delivery, quantity, 1, "1")] };
            let answer =
                sandbox.client.clone().import_stock_movements(futures::stream::iter([portion])).await;
            let status = answer.expect_err("refused");
            assert_eq!(status.message(), "movements[0].quantity: is more than 10^12 either way");
        }
        let sales = [movement(Sale, -most, 1, "most"), movement(Delivery, most, 1, "as much")];
        assert_eq!(sandbox.import(&sales).await, (2, 0));
        assert_eq!(sandbox.on_hand(STOCK).await, Some(0));
    }
}

#[tokio::test]
async fn import_stock_movements_follows_orders_and_their_corrections() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[movement(Count, 10, 1, "opening")]).await;
        sandbox.order([order("a", 3, 2), order("b", 1, 3)]).await;
        assert_eq!(sandbox.on_hand(STOCK).await, Some(6));
        sandbox.order([order("a", 2, 2)]).await;
        assert_eq!(sandbox.on_hand(STOCK).await, Some(7));
        let mut cancelled = order("b", 1, 3);
        cancelled.set_status(OrderStatus::Cancelled);
        let mut merged = order("a", 2, 2);
        merged.merged_into = "c".to_owned();
        sandbox.order([cancelled, merged, order("c", 2, 2)]).await;
        assert_eq!(sandbox.on_hand(STOCK).await, Some(8));
    }
}
