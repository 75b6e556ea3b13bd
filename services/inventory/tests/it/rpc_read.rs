//! What is read: `GetStock`, `BatchGetStock`, `ListStocks`, `ListStockMovements`.

use omnimesh_proto::inventory::v1 as pb;
use pb::MovementKind::{Count, Delivery};

use crate::sandbox::{STOCK, Sandbox, movement, reason};

fn at(location: &str, sku: &str) -> pb::StockMovement {
    let id = format!("{location}/{sku}");
    pb::StockMovement { location_id: location.to_owned(), sku: sku.to_owned(), ..movement(Count, 1, 1, &id) }
}

#[tokio::test]
async fn get_stock_tells_what_is_missing() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut client = sandbox.client.clone();
        let request = |name: &str| pb::GetStockRequest { name: name.to_owned() };
        let status = client.get_stock(request(STOCK)).await.expect_err("absent");
        assert_eq!((reason(&status).as_str(), status.code()), ("STOCK_NOT_FOUND", tonic::Code::NotFound));
        let status = client.get_stock(request("stocks/1")).await.expect_err("no name");
        assert_eq!(status.message(), "name: is not of the form `locations/{location}/stocks/{sku}`");
    }
}

#[tokio::test]
async fn batch_get_stock_keeps_the_order_asked_for() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[at("1", "a"), at("2", "b")]).await;
        let names = ["locations/2/stocks/b", "locations/1/stocks/a"].map(str::to_owned).to_vec();
        let request = pb::BatchGetStockRequest { names: names.clone() };
        let stocks =
            sandbox.client.clone().batch_get_stock(request).await.expect("found").into_inner().stocks;
        assert_eq!(stocks.into_iter().map(|stock| stock.name).collect::<Vec<_>>(), names);
        let request = pb::BatchGetStockRequest { names: vec!["locations/9/stocks/a".to_owned()] };
        assert_eq!(
            reason(&sandbox.client.clone().batch_get_stock(request).await.expect_err("absent")),
            "STOCK_NOT_FOUND"
        );
    }
}

#[tokio::test]
async fn list_stocks_pages_through_all_of_them_once() {
    for sandbox in Sandbox::on_both_engines().await {
        let movements: Vec<_> =
            (0..25).map(|number| at(&format!("{}", number % 3), &format!("{number:02}"))).collect();
        sandbox.import(&movements).await;
        let mut names = Vec::new();
        let mut request = pb::ListStocksRequest { page_size: 7, ..Default::default() };
        loop {
            let page =
                sandbox.client.clone().list_stocks(request.clone()).await.expect("listed").into_inner();
            names.extend(page.stocks.into_iter().map(|stock| stock.name));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(names.len(), 25);
        assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]));
        let request = pb::ListStocksRequest { filter: "location_id = 1".to_owned(), ..Default::default() };
        let stocks = sandbox.client.clone().list_stocks(request).await.expect("filtered").into_inner().stocks;
        assert_eq!(stocks.len(), 8);
    }
}

#[tokio::test]
async fn list_stock_movements_shows_the_whole_ledger() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[movement(Count, 10, 1, "a"), movement(Delivery, 5, 2, "b")]).await;
        let request =
            pb::ListStockMovementsRequest { parent: STOCK.to_owned(), page_size: 1, ..Default::default() };
        let page =
            sandbox.client.clone().list_stock_movements(request.clone()).await.expect("listed").into_inner();
        assert_eq!(page.movements[0].quantity, 10);
        let request = pb::ListStockMovementsRequest { page_token: page.next_page_token, ..request };
        let page = sandbox.client.clone().list_stock_movements(request).await.expect("listed").into_inner();
        assert_eq!((page.movements[0].quantity, page.movements[0].ledger_sequence), (5, 2));
        assert!(page.next_page_token.is_empty());
    }
}
