//! RunSource: what becomes of records, good and bad.

use omnimesh_proto::{
    order::v1::{Channel, Order, OrderStatus},
    r#type::v1::ChangeType,
};
use tonic::Code;

use crate::{
    rpc_run_source_again::landed_with_bytes,
    sandbox::{Sandbox, reason, source_ref},
    silo::{POS_HEADER, Silo, document, row},
};

fn time(text: &str) -> types::Timestamp {
    types::Timestamp::parse(text).expect("a time")
}

/// Each line's product, quantity, amount and discount.
fn lines(order: &Order) -> Vec<(&str, i64, i64, i64)> {
    order
        .lines
        .iter()
        .map(|line| (line.sku.as_str(), line.quantity, line.amount_minor, line.discount_minor))
        .collect()
}

#[tokio::test]
async fn run_source_makes_orders_of_grouped_rows() {
    let silo = Silo::new();
    let paid = row("3-1", 1, "7", 2, "1.50").replace("cash,,,", "card,1,psp_9,");
    silo.pos("pos/330/2017-01-01.csv", &[paid, row("3-1", 2, "8", 0, "-0.5"), row("3-2", 1, "7", 1, "1")]);
    let sandbox = Sandbox::new(silo.source("pos")).await;
    let end = sandbox.run("pos").await.expect("a run");
    assert_eq!((end.record_count, end.quarantined_count, end.object_count, end.object_total), (3, 0, 1, 1));
    assert_eq!(sandbox.counts("pos", "receipts").await, [3, 3, 0, 1]);

    assert_eq!(sandbox.all_orders().await.keys().collect::<Vec<_>>(), ["pos:330/3-1", "pos:330/3-2"]);
    let order = sandbox.order("pos", "330/3-1").await;
    assert_eq!((order.channel(), order.status()), (Channel::Pos, OrderStatus::Completed));
    assert_eq!((order.location_id.as_str(), order.currency_code.as_str()), ("330", "USD"));
    assert_eq!(order.order_time, Some(time("2017-01-01T11:53:26Z").into()));
    assert_eq!(lines(&order), [("7", 2, 150, 15), ("8", 0, -50, 15)]);
    let [payment] = order.payments.as_slice() else { panic!("one payment") };
    assert_eq!(
        (&*payment.psp_ref, &*payment.method, &*payment.auth_code, payment.amount_minor),
        ("psp_9", "card", "1", 100)
    );
}

#[tokio::test]
async fn run_source_makes_an_order_and_a_person_of_a_document() {
    let silo = Silo::new();
    silo.write("marketplace/orders-2017-01.jsonl", &(document("114-1", "SHIPPED", "0.50") + "\n"));
    let sandbox = Sandbox::new(silo.source("marketplace")).await;
    sandbox.run("marketplace").await.expect("a run");
    assert_eq!(sandbox.counts("marketplace", "orders").await, [1, 1, 0, 1]);

    let order = sandbox.order("marketplace", "114-1").await;
    assert_eq!(order.sources[0].version, time("2017-01-02T08:10:00Z").micros());
    assert_eq!(order.status(), OrderStatus::Completed);
    assert_eq!(lines(&order), [("7", 2, 50, 25)]);
    let person = sandbox.person("marketplace", "B1").await;
    assert_eq!((person.given_name.as_str(), person.family_name.as_str()), ("MARIA", "LOPEZ"));
    assert_eq!((person.email.as_str(), person.phone.as_str()), ("m@example.com", ""));
    assert_eq!(person.address, None);
    assert_eq!(person.update_time, Some(time("2017-01-01T11:53:26Z").into()));
}

#[tokio::test]
async fn run_source_reads_both_forms_of_extended_json() {
    let silo = Silo::new();
    let canonical = document("2", "SHIPPED", "0.50")
        .replace(r#"{"$date":"2017-01-01T11:53:26Z"}"#, r#"{"$date":{"$numberLong":"1483271606000"}}"#)
        .replace(r#""quantity":2"#, r#""quantity":{"$numberInt":"2"}"#);
    silo.write("marketplace/a.jsonl", &format!("{}\n{canonical}\n", document("1", "SHIPPED", "0.50")));
    let sandbox = Sandbox::new(silo.source("marketplace")).await;
    sandbox.run("marketplace").await.expect("a run");
    assert_eq!(sandbox.quarantined().await, []);
    let [relaxed, canonical] =
        [sandbox.order("marketplace", "1").await, sandbox.order("marketplace", "2").await];
    assert_eq!((relaxed.order_time, lines(&relaxed)), (canonical.order_time, lines(&canonical)));
}

/// The order of a record, once its customer is known: order learns that from identity's events.
async fn order_of_customer(sandbox: &Sandbox, system: &str, id: &str) -> Order {
    let request =
        omnimesh_proto::order::v1::WatchOrdersRequest { include_initial: true, ..Default::default() };
    let mut changes = sandbox.orders.clone().watch_orders(request).await.expect("a stream").into_inner();
    loop {
        let change = changes.message().await.expect("open").expect("a change");
        if let Some(order) = change.order.filter(|_| change.change_type != i32::from(ChangeType::Deleted))
            && !order.golden_id.is_empty()
            && order.sources.iter().any(|source| source.source == Some(source_ref(system, id)))
        {
            return order;
        }
    }
}

#[tokio::test]
async fn run_source_names_customers_and_other_systems_orders() {
    let silo = Silo::new();
    silo.members("601,\"LOPEZ, MARIA\",m@example.com,614,,,,2016-05-17,\n");
    // Collected at the till: the receipt names the card, and the marketplace's document the shop's number as well.
    silo.pos(
        "pos/330/a.csv",
        &[row("3-1", 1, "7", 2, "0.50").replace(",,1,", ",601,1,").replace(",,,", ",,,S-1")],
    );
    silo.write("marketplace/a.jsonl", &document("114-1", "SHIPPED", "0.50"));
    let sandbox = Sandbox::new(silo.sources()).await;
    for system in ["loyalty", "marketplace", "pos"] {
        sandbox.run(system).await.expect("a run");
    }
    let golden_id = sandbox.identity("loyalty", "601").await.golden_id;
    assert_eq!(sandbox.identity("marketplace", "B1").await.golden_id, golden_id);
    for (system, id) in [("pos", "330/3-1"), ("marketplace", "114-1")] {
        assert_eq!(order_of_customer(&sandbox, system, id).await.golden_id, golden_id);
    }
}

#[tokio::test]
async fn run_source_takes_members_and_stock() {
    let silo = Silo::new();
    silo.members("601,\"LOPEZ, MARIA\",,614,,,,2016-05-17,\n");
    silo.write("loyalty/coupons.csv", "coupon_upc,product_id,campaign_id\n1,2,3\n");
    silo.write(
        "stock/opening_counts.csv",
        "reference,store_id,product_id,quantity,counted_at\nO-1,330,7,12,2017-01-01T00:00:00Z\n",
    );
    silo.write(
        "stock/deliveries.csv",
        "reference,store_id,product_id,quantity,delivered_at\nD-1,330,7,5,2017-01-02T00:00:00Z\n",
    );
    let sandbox = Sandbox::new(silo.sources()).await;
    sandbox.run("loyalty").await.expect("a run");
    sandbox.run("stock").await.expect("a run");
    let member = sandbox.person("loyalty", "601").await;
    assert_eq!((member.given_name.as_str(), member.loyalty_card.as_str()), ("MARIA", "601"));
    assert_eq!(member.update_time, Some(time("2016-05-17T00:00:00Z").into()));
    assert_eq!(sandbox.counts("loyalty", "coupons").await, [1, 1, 0, 1]);
    assert_eq!(sandbox.on_hand("locations/330/stocks/7").await, 17);
}

#[tokio::test]
async fn run_source_quarantines_bad_records_alone() {
    let good = row("3-1", 1, "7", 2, "1.50");
    let fields = |receipt: &str| format!("330,{receipt},91,2017-01-01 12:00:00,,1,7,1");
    let pos = [
        (row("91-1", 1, "7", 1, "1.O9"), "amount: `1.O9` is no decimal number"),
        (row("91-1", 1, "7", 1, "1.005"), "amount: `1.005` has more than 2 decimals"),
        (row("91-1", 1, "", 1, "1.00"), "product_id: is missing"),
        (row("", 1, "7", 1, "1.00"), "receipt_no: is missing"),
        (fields("91-2"), "the row has 8 columns, 16 are due"),
        (
            good.replace("11:53:26", "25:61:00"),
            "sold_at: `2017-01-01 25:61:00` is no datetime such as 2017-01-31 09:30:00",
        ),
        (good.replace(",cash,", ",\"cash,"), "a quote is not closed"),
        (good.replace("cash", "c\0sh"), "payment_type: holds a NUL character"),
        (good.clone() + ",", "the row has 17 columns, 16 are due"),
        ("330,3-1".to_owned(), "the row has 2 columns, 16 are due"),
    ];
    for (bad, reason) in pos {
        let silo = Silo::new();
        // Within a receipt, whose own rows must stay whole.
        silo.pos("pos/330/a.csv", &[good.clone(), bad.clone(), row("3-1", 2, "8", 1, "1.00")]);
        let sandbox = Sandbox::new(silo.source("pos")).await;
        sandbox.run("pos").await.expect("a run");
        assert_eq!(sandbox.counts("pos", "receipts").await, [3, 2, 1, 1], "{bad}");
        assert_eq!(sandbox.order("pos", "330/3-1").await.lines.len(), 2, "{bad}");
        let kept = bad.replace('\0', "\u{fffd}");
        assert_eq!(sandbox.quarantined().await, [("330/a.csv:3".to_owned(), reason.to_owned(), kept)]);
    }
    let documents = [
        (document("9", "LOST", "0.50"), "`LOST` is no status that the mapping knows"),
        (document("9", "SHIPPED", "one"), "items[].amount: `one` is no decimal number"),
        (document("9", "SHIPPED", "0.50").replace("\"orderNo\":\"9\",", ""), "orderNo: is missing"),
        (
            document("9", "SHIPPED", "0.50").replace("\"orderNo\":\"9\"", "\"orderNo\":null"),
            "orderNo: is missing",
        ),
        (document("", "SHIPPED", "0.50"), "orderNo: is missing"),
        (
            document("9", "SHIPPED", "0.50")
                .replace(r#"[{"line"#, r#"{"a":1,"b":[{"line"#)
                .replace("}}],", "}}]},"),
            "items: is no array",
        ),
        (
            document("9", "SHIPPED", "0.50")
                .replace(r#"{"$date":"2017-01-01T11:53:26Z"}"#, r#"{"$date":{"$numberLong":"soon"}}"#),
            r#"createdAt: `{"$numberLong":"soon"}` is no time"#,
        ),
        (
            document("9", "SHIPPED", "0.50").replace(r#""orderNo":"9""#, r#""orderNo":{"$oid":"9","a":1}"#),
            "orderNo: is an object where a value is due",
        ),
        ("[1]".to_owned(), "the line is no JSON object"),
        (
            r#"{"orderNo":"9"#.to_owned(),
            "the line is no JSON: EOF while parsing a string at line 1 column 13",
        ),
    ];
    for (bad, reason) in documents {
        let silo = Silo::new();
        // Last, as a file that was cut off ends.
        silo.write("marketplace/a.jsonl", &format!("{}\n{bad}", document("1", "SHIPPED", "0.50")));
        let sandbox = Sandbox::new(silo.source("marketplace")).await;
        sandbox.run("marketplace").await.expect("a run");
        assert_eq!(sandbox.counts("marketplace", "orders").await, [2, 1, 1, 1], "{bad}");
        assert_eq!(sandbox.quarantined().await, [("a.jsonl:2".to_owned(), reason.to_owned(), bad)]);
    }
}

#[tokio::test]
async fn run_source_quarantines_a_file_of_another_kind_as_one() {
    let silo = Silo::new();
    silo.write("pos/330/x.export.csv", "Bon;Kasse\n1;2\n");
    silo.write("pos/330/y.csv", "");
    silo.pos("pos/330/z.csv", &[row("3-1", 1, "7", 2, "1.50")]);
    let sandbox = Sandbox::new(silo.source("pos")).await;
    let end = sandbox.run("pos").await.expect("a run");
    assert_eq!((end.record_count, end.quarantined_count, end.object_count), (1, 2, 3));
    assert_eq!(sandbox.counts("pos", "receipts").await, [3, 1, 2, 3]);
    let expect = |file: &str, found: &str, payload: &str| {
        (file.to_owned(), format!("the header should be `{POS_HEADER}`, it is `{found}`"), payload.to_owned())
    };
    let quarantined = sandbox.quarantined().await;
    assert_eq!(
        quarantined,
        [expect("330/x.export.csv", "Bon;Kasse", "Bon;Kasse\n1;2\n"), expect("330/y.csv", "", "")]
    );
    // The file is put right: what was said of it is forgotten.
    silo.pos("pos/330/x.export.csv", &[row("3-9", 1, "7", 2, "1.50")]);
    sandbox.run("pos").await.expect("a run");
    assert_eq!(sandbox.counts("pos", "receipts").await, [3, 2, 1, 3]);
}

#[tokio::test]
async fn run_source_quarantines_what_a_domain_refuses() {
    let silo = Silo::new();
    // No product's number holds a slash, by the rules of the order domain.
    let sku = |receipt: usize| if [7, 31].contains(&receipt) { "7/8" } else { "7" };
    let receipt =
        |n: usize| [row(&format!("3-{n}"), 1, "7", 1, "1"), row(&format!("3-{n}"), 2, sku(n), 1, "1")];
    silo.pos("pos/330/a.csv", &(0..40).flat_map(receipt).collect::<Vec<_>>());
    let sandbox = Sandbox::new(silo.source("pos")).await;
    sandbox.run("pos").await.expect("a run");
    assert_eq!(sandbox.counts("pos", "receipts").await, [80, 76, 4, 1]);
    assert_eq!(sandbox.all_orders().await.len(), 38);
    let quarantined = sandbox.quarantined().await;
    let found: Vec<_> =
        quarantined.iter().map(|(position, reason, _)| (position.as_str(), reason.as_str())).collect();
    let expect = "lines[1].sku: holds a control character or a slash";
    let lines = ["330/a.csv:16", "330/a.csv:17", "330/a.csv:64", "330/a.csv:65"];
    assert_eq!(found, lines.map(|position| (position, expect)));
}

#[tokio::test]
async fn run_source_puts_orders_aside_that_nobody_can_add_up() {
    let silo = Silo::new();
    let huge = "90000000000000000.00";
    silo.pos(
        "pos/330/a.csv",
        &[row("3-1", 1, "7", 1, huge), row("3-1", 2, "7", 1, huge), row("3-2", 1, "7", 1, "1")],
    );
    let sandbox = Sandbox::new(silo.source("pos")).await;
    sandbox.run("pos").await.expect("a run");
    assert_eq!(sandbox.counts("pos", "receipts").await, [3, 1, 2, 1]);
    assert_eq!(sandbox.quarantined().await[0].1, "the lines' amounts are too large");
}

#[tokio::test]
async fn run_source_quarantines_text_that_is_damaged() {
    let silo = Silo::new();
    let view = |id: &str| {
        format!(
            r#"{{"event_id":"{id}","occurred_at":"2017-01-01T11:40:02.123Z","session_id":"s","device_id":"d","product_id":"7"}}"#
        )
    };
    let long = view(&"x".repeat(5 * 1024 * 1024));
    let mut file = format!("{}\n{long}\n", view("1")).into_bytes();
    file.extend(b"{\"event_id\":\"Jos\xe9\"}\n");
    file.extend(view("2").as_bytes());
    file.push(b'\n');
    silo.write("events/views/a.jsonl", &file);
    let sandbox = Sandbox::new(silo.source("events")).await;
    sandbox.run("events").await.expect("a run");
    assert_eq!(sandbox.counts("events", "views").await, [4, 2, 2, 1]);
    let quarantined = sandbox.quarantined().await;
    let [(cut, why_cut, start), (latin, why, kept)] = quarantined.as_slice() else {
        panic!("{quarantined:?}")
    };
    assert_eq!((cut.as_str(), latin.as_str()), ("views/a.jsonl:2", "views/a.jsonl:3"));
    assert!(start.len() < 20_000 && long.starts_with(start.trim_end_matches('\u{fffd}')));
    assert_eq!(kept, "{\"event_id\":\"Jos\u{fffd}\"}");
    assert_eq!(why_cut, "the record is too long: it was cut off");
    assert!(why.starts_with("the byte 0xE9 at 16 is not UTF-8: ") && why.contains("`encoding`"), "{why}");

    // Beside it are the bytes as the file has them, and it is read on as any other.
    file.extend(b"{\"event_id\":\"Ren\xe9\"}");
    silo.write("events/views/a.jsonl", &file);
    let end = sandbox.run("events").await.expect("a run");
    assert_eq!((end.record_count, end.quarantined_count), (0, 1));
    let landed = landed_with_bytes(&sandbox, "events").await;
    let bytes: Vec<_> = landed.iter().map(|(_, _, _, bytes)| bytes.as_deref()).collect();
    let kept = start.trim_end_matches('\u{fffd}').as_bytes();
    let latin = [b"{\"event_id\":\"Jos\xe9\"}".as_slice(), b"{\"event_id\":\"Ren\xe9\"}"];
    assert_eq!(bytes, [None, Some(kept), Some(latin[0]), None, Some(latin[1])]);
}

#[tokio::test]
async fn run_source_reads_on_beside_what_it_cannot_read() {
    let silo = Silo::new();
    silo.pos("pos/330/a.csv", &[row("3-1", 1, "7", 2, "1.50")]);
    std::os::unix::fs::symlink(silo.path("nowhere"), silo.path("pos/330/b.csv")).expect("a link");
    silo.pos("pos/330/c.csv", &[row("3-2", 1, "7", 2, "1.50")]);
    let sandbox = Sandbox::new(silo.source("pos")).await;
    for _ in 0..2 {
        let status = sandbox.run("pos").await.expect_err("unreadable");
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::FailedPrecondition, "SOURCE_UNREADABLE")
        );
        assert!(status.message().contains("330/b.csv"), "{}", status.message());
        assert_eq!(sandbox.counts("pos", "receipts").await, [2, 2, 0, 2]);
    }
}

#[tokio::test]
async fn run_source_names_what_it_cannot_read() {
    let silo = Silo::new();
    std::fs::remove_dir(silo.path("pos")).expect("removed");
    let sandbox = Sandbox::new(silo.sources()).await;
    for (system, place) in [("pos", silo.path("pos")), ("shop", silo.path("shop/shop.db"))] {
        let status = sandbox.run(system).await.expect_err("unreadable");
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::FailedPrecondition, "SOURCE_UNREADABLE")
        );
        assert!(status.message().contains(&place.display().to_string()), "{}", status.message());
    }
    assert!(!silo.path("shop/shop.db").exists());
}

#[tokio::test]
async fn run_source_refuses_unknown_sources_and_bad_names() {
    let sandbox = Sandbox::new(Silo::new().sources()).await;
    let status = sandbox.run("erp").await.expect_err("unknown");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "SOURCE_NOT_FOUND"));
    let status = sandbox.run("").await.expect_err("no name");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
}
