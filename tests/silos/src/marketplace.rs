//! The marketplace: documents as `mongoexport` writes them (relaxed extended JSON), a file per month.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use serde::{Serialize, Serializer};

use crate::{
    Error, Site, Tally, World,
    chance::dice,
    dataset::Line,
    money::Cents,
    people::Address,
    plan::MarketplaceOrder,
    text_file::{TextFile, Written, directory},
    when,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "_id")]
    id: ObjectId,
    order_no: &'a str,
    created_at: Date,
    updated_at: Date,
    status: &'static str,
    currency: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    merchant_order_no: Option<&'a str>,
    store_id: String,
    buyer: BuyerDocument<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipping_address: Option<AddressDocument<'a>>,
    items: Vec<Item>,
    total: Decimal,
    payment: Payment,
}

#[derive(Serialize)]
struct ObjectId {
    #[serde(rename = "$oid")]
    hex: String,
}

#[derive(Serialize)]
struct Date {
    #[serde(rename = "$date")]
    at: Timestamp,
}

#[derive(Serialize)]
struct Decimal {
    #[serde(rename = "$numberDecimal", serialize_with = "as_text")]
    amount: Cents,
}

fn as_text<S: Serializer>(amount: &Cents, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

#[derive(Serialize)]
struct BuyerDocument<'a> {
    id: &'a str,
    name: &'a str,
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<&'a str>,
}

#[derive(Serialize)]
struct AddressDocument<'a> {
    street: &'a str,
    city: &'a str,
    postcode: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    line: usize,
    sku: String,
    quantity: i32,
    amount: Decimal,
    #[serde(skip_serializing_if = "Option::is_none")]
    retail_discount: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coupon_discount: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coupon_match_discount: Option<Decimal>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payment {
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    psp_ref: Option<String>,
    amount: Decimal,
}

pub(crate) fn write(site: &Site) -> Result<Written, Error> {
    directory(&site.root, "marketplace")?;
    let world = &site.world;
    let mut orders: Vec<&MarketplaceOrder> = world.plan.marketplace.iter().collect();
    orders.sort_by_key(|order| (order.at, order.basket));
    let mut written = Written::default();
    let mut buyers = BTreeSet::new();
    for month in orders.chunk_by(|a, b| when::day(a.at).first_of_month() == when::day(b.at).first_of_month())
    {
        let mut file =
            TextFile::new(format!("marketplace/orders-{}.jsonl", when::day(month[0].at).strftime("%Y-%m")));
        for order in month {
            let document = document(world, order);
            written.tally += Tally {
                records: 1,
                lines: document.items.len() as u64,
                sales_minor: document.total.amount.0.into(),
                ..Tally::default()
            };
            buyers.insert(world.dataset.baskets[order.basket].household);
            file.json(&document)?;
            add_junk(&mut file, world, order);
        }
        if when::day(month[0].at).month() == 9 {
            file.cut_off(r#"{"_id":{"$oid":"59a8a2c0ffffffffffffffff"},"orderNo":"999-0000009-0000009","createdAt":{"$da"#);
        }
        file.save(&site.root, &mut written)?;
        site.advance(month.len() as u64);
    }
    written.tally.people = buyers.len() as u64;
    Ok(written)
}

fn document<'a>(world: &'a World, order: &'a MarketplaceOrder) -> Document<'a> {
    let basket = &world.dataset.baskets[order.basket];
    let buyer = &world.households[basket.household].buyer;
    let mut dice = dice(world.seed, "document", basket.id);
    let total = world.dataset.total(basket);
    Document {
        id: ObjectId { hex: format!("{:08x}{:016x}", order.at.as_second(), dice.random::<u64>()) },
        order_no: &order.order_no,
        created_at: Date { at: order.at },
        updated_at: Date { at: order.at + SignedDuration::from_secs(dice.random_range(3_600..72 * 3_600)) },
        status: if dice.random_bool(0.9) { "DELIVERED" } else { "SHIPPED" },
        currency: "USD",
        merchant_order_no: order.merchant_order_no.as_deref(),
        store_id: basket.store.to_string(),
        buyer: BuyerDocument {
            id: &buyer.id,
            name: &buyer.name,
            email: buyer.contact.email.as_deref(),
            phone: buyer.contact.phone.as_deref(),
        },
        shipping_address: buyer.address_at(order.at).map(address),
        items: world.dataset.lines(basket).iter().enumerate().map(item).collect(),
        total: Decimal { amount: total },
        payment: Payment {
            method: if dice.random_bool(0.7) { "card" } else { "wallet" },
            psp_ref: order.psp_ref.map(|psp_ref| psp_ref.to_string()),
            amount: Decimal { amount: total },
        },
    }
}

fn address(Address { street, city, postcode }: &Address) -> AddressDocument<'_> {
    AddressDocument { street, city, postcode }
}

fn item((index, line): (usize, &Line)) -> Item {
    let unless_zero = |amount: Cents| (amount.0 != 0).then_some(Decimal { amount });
    Item {
        line: index + 1,
        sku: line.product.to_string(),
        quantity: line.quantity,
        amount: Decimal { amount: line.amount },
        retail_discount: unless_zero(line.retail_discount),
        coupon_discount: unless_zero(line.coupon_discount),
        coupon_match_discount: unless_zero(line.coupon_match_discount),
    }
}

/// After a document, sometimes, one that is no order: no JSON, an amount that is no number, or no items.
fn add_junk(file: &mut TextFile, world: &World, order: &MarketplaceOrder) {
    let mut dice = dice(world.seed, "document junk", order.basket as u64);
    if !dice.random_ratio(1, 400) {
        return;
    }
    let start = format!(
        r#"{{"_id":{{"$oid":"{:08x}{:016x}"}},"orderNo":"999-{:07}-0000000","createdAt":{{"$date":"{}"}}"#,
        order.at.as_second(),
        dice.random::<u64>(),
        order.basket,
        order.at,
    );
    match dice.random_range(0..3) {
        0 => file.junk("invalid_json", &format!(r#"{start},"status":SHIPPED,"currency":"USD"}}"#)),
        1 => file.junk(
            "unparsable_number",
            &format!(
                r#"{start},"status":"SHIPPED","currency":"USD","storeId":"367","buyer":{{"id":"B000000000","name":"Test"}},"items":[{{"line":1,"sku":"1082185","quantity":1,"amount":{{"$numberDecimal":"one"}}}}],"total":{{"$numberDecimal":"one"}}}}"#
            ),
        ),
        _ => file.junk("missing_columns", &format!(r#"{start},"status":"SHIPPED"}}"#)),
    }
}
