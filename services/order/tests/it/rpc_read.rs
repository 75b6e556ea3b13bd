//! `GetOrder`, `BatchGetOrders`, `LookupOrder`, `ListOrders`.

use omnimesh_proto::order::v1 as pb;

use crate::sandbox::{Sandbox, With, fields, golden_id, order, person, reason, source_ref};

fn absent() -> String {
    format!("orders/{}", uuid::Uuid::from_u128(7))
}

#[tokio::test]
async fn get_order_returns_what_was_imported() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[order("shop:1", 0).paid("psp_1", 350).of("shop:anna")]]).await;
        let found = sandbox.lookup("shop:1").await.expect("found");
        assert_eq!(sandbox.get(&found.name).await.expect("found"), found);
        let imported = order("shop:1", 0).paid("psp_1", 350);
        assert_eq!((&found.lines, &found.payments), (&imported.lines, &imported.payments));
        assert_eq!((found.total_minor, found.discount_minor, &*found.currency_code), (350, 0, "USD"));
        assert_eq!(found.name, format!("orders/{}", found.order_uid));
    }
}

#[tokio::test]
async fn get_order_refuses_what_is_no_order() {
    let sandbox = Sandbox::on_sqlite().await;
    let error = sandbox.get("orders/1").await.expect_err("refused");
    assert_eq!((reason(&error), fields(&error)), ("INVALID_REQUEST".to_owned(), vec!["name".to_owned()]));
    let error = sandbox.get(&absent()).await.expect_err("absent");
    assert_eq!((error.code(), reason(&error)), (tonic::Code::NotFound, "ORDER_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn batch_get_orders_keeps_the_order_asked_for() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[order("shop:1", 0), order("shop:2", 60), order("shop:3", 120)]]).await;
        let mut names: Vec<_> = sandbox.orders().await.into_iter().map(|order| order.name).collect();
        names.swap(0, 1);
        names.push(names[0].clone());
        let get = |names: &[String]| {
            let mut client = sandbox.client.clone();
            let request = pb::BatchGetOrdersRequest { names: names.to_vec() };
            async move { client.batch_get_orders(request).await.map(|answer| answer.into_inner().orders) }
        };
        let found: Vec<_> = get(&names).await.expect("found").into_iter().map(|order| order.name).collect();
        assert_eq!(found, names);
        assert_eq!(reason(&get(&[names[0].clone(), absent()]).await.expect_err("absent")), "ORDER_NOT_FOUND");
        assert_eq!(fields(&get(&["x".to_owned()]).await.expect_err("refused")), ["names[0]"]);
        assert_eq!(fields(&get(&vec![absent(); 1001]).await.expect_err("refused")), ["names"]);
    }
}

#[tokio::test]
async fn lookup_order_finds_every_record() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[order("shop:1", 0), order("pos:3/1-7", 60).naming("shop:1")]]).await;
        let order = sandbox.lookup("shop:1").await.expect("found");
        assert_eq!(sandbox.lookup("pos:3/1-7").await.expect("found"), order);
        let error = sandbox.lookup("pos:1").await.expect_err("absent");
        assert_eq!((error.code(), reason(&error)), (tonic::Code::NotFound, "ORDER_NOT_FOUND".to_owned()));
        let error = sandbox.client.clone().lookup_order(pb::LookupOrderRequest { source: None }).await;
        assert_eq!(fields(&error.expect_err("refused")), ["source"]);
    }
}

#[tokio::test]
async fn list_orders_pages_by_time() {
    for sandbox in Sandbox::on_both_engines().await {
        // Orders of one moment are told apart by their uids.
        let orders: Vec<_> = (0..25).map(|n| order(&format!("shop:{n}"), 60 * (n / 3))).collect();
        sandbox.import(&[&orders]).await;
        for order_by in ["", "order_time desc", "order_time"] {
            let mut request =
                pb::ListOrdersRequest { page_size: 7, order_by: order_by.to_owned(), ..Default::default() };
            let mut seen = Vec::new();
            loop {
                let page = sandbox.list(request.clone()).await.expect("listed");
                seen.extend(page.orders);
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            let times: Vec<_> =
                seen.iter().filter_map(|order| order.order_time).map(|time| time.seconds).collect();
            let ascending = times.is_sorted();
            assert_eq!(
                (ascending, times.is_sorted_by(|one, other| one >= other)),
                (order_by == "order_time", !ascending)
            );
            let mut names: Vec<_> = seen.into_iter().map(|order| order.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), 25);
        }
    }
}

#[tokio::test]
async fn list_orders_filters_by_person_place_and_time() {
    for sandbox in Sandbox::on_both_engines().await {
        let anna = golden_id(1);
        sandbox.identify(&[person(&anna, &["shop:anna"])]).await;
        let mut elsewhere = order("pos:1", 120);
        elsewhere.location_id = "2".to_owned();
        sandbox
            .import(&[&[order("shop:1", 0).of("shop:anna"), order("shop:2", 60).of("shop:anna"), elsewhere]])
            .await;
        for (filter, expect) in [
            (format!("golden_id = {anna}"), vec!["shop:2", "shop:1"]),
            (format!("golden_id = {anna} AND order_time < 2017-01-01T01:00:00Z"), vec!["shop:1"]),
            ("location_id = 2".to_owned(), vec!["pos:1"]),
            ("order_time >= 2017-01-01T01:00:00Z".to_owned(), vec!["pos:1", "shop:2"]),
            ("location_id = 3".to_owned(), vec![]),
        ] {
            let page =
                sandbox.list(pb::ListOrdersRequest { filter: filter.clone(), ..Default::default() }).await;
            let found: Vec<_> =
                page.expect("listed").orders.iter().map(|order| order.sources[0].source.clone()).collect();
            assert_eq!(
                found,
                expect.into_iter().map(|source| Some(source_ref(source))).collect::<Vec<_>>(),
                "{filter}"
            );
        }
    }
}

#[tokio::test]
async fn list_orders_refuses_what_it_cannot_do() {
    let sandbox = Sandbox::on_sqlite().await;
    for (request, field) in [
        (pb::ListOrdersRequest { page_size: -1, ..Default::default() }, "page_size"),
        (pb::ListOrdersRequest { page_token: "x".to_owned(), ..Default::default() }, "page_token"),
        (pb::ListOrdersRequest { filter: "sku = 1".to_owned(), ..Default::default() }, "filter"),
        (pb::ListOrdersRequest { order_by: "total".to_owned(), ..Default::default() }, "order_by"),
    ] {
        let error = sandbox.list(request).await.expect_err("refused");
        assert_eq!((reason(&error), fields(&error)), ("INVALID_REQUEST".to_owned(), vec![field.to_owned()]));
    }
}
