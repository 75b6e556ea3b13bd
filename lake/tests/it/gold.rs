//! Facts, dimensions and aggregates: what they come to for a retailer that fits on a page, that they agree with what they
//! are made of, and that computing what changed is as good as computing everything.

use std::collections::BTreeMap;

use events::NewEvent;
use lake::{Config, Manifest, Outcome};
use omnimesh_proto::order::v1::{Channel, Order, OrderLine, OrderSource, OrderStatus};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::{
    history, landed, python,
    sandbox::Sandbox,
    world::{self, Expected, at, linked, order_changed, source},
};

const DAY: i64 = 86_400;
/// 2016-12-01.
const DECEMBER: i64 = 17_136;

/// An order of one line.
fn order(number: usize, golden_id: &str, day: i64, sku: &str, amount_minor: i64) -> Order {
    Order {
        order_uid: format!("order-{number}"),
        golden_id: golden_id.to_owned(),
        channel: Channel::Pos.into(),
        location_id: "330".to_owned(),
        status: OrderStatus::Completed.into(),
        order_time: at((DECEMBER + day) * DAY + 3_600),
        currency_code: "USD".to_owned(),
        total_minor: amount_minor,
        lines: vec![line(sku, amount_minor)],
        sources: vec![OrderSource {
            source: source("pos", number),
            role: "ORIGIN".to_owned(),
            version: number as i64,
            ..OrderSource::default()
        }],
        ..Order::default()
    }
}

fn line(sku: &str, amount_minor: i64) -> OrderLine {
    OrderLine { sku: sku.to_owned(), quantity: 1, amount_minor, discount_minor: 50 }
}

/// Before, in and after a campaign that card 6001 redeems coupons of: by its owner, who returns something in the end, by
/// another, by nobody.
fn orders() -> Vec<Order> {
    let mut orders = vec![
        order(1, "golden-1", 0, "1", 1_000),
        order(2, "golden-1", 37, "1", 300),
        order(3, "golden-1", 50, "2", 400),
        order(4, "golden-2", 71, "2", 500),
        order(5, "", 37, "none", 150),
        order(6, "golden-1", 38, "1", 999),
        order(7, "golden-1", 75, "1", -200),
        // Still the evening of the day of the second redemption, where the customer is.
        order(8, "golden-1", 39, "2", 250),
    ];
    orders[0].channel = Channel::Web.into();
    orders[0].sources[0].source = source("shop", 1);
    orders[1].lines.push(line("9", 700));
    orders[4].location_id.clear();
    orders[5].status = OrderStatus::Cancelled.into();
    orders[6].lines = vec![OrderLine { quantity: -1, discount_minor: 0, ..line("1", -200) }];
    orders
}

async fn publish(sandbox: &Sandbox) {
    for (domain, events) in history::histories(&mut ChaCha8Rng::seed_from_u64(1), &mut Expected::new()) {
        sandbox.publish(domain, &events, 40).await;
    }
    let link = linked("golden-1", source("loyalty", "6001"));
    sandbox.publish("identity", &[link], 1).await;
    landed::publish(sandbox, None).await;
    let orders: Vec<_> = orders().iter().map(order_changed).collect();
    sandbox.publish("order", &orders, 10).await;
    sandbox.export().await;
}

fn outcomes(manifest: &Manifest) -> BTreeMap<&str, &Outcome> {
    manifest.outputs.iter().map(|output| (output.table.as_str(), &output.outcome)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_model_is_computed_classed_and_right() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    publish(&sandbox).await;
    let manifest = sandbox.run().await;
    for (table, outcome) in outcomes(&manifest) {
        assert_eq!(outcome, &Outcome::Published, "{table}");
    }
    let summary = lake::summary(sandbox.root()).await.unwrap();
    let verdict = python::judge(sandbox.root(), &summary);
    assert!(verdict.status.success(), "{}", python::said(&verdict));

    let config = Config { root: sandbox.root().into(), ..Config::default() };
    let gold: Vec<_> =
        lake::datasets(&config).await.unwrap().into_iter().filter(|table| table.layer == "gold").collect();
    let computed = outcomes(&manifest).into_keys().filter(|table| table.starts_with("gold/"));
    assert_eq!(gold.len(), computed.count());
    for table in &gold {
        for column in &table.columns {
            let class = match column.name.as_str() {
                "golden_id" | "order_uid" | "visitor_id" | "session_id" | "city" | "postcode" | "country"
                | "age" | "income" => "quasi",
                "given_name" | "family_name" | "email" | "phone" | "street" => "direct",
                _ => continue,
            };
            assert_eq!(column.pii, class, "{}.{}", table.table, column.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_and_aggregates_come_to_what_is_on_the_page() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    publish(&sandbox).await;
    sandbox.run().await;
    let rows = async |table: &str, columns: &[&str]| sandbox.rows(&format!("gold/{table}"), columns).await;

    let columns = ["business_date", "channel", "currency", "orders", "customers", "lines", "amount_minor"];
    assert_eq!(
        rows("agg_sales_daily_channel", &columns).await,
        [
            "2016-12-01|web|USD|1|1|1|1000",
            "2017-01-07|pos|USD|2|1|3|1150",
            "2017-01-09|pos|USD|1|1|1|250",
            "2017-01-20|pos|USD|1|1|1|400",
            "2017-02-10|pos|USD|1|1|1|500",
            "2017-02-14|pos|USD|0|0|1|-200",
        ],
        "what was cancelled is left out, a return is no order"
    );
    let columns =
        ["month_start", "category", "orders", "products", "amount_minor", "share_ppm", "discount_ppm"];
    assert_eq!(
        rows("agg_category_kpi", &columns).await,
        [
            "2016-12-01|grocery.cheese|1|1|1000|1000000|47619",
            "2017-01-01|grocery.cheese|3|3|1650|916666|108108",
            "2017-01-01|unknown|1|1|150|83333|250000",
            "2017-02-01|grocery.cheese|1|1|300|1000000|142857",
        ]
    );
    let columns = [
        "promo_id",
        "currency",
        "redemptions",
        "coupons",
        "households",
        "customers",
        "redeemed_minor",
        "basket_minor",
        "days",
        "days_before",
        "amount_minor",
        "amount_before_minor",
        "expected_minor",
        "lift_minor",
        "lift_ppm",
    ];
    assert_eq!(
        rows("agg_promo_lift", &columns).await,
        ["26|USD|2|1|1|1|550|1250|45|31|1450|1000|1451|-1|-689", "27|XXX|0|0|0|0|0|0|0|18|0|0|0|0|"]
    );
    let columns = [
        "golden_id",
        "recency_days",
        "frequency",
        "monetary_minor",
        "r_score",
        "f_score",
        "m_score",
        "active_months",
        "tenure_months",
        "clv_year_minor",
    ];
    assert_eq!(
        rows("agg_rfm_clv", &columns).await,
        ["golden-1|21|4|2450|1|2|2|2|3|9800", "golden-2|0|1|500|2|1|1|1|1|6000"]
    );
    let columns = [
        "golden_id",
        "is_known",
        "loyalty_cards",
        "as_of",
        "orders",
        "web_orders",
        "pos_orders",
        "first_order_on",
        "last_order_on",
        "days_since_order",
        "currency",
        "amount_minor",
        "average_order_minor",
        "products",
        "top_department",
        "top_location_id",
        "sessions",
        "searches",
        "baskets",
        "redemptions",
    ];
    let customers = rows("agg_customer_360", &columns).await;
    let of =
        |golden_id: &str| customers.iter().find(|row| row.starts_with(&format!("{golden_id}|"))).unwrap();
    assert_eq!(
        of("golden-1"),
        "golden-1|true|1|2017-02-10|4|1|3|2016-12-01|2017-01-20|21|USD|2450|612|3|grocery|330|1|1|1|2"
    );
    assert_eq!(of("golden-5"), "golden-5|true|1|2017-02-10|0|0|0|||||||0|||1|1|1|0");
    assert!(!customers.iter().any(|row| row.starts_with("unknown")), "nobody is no customer");

    let locations = rows("dim_location", &["location_id", "is_known", "orders", "stocked_products"]).await;
    assert_eq!(locations, ["0|true|0|150", "1|true|0|150", "330|true|5|0", "unknown|false|1|0"]);
    let promotions = rows("dim_promotion", &["promo_id", "days", "coupons", "products", "members"]).await;
    assert_eq!(promotions, ["26|59|1|2|2", "27|32|1|1|1"]);
    let unknown = rows("dim_product", &["is_known", "sku", "department"]).await;
    assert!(unknown.contains(&"false|none|unknown".to_owned()), "what was sold is a product");
    let stocks =
        rows("fct_inventory_daily", &["sku", "location_id", "business_date", "opening", "days"]).await;
    assert!(stocks.len() == 300 && stocks.iter().all(|row| row.ends_with("|1970-01-01|0|1")), "{stocks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_large_amounts_are_right() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    publish(&sandbox).await;
    let orders = (0..30).map(|number| {
        let day = if number < 10 { 0 } else { 40 };
        let order = order(100 + number, "golden-1", day, "1", 1_000_000_000_000);
        order_changed(&Order { currency_code: "VND".to_owned(), ..order })
    });
    sandbox.publish("order", &orders.collect::<Vec<_>>(), 10).await;
    sandbox.export().await;
    sandbox.run().await;
    let of_dong = async |table: &str, columns: &[&str]| {
        let rows = sandbox.rows(&format!("gold/{table}"), columns).await;
        rows.into_iter().filter(|row| row.starts_with("VND")).collect::<Vec<_>>()
    };
    let columns = ["currency", "month_start", "amount_minor", "share_ppm", "discount_ppm"];
    assert_eq!(
        of_dong("agg_category_kpi", &columns).await,
        ["VND|2016-12-01|10000000000000|1000000|0", "VND|2017-01-01|20000000000000|1000000|0"]
    );
    assert_eq!(
        of_dong("agg_promo_lift", &["currency", "promo_id", "expected_minor", "lift_minor", "lift_ppm"])
            .await,
        ["VND|26|14516129032258|5483870967742|377777"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_optional_sources_would_add_may_be_lacking() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    world::publish(&sandbox, 6).await;
    sandbox.export().await;
    let manifest = sandbox.run().await;
    for (table, outcome) in outcomes(&manifest) {
        let is_lacking = ["dim_promotion", "agg_promo_lift"].iter().any(|name| table.ends_with(name));
        match outcome {
            _ if table.starts_with("silver/") => {}
            Outcome::Skipped { .. } => assert!(is_lacking, "{table} is skipped"),
            outcome => assert!(!is_lacking && *outcome == Outcome::Published, "{table}: {outcome:?}"),
        }
    }
    let visits = sandbox.rows("gold/agg_customer_360", &["sessions", "redemptions"]).await;
    assert!(!visits.is_empty() && visits.iter().all(|row| row == "0|0"), "{visits:?}");
    assert!(sandbox.run().await.outputs.iter().all(|output| output.outcome != Outcome::Published));
}

/// Orders that come, change in every way that an order can, go and come back.
struct Orders {
    random: ChaCha8Rng,
    orders: Vec<Order>,
}

impl Orders {
    fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), orders: Vec::new() }
    }

    fn come(&mut self, count: usize) -> Vec<NewEvent> {
        let events = (0..count).map(|_| {
            let number = self.orders.len();
            let customer = format!("golden-{}", self.random.random_range(0..20));
            let order = order(number, &customer, self.random.random_range(0..30), "1", number as i64);
            self.orders.push(order);
            order_changed(&self.orders[number])
        });
        events.collect()
    }

    fn change(&mut self, count: usize) -> Vec<NewEvent> {
        let events = (0..count).map(|_| {
            let chosen = self.random.random_range(0..self.orders.len());
            let order = &mut self.orders[chosen];
            match self.random.random_range(0..6) {
                0 => order.lines.push(line("2", self.random.random_range(0..900))),
                1 => drop(order.lines.pop()),
                2 => order.order_time = at((DECEMBER + self.random.random_range(0..40)) * DAY),
                3 => order.status = OrderStatus::Cancelled.into(),
                4 => order.golden_id.clear(),
                _ if order.merged_into.is_empty() => order.merged_into = "order-0".to_owned(),
                _ => order.merged_into.clear(),
            }
            order_changed(order)
        });
        events.collect()
    }
}

/// What a run says that the gold tables of orders hold, and of how many changed values each was computed.
fn contents(manifest: &Manifest) -> BTreeMap<&str, (u64, &str, Option<u64>)> {
    let tables = ["gold/fct_order_line", "gold/agg_sales_daily_channel"];
    let outputs = manifest.outputs.iter().filter(|output| tables.contains(&output.table.as_str()));
    outputs
        .map(|output| (output.table.as_str(), (output.rows, output.content.as_str(), output.changed_values)))
        .collect()
}

/// Computes what changed, and everything in a new lake of the same events: both come to the same.
async fn assert_same(sandbox: &Sandbox, directory: &TempDir, round: usize) -> Manifest {
    sandbox.export().await;
    let manifest = sandbox.run().await;
    let whole = directory.path().join(format!("whole-{round}"));
    sandbox.export_then(&whole, async {}).await;
    let config = Config { root: (&whole).into(), ..Config::default() };
    let all = lake::run(&config, &[], &|_| {}).await.unwrap();
    for (table, (rows, content, _)) in contents(&all) {
        let (part_rows, part_content, _) = contents(&manifest)[table];
        assert_eq!((part_rows, part_content), (rows, content), "{table} after round {round}");
    }
    let of_orders = async |root| {
        let summaries = lake::summary(root).await.unwrap().into_iter();
        summaries.filter(|summary| summary.layer == "gold").collect::<Vec<_>>()
    };
    assert_eq!(of_orders(sandbox.root()).await, of_orders(&whole).await, "round {round}");
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn computing_what_changed_is_as_good_as_computing_everything() {
    for seed in 30..35 {
        let directory = TempDir::new().unwrap();
        let sandbox = Sandbox::open(directory.path()).await;
        let mut orders = Orders::new(seed);
        sandbox.publish("order", &orders.come(200), 100).await;
        assert_same(&sandbox, &directory, 0).await;
        for round in 1..5 {
            let events = orders.come(round % 3).into_iter().chain(orders.change(10)).collect::<Vec<_>>();
            sandbox.publish("order", &events, 100).await;
            let manifest = assert_same(&sandbox, &directory, round).await;
            for (table, (_, _, changed)) in contents(&manifest) {
                let changed = changed.unwrap_or_else(|| panic!("{table} was computed as a whole"));
                assert!((1..=30).contains(&changed), "{table}: {changed} values");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_put_together_still_tells_what_changed() {
    let directory = TempDir::new().unwrap();
    let sandbox = Sandbox::open(directory.path()).await;
    let mut orders = Orders::new(36);
    sandbox.publish("order", &orders.come(100), 100).await;
    assert_same(&sandbox, &directory, 0).await;
    for _ in 0..60 {
        let events: Vec<_> = orders.come(1).into_iter().chain(orders.change(1)).collect();
        sandbox.publish("order", &events, 2).await;
        sandbox.export().await;
    }
    let manifest = assert_same(&sandbox, &directory, 1).await;
    assert!(
        contents(&manifest).values().all(|(_, _, changed)| changed.is_some_and(|changed| changed <= 120))
    );
}
