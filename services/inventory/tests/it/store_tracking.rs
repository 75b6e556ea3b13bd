//! What must hold of stocks that nobody counted yet: the ledger keeps what moved, nothing shows it, and the event with
//! which tracking begins tells all of it.

use std::collections::BTreeSet;

use omnimesh_proto::{inventory::v1 as pb, order::v1::OrderStatus};
use pb::MovementKind::{Adjustment, Count, Delivery, Sale};

use crate::sandbox::{STOCK, Sandbox, movement, order, reason};

/// The names of the stocks that a list holds.
async fn listed(sandbox: &Sandbox) -> Vec<String> {
    let stocks = sandbox.client.clone().list_stocks(pb::ListStocksRequest::default()).await.expect("listed");
    stocks.into_inner().stocks.into_iter().map(|stock| stock.name).collect()
}

/// The positions in the ledger that each event tells of.
fn positions(told: &[pb::StockChanged]) -> Vec<Vec<i64>> {
    let positions =
        |event: &pb::StockChanged| event.movements.iter().map(|movement| movement.ledger_sequence).collect();
    told.iter().map(positions).collect()
}

#[tokio::test]
async fn a_stock_is_not_shown_before_it_is_tracked() {
    for sandbox in Sandbox::on_both_engines().await {
        let early = [movement(Sale, -3, 2, "sale"), movement(Adjustment, 1, 3, "found")];
        assert_eq!(sandbox.import(&early).await, (2, 0));
        assert_eq!(sandbox.import(&early).await, (0, 2), "known, though not shown");

        let mut client = sandbox.client.clone();
        let name = || STOCK.to_owned();
        let get = client.get_stock(pb::GetStockRequest { name: name() }).await.map(drop);
        let batch = client.batch_get_stock(pb::BatchGetStockRequest { names: vec![name()] }).await.map(drop);
        let ledger = pb::ListStockMovementsRequest { parent: name(), ..Default::default() };
        let ledger = client.list_stock_movements(ledger).await.map(drop);
        let adjust = pb::AdjustStockRequest { name: name(), quantity: 1, ..Default::default() };
        let adjust = client.adjust_stock(adjust).await.map(drop);
        for refused in [get, batch, ledger, adjust] {
            assert_eq!(reason(&refused.expect_err("not tracked")), "STOCK_NOT_FOUND");
        }
        assert_eq!(listed(&sandbox).await, [""; 0]);
    }
}

#[tokio::test]
async fn tracking_begins_with_all_that_the_ledger_has() {
    for begin in [Count, Delivery] {
        for sandbox in Sandbox::on_both_engines().await {
            sandbox.import(&[movement(Sale, -3, 2, "sale")]).await;
            sandbox.import(&[movement(Adjustment, 1, 3, "found")]).await;
            sandbox.import(&[movement(begin, 10, 1, "begin"), movement(Sale, -1, 4, "later")]).await;
            sandbox.import(&[movement(Delivery, 2, 5, "last")]).await;
            assert_eq!(sandbox.on_hand(STOCK).await, Some(9));
            assert_eq!(listed(&sandbox).await, [STOCK]);
            let told = sandbox.told(5).await;
            assert_eq!(positions(&told), [vec![1, 2, 3, 4], vec![5]]);
            let on_hand = |event: &pb::StockChanged| event.stock.as_ref().map(|stock| stock.on_hand);
            assert_eq!(told.iter().map(on_hand).collect::<Vec<_>>(), [Some(7), Some(9)]);

            let request = pb::ListStockMovementsRequest { parent: STOCK.to_owned(), ..Default::default() };
            let ledger = sandbox.client.clone().list_stock_movements(request).await.expect("a ledger");
            let told: Vec<_> = told.into_iter().flat_map(|event| event.movements).collect();
            assert_eq!(ledger.into_inner().movements, told);
        }
    }
}

#[tokio::test]
async fn orders_before_the_count_are_booked_and_corrected() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.order([order("a", 3, 2), order("b", 1, 3)]).await;
        sandbox.order([order("a", 2, 2)]).await;
        assert_eq!(sandbox.on_hand(STOCK).await, None);
        sandbox.import(&[movement(Count, 10, 1, "opening")]).await;
        assert_eq!(sandbox.on_hand(STOCK).await, Some(7));
        assert_eq!(positions(&sandbox.told(4).await), [[1, 2, 3, 4]]);

        // What was booked while nobody counted is taken back as well.
        let mut cancelled = order("b", 1, 3);
        cancelled.set_status(OrderStatus::Cancelled);
        sandbox.order([cancelled, order("a", 5, 2)]).await;
        assert_eq!(sandbox.on_hand(STOCK).await, Some(5));
        let told = sandbox.told(6).await;
        assert_eq!(positions(&told), [vec![1, 2, 3, 4], vec![5, 6]]);
        // What the last entries correct is told beside them.
        let sequence = |movement: &pb::StockMovement| movement.ledger_sequence;
        let corrected =
            told.iter().map(|event| event.corrected.iter().map(sequence).collect::<BTreeSet<_>>());
        assert_eq!(corrected.collect::<Vec<_>>(), [BTreeSet::new(), BTreeSet::from([1, 2, 3])]);
    }
}

#[tokio::test]
async fn a_long_past_is_told_in_several_events() {
    let sales: Vec<_> =
        (0..6_000).map(|number| movement(Sale, -1, number, &format!("sale {number}"))).collect();
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&sales).await;
        sandbox.import(&[movement(Count, 10_000, 2_999, "opening")]).await;
        assert_eq!(sandbox.on_hand(STOCK).await, Some(7_000));
        let told = sandbox.told(6_001).await;
        let positions = positions(&told);
        assert_eq!(positions.iter().map(Vec::len).collect::<Vec<_>>(), [5_000, 1_001]);
        assert_eq!(positions.concat(), (1..=6_001).collect::<Vec<_>>());
        assert_eq!(told[0].stock, told[1].stock);
    }
}
