//! `ImportOrders`: what is taken in, what is refused, and which records become one order.

use omnimesh_proto::order::v1::{self as pb, MatchRule::*};

use crate::sandbox::{Sandbox, With, fields, golden_id, line, minute, order, person, reason, rules, sources};

#[tokio::test]
async fn import_orders_keeps_the_newest_version() {
    for sandbox in Sandbox::on_both_engines().await {
        let first = order("shop:1", 0);
        let corrected = first.clone().version(3).lines(vec![line("banana", 3, 150)]);
        assert_eq!(sandbox.import(&[&[first.clone()]]).await, (1, 0));
        let made = sandbox.lookup("shop:1").await.expect("found");
        assert_eq!(sandbox.import(&[&[corrected.clone()], &[first.clone(), corrected]]).await, (1, 2));
        let order = sandbox.lookup("shop:1").await.expect("found");
        assert_eq!((&order.name, order.total_minor, order.create_time), (&made.name, 150, made.create_time));
        assert_ne!(order.etag, made.etag);
        assert_eq!(order.sources[0].version, 3);
        assert_eq!(sandbox.import(&[&[first.clone().version(2), first]]).await, (0, 2));
        assert_eq!(sandbox.lookup("shop:1").await.expect("found"), order);
    }
}

#[tokio::test]
async fn import_orders_names_what_is_wrong() {
    let sandbox = Sandbox::on_sqlite().await;
    let mut wrong = order("shop:1", 0);
    wrong.lines[1].sku = String::new();
    wrong.lines[0].quantity = i64::MIN;
    wrong.lines[0].discount_minor = -1;
    wrong.currency_code = "dollars".to_owned();
    wrong.channel = 0;
    let nothing = pb::SourceOrder::default();
    let error = sandbox.try_import(&[&[order("shop:2", 0), wrong, nothing]]).await.expect_err("refused");
    assert_eq!(reason(&error), "INVALID_REQUEST");
    let expect = [
        "orders[1].channel",
        "orders[1].currency_code",
        "orders[1].lines[0].quantity",
        "orders[1].lines[0].discount_minor",
        "orders[1].lines[1].sku",
        "orders[2].source",
        "orders[2].channel",
        "orders[2].order_time",
        "orders[2].currency_code",
        "orders[2].lines",
    ];
    assert_eq!(fields(&error), expect);
    assert!(sandbox.orders().await.is_empty(), "a portion is taken whole or not at all");
}

#[tokio::test]
async fn import_orders_refuses_what_no_order_is_like() {
    const LARGEST: i64 = 1_000_000_000_000;
    let sandbox = Sandbox::on_sqlite().await;
    let usual = || order("shop:1", 0);
    let many = |count: usize| (0..count).map(|_| line("milk", 1, 1)).collect::<Vec<_>>();
    let discounted = |discount_minor| {
        let line = pb::OrderLine { discount_minor, ..line("milk", 1, 0) };
        usual().lines(vec![line.clone(), line])
    };
    let mut references = usual();
    references.references = vec![order("pos:1", 0).source.expect("a source"); 1_001];
    let mut payments = usual();
    payments.payments = vec![pb::Payment::default(); 1_001];
    for (order, expect) in [
        (usual().naming("pos:"), "references[0]"),
        (usual().lines(many(10_001)), "lines"),
        (references, "references"),
        (payments, "payments"),
        (usual().lines(vec![line("milk", LARGEST + 1, 1)]), "lines[0].quantity"),
        (usual().lines(vec![line("milk", i64::MIN, 1)]), "lines[0].quantity"),
        (usual().lines(vec![line("milk", 1, LARGEST), line("milk", 1, 1)]), "lines"),
        (usual().lines(vec![line("milk", 1, -LARGEST), line("milk", 1, -1)]), "lines"),
        (discounted(LARGEST), "lines"),
        (usual().paid("psp_1", LARGEST + 1), "payments[0].amount_minor"),
        (usual().paid("psp_1", i64::MIN), "payments[0].amount_minor"),
    ] {
        let error = sandbox.try_import(&[&[order]]).await.expect_err(expect);
        assert_eq!(
            (reason(&error).as_str(), fields(&error)),
            ("INVALID_REQUEST", vec![format!("orders[0].{expect}")])
        );
    }
    let endless = usual().lines(vec![line("milk", 1, i64::MAX), line("milk", 1, i64::MAX)]);
    let error = sandbox.try_import(&[&[endless]]).await.expect_err("refused");
    let expect = ["lines", "lines[0].amount_minor", "lines[1].amount_minor"];
    assert_eq!(fields(&error), expect.map(|field| format!("orders[0].{field}")));

    let largest = usual().lines(vec![line("milk", LARGEST, LARGEST), line("milk", -LARGEST, -LARGEST)]);
    assert_eq!(sandbox.import(&[&[largest, order("shop:2", 60).lines(many(10_000))]]).await, (2, 0));
}

/// Records, and the orders that they are: each as its records, the origin first, and what ties them.
type Case = (&'static str, Vec<pb::SourceOrder>, Vec<(Vec<&'static str>, Vec<pb::MatchRule>)>);

fn cases() -> Vec<Case> {
    let other_goods = || vec![line("fuel", 10_000, 2500)];
    let milk = || vec![line("milk", 1, 250)];
    let elsewhere = |mut order: pb::SourceOrder| {
        order.location_id = "2".to_owned();
        order
    };
    let alone = |source| (vec![source], vec![Unspecified]);
    vec![
        (
            "a reference ties whatever else differs, even before the named record is there",
            vec![order("pos:9", 3000).naming("shop:1").lines(other_goods()), order("shop:1", 0)],
            vec![(vec!["shop:1", "pos:9"], vec![Unspecified, Reference])],
        ),
        (
            "two records that name the same third are one order, whether it ever comes or not",
            vec![order("marketplace:1", 0).naming("erp:7"), order("pos:1", 100).naming("erp:7")],
            vec![(vec!["marketplace:1", "pos:1"], vec![Unspecified, Reference])],
        ),
        (
            "a payment ties two systems, and never two records of one",
            vec![
                order("shop:1", 0).paid("psp_1", 350),
                order("shop:2", 30).paid("psp_1", 350),
                order("marketplace:1", 29).paid("psp_1", 350),
            ],
            vec![(vec!["marketplace:1", "shop:2"], vec![Unspecified, Payment]), alone("shop:1")],
        ),
        (
            "equal content ties one person's records within a quarter of an hour",
            vec![order("shop:1", 0).of("shop:anna"), order("pos:1", 15).of("loyalty:77")],
            vec![(vec!["shop:1", "pos:1"], vec![Unspecified, Content])],
        ),
        (
            "but not beyond it",
            vec![order("shop:1", 0).of("shop:anna"), order("pos:1", 16).of("loyalty:77")],
            vec![alone("shop:1"), alone("pos:1")],
        ),
        (
            "nor two persons' records",
            vec![order("shop:1", 0).of("shop:anna"), order("pos:1", 1).of("loyalty:88")],
            vec![alone("shop:1"), alone("pos:1")],
        ),
        (
            "nor when one of them is unknown",
            vec![order("shop:1", 0).of("shop:anna"), order("pos:1", 1).of("loyalty:99")],
            vec![alone("shop:1"), alone("pos:1")],
        ),
        (
            "nor at two places",
            vec![order("shop:1", 0).of("shop:anna"), elsewhere(order("pos:1", 1).of("loyalty:77"))],
            vec![alone("shop:1"), alone("pos:1")],
        ),
        (
            "a till's record without a card ties by several goods at one place",
            vec![order("shop:1", 0).of("shop:anna"), order("pos:1", 1)],
            vec![(vec!["shop:1", "pos:1"], vec![Unspecified, Content])],
        ),
        (
            "but not by a bottle of milk",
            vec![order("shop:1", 0).of("shop:anna").lines(milk()), order("pos:1", 1).lines(milk())],
            vec![alone("shop:1"), alone("pos:1")],
        ),
        (
            "the nearest of several is the one",
            vec![order("shop:1", 0), order("pos:1", 5), order("pos:2", 2), order("pos:3", 9)],
            vec![(vec!["shop:1", "pos:2"], vec![Unspecified, Content]), alone("pos:1"), alone("pos:3")],
        ),
        (
            "of two that are equally near it is none",
            vec![order("shop:1", 5), order("pos:1", 3), order("pos:2", 7), order("pos:3", 9)],
            vec![alone("shop:1"), alone("pos:1"), alone("pos:2"), alone("pos:3")],
        ),
        (
            "three systems that complement each other see one order",
            vec![
                order("pos:1", 2).of("loyalty:77"),
                order("marketplace:1", 0).of("marketplace:a"),
                order("shop:1", 0).naming("marketplace:1").of("shop:anna"),
            ],
            vec![(vec!["shop:1", "marketplace:1", "pos:1"], vec![Unspecified, Reference, Content])],
        ),
    ]
}

#[tokio::test]
async fn import_orders_unifies_what_is_one_order() {
    for (what, records, expect) in cases() {
        for backwards in [false, true] {
            let sandbox = Sandbox::on_sqlite().await;
            sandbox
                .identify(&[
                    person(&golden_id(1), &["shop:anna", "loyalty:77", "marketplace:a"]),
                    person(&golden_id(2), &["shop:bob", "loyalty:88"]),
                ])
                .await;
            let mut records = records.clone();
            if backwards {
                records.reverse();
            }
            for record in records {
                sandbox.import(&[&[record]]).await;
            }
            let orders = sandbox.orders().await;
            let mut found: Vec<_> = orders.iter().map(|order| (sources(order), rules(order))).collect();
            found.sort_by(|one, other| one.0.cmp(&other.0));
            let mut expect: Vec<_> = expect
                .iter()
                .map(|(sources, rules)| {
                    (sources.iter().map(|&s| s.to_owned()).collect::<Vec<_>>(), rules.clone())
                })
                .collect();
            expect.sort_by(|one, other| one.0.cmp(&other.0));
            assert_eq!(found, expect, "{what} (backwards: {backwards})");
        }
    }
}

#[tokio::test]
async fn import_orders_takes_each_fact_from_who_knows_it() {
    for sandbox in Sandbox::on_both_engines().await {
        let mut shop = order("shop:1", 0).paid("", 350);
        shop.location_id = String::new();
        let mut till = order("pos:1", 90).naming("shop:1").paid("psp_1", 350).lines(vec![line("bag", 1, 5)]);
        till.status = pb::OrderStatus::Completed.into();
        till.payments[0].auth_code = "481516".to_owned();
        let late = shop.clone().version(2).paid("psp_2", 10);
        sandbox.import(&[&[till], &[shop], &[late]]).await;
        let order = sandbox.lookup("pos:1").await.expect("found");
        assert_eq!(sources(&order), ["shop:1", "pos:1"]);
        assert_eq!(order.sources.iter().map(|source| &*source.role).collect::<Vec<_>>(), ["ORIGIN", "COPY"]);
        assert_eq!((order.channel(), order.status()), (pb::Channel::Web, pb::OrderStatus::Completed));
        assert_eq!((order.total_minor, order.lines.len(), &*order.location_id), (350, 2, "1"));
        assert_eq!(order.order_time, Some(minute(0)));
        let payments = order.payments.iter();
        let payments: Vec<_> =
            payments.map(|paid| (&*paid.psp_ref, &*paid.auth_code, paid.amount_minor)).collect();
        assert_eq!(
            payments,
            [("psp_1", "481516", 350), ("psp_2", "", 10)],
            "the till knows the reference of the shop's payment"
        );
    }
}

#[tokio::test]
async fn import_orders_merges_orders_that_turn_out_to_be_one() {
    for sandbox in Sandbox::on_both_engines().await {
        sandbox.import(&[&[order("pos:1", 100)], &[order("shop:1", 0)]]).await;
        let (older, newer) =
            (sandbox.lookup("pos:1").await.unwrap(), sandbox.lookup("shop:1").await.unwrap());
        sandbox.import(&[&[order("shop:1", 0).version(2).naming("pos:1")]]).await;
        let unified = sandbox.lookup("shop:1").await.expect("found");
        assert_eq!(
            (&unified.name, sources(&unified)),
            (&older.name, vec!["shop:1".to_owned(), "pos:1".to_owned()])
        );
        let merged = sandbox.get(&newer.name).await.expect("found");
        assert_eq!((&merged.merged_into, merged.lines.len()), (&unified.order_uid, 0));
        assert_eq!(sandbox.orders().await, [unified.clone()]);

        sandbox.import(&[&[order("shop:1", 0).version(3)]]).await;
        let parted = [sandbox.lookup("pos:1").await.unwrap(), sandbox.lookup("shop:1").await.unwrap()];
        assert_ne!(parted[0].name, parted[1].name, "without the reference they are two again");
        assert_eq!(parted[1].name, unified.name, "the order goes where its origin goes");
    }
}

#[tokio::test]
async fn import_orders_finds_the_person_whenever_identity_tells() {
    for sandbox in Sandbox::on_both_engines().await {
        let (anna, twin) = (golden_id(1), golden_id(2));
        sandbox.import(&[&[order("shop:1", 0).of("shop:anna"), order("pos:1", 5).of("loyalty:77")]]).await;
        assert_eq!(sandbox.orders().await.len(), 2);

        let mut member = person(&anna, &["shop:anna"]);
        member.records[0].loyalty_card = "77".to_owned();
        sandbox.identify(&[member]).await;
        let order = sandbox.lookup("pos:1").await.expect("found");
        assert_eq!((&order.golden_id, sources(&order).len()), (&anna, 2), "one person's orders are one");

        sandbox.identify(&[person(&anna, &["shop:anna"]), person(&twin, &["loyalty:77"])]).await;
        let orders = [sandbox.lookup("shop:1").await.unwrap(), sandbox.lookup("pos:1").await.unwrap()];
        assert_eq!([&orders[0].golden_id, &orders[1].golden_id], [&anna, &twin], "two persons' are two");

        let mut merged = person(&twin, &[]);
        merged.merged_into.clone_from(&anna);
        sandbox.identify(&[merged, person(&anna, &["shop:anna", "loyalty:77"])]).await;
        let order = sandbox.lookup("pos:1").await.expect("found");
        assert_eq!((&order.golden_id, sources(&order).len()), (&anna, 2));
        assert_eq!(sandbox.told().await.into_values().collect::<Vec<_>>(), [order]);
    }
}
