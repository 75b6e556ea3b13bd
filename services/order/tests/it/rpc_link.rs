//! `LinkOrders` and `UnlinkOrder`: an operator's word stands, whatever is imported after it.

use omnimesh_proto::order::v1::{self as pb, MatchRule::*};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::sandbox::{Sandbox, With, fields, order, reason, rules, source_ref, sources};

async fn link(sandbox: &Sandbox, request: pb::LinkOrdersRequest) -> Result<pb::Order, Status> {
    Ok(sandbox.client.clone().link_orders(request).await?.into_inner().order.expect("an order"))
}

async fn unlink(
    sandbox: &Sandbox,
    request: pb::UnlinkOrderRequest,
) -> Result<(pb::Order, pb::Order), Status> {
    let answer = sandbox.client.clone().unlink_order(request).await?.into_inner();
    Ok((answer.order.expect("an order"), answer.unlinked_order.expect("an order")))
}

fn both(one: &pb::Order, other: &pb::Order) -> pb::LinkOrdersRequest {
    pb::LinkOrdersRequest { name: one.name.clone(), other: other.name.clone(), ..Default::default() }
}

fn without(order: &pb::Order, source: &str) -> pb::UnlinkOrderRequest {
    pb::UnlinkOrderRequest {
        name: order.name.clone(),
        source: Some(source_ref(source)),
        ..Default::default()
    }
}

/// Two orders of one system that nothing but a word could unite; the second is the younger one.
async fn two(sandbox: &Sandbox) -> [pb::Order; 2] {
    sandbox.import(&[&[order("shop:1", 0)], &[order("shop:2", 60)]]).await;
    [sandbox.lookup("shop:1").await.unwrap(), sandbox.lookup("shop:2").await.unwrap()]
}

#[tokio::test]
async fn link_orders_makes_them_one_for_good() {
    for sandbox in Sandbox::on_both_engines().await {
        let [one, two] = two(&sandbox).await;
        let request = pb::LinkOrdersRequest { etag: two.etag.clone(), ..both(&two, &one) };
        let linked = link(&sandbox, request).await.expect("linked");
        assert_eq!(
            (&linked.name, sources(&linked)),
            (&two.name, vec!["shop:1".to_owned(), "shop:2".to_owned()])
        );
        assert_eq!(rules(&linked), [Unspecified, Asserted]);
        assert_eq!(sandbox.get(&one.name).await.expect("found").merged_into, two.order_uid);

        sandbox.import(&[&[order("shop:1", 0).version(2), order("shop:2", 60).version(2)]]).await;
        assert_eq!(sources(&sandbox.get(&two.name).await.expect("found")).len(), 2);
        assert_eq!(sandbox.told().await.into_values().collect::<Vec<_>>(), sandbox.orders().await);
    }
}

#[tokio::test]
async fn link_orders_answers_a_repeated_request_as_before() {
    for sandbox in Sandbox::on_both_engines().await {
        let [one, two] = two(&sandbox).await;
        let request =
            pb::LinkOrdersRequest { request_id: Uuid::from_u128(1).to_string(), ..both(&one, &two) };
        let first = link(&sandbox, request.clone()).await.expect("linked");
        assert_eq!(link(&sandbox, request.clone()).await.expect("remembered"), first);
        let error =
            link(&sandbox, pb::LinkOrdersRequest { other: one.name, ..request }).await.expect_err("refused");
        assert_eq!(error.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn link_orders_refuses_what_cannot_be_one() {
    for sandbox in Sandbox::on_both_engines().await {
        let [one, two] = two(&sandbox).await;
        let stale = pb::LinkOrdersRequest { etag: two.etag.clone(), ..both(&one, &two) };
        let nobody = pb::Order { name: format!("orders/{}", Uuid::from_u128(7)), ..Default::default() };
        for (request, expect) in [
            (stale, (Code::Aborted, "ETAG_MISMATCH")),
            (both(&one, &one), (Code::InvalidArgument, "INVALID_REQUEST")),
            (both(&one, &nobody), (Code::NotFound, "ORDER_NOT_FOUND")),
        ] {
            let error = link(&sandbox, request).await.expect_err("refused");
            assert_eq!((error.code(), &*reason(&error)), expect);
        }
        link(&sandbox, both(&one, &two)).await.expect("linked");
        let error = link(&sandbox, both(&one, &two)).await.expect_err("refused");
        assert_eq!(reason(&error), "ORDER_MERGED");
    }
}

#[tokio::test]
async fn unlink_order_parts_them_for_good() {
    for sandbox in Sandbox::on_both_engines().await {
        let till = order("pos:1", 60).naming("shop:1");
        sandbox.import(&[&[order("shop:1", 0), till.clone()]]).await;
        let unified = sandbox.lookup("shop:1").await.expect("found");
        let request = pb::UnlinkOrderRequest {
            request_id: Uuid::from_u128(1).to_string(),
            etag: unified.etag.clone(),
            ..without(&unified, "shop:1")
        };
        let stale = pb::UnlinkOrderRequest { etag: "0".to_owned(), ..without(&unified, "shop:1") };
        let error = unlink(&sandbox, stale).await.expect_err("refused");
        assert_eq!((error.code(), &*reason(&error)), (Code::Aborted, "ETAG_MISMATCH"));
        let (rest, unlinked) = unlink(&sandbox, request.clone()).await.expect("unlinked");
        assert_eq!(
            (&rest.name, sources(&rest)),
            (&unified.name, vec!["pos:1".to_owned()]),
            "the rest keeps the name"
        );
        assert_eq!(sources(&unlinked), ["shop:1"]);
        assert_eq!(unlink(&sandbox, request).await.expect("remembered"), (rest.clone(), unlinked.clone()));

        sandbox.import(&[&[till.version(2)]]).await;
        assert_eq!(sandbox.orders().await.len(), 2, "the reference is still there, and is not believed");
        let linked = link(&sandbox, both(&rest, &unlinked)).await.expect("linked");
        assert_eq!(sources(&linked).len(), 2, "the last word counts");
        assert_eq!(sandbox.told().await.into_values().collect::<Vec<_>>(), [linked]);
    }
}

#[tokio::test]
async fn unlink_order_refuses_what_cannot_be_parted() {
    for sandbox in Sandbox::on_both_engines().await {
        let [one, _] = two(&sandbox).await;
        for (source, expect) in [
            ("shop:1", (Code::FailedPrecondition, "LAST_SOURCE")),
            ("shop:2", (Code::NotFound, "ORDER_NOT_FOUND")),
        ] {
            let error = unlink(&sandbox, without(&one, source)).await.expect_err("refused");
            assert_eq!((error.code(), &*reason(&error)), expect);
        }
        let error = unlink(&sandbox, pb::UnlinkOrderRequest::default()).await.expect_err("refused");
        assert_eq!(fields(&error), ["name", "source"]);
    }
}
