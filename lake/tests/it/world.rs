//! A small retailer's events, the same for the same seed, and what a lake of them must hold.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
    ipc::writer::StreamWriter,
};
use events::NewEvent;
use omnimesh_proto::{
    customer::v1::{Customer, CustomerChanged, CustomerVersion},
    identity::v1::{IdentityChanged, IdentityLink},
    ingest::v1::RecordsLanded,
    inventory::v1::{MovementKind, Stock, StockChanged, StockMovement},
    order::v1::{Channel, Order, OrderChanged, OrderLine, OrderSource, Payment},
    r#type::v1::SourceRef,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use types::Timestamp;

use crate::{history, sandbox::Sandbox};

const LANDINGS: usize = 60;
const RECORDS: usize = 40;
const ORDERS: usize = 1500;

/// What the lake must add up to: table, then rows (under the empty name) and sums by path.
pub(crate) type Expected = BTreeMap<&'static str, BTreeMap<&'static str, i64>>;

pub(crate) fn at(second: i64) -> Option<prost_types::Timestamp> {
    Some(Timestamp::from_micros(second * 1_000_000).into())
}

pub(crate) fn changed(event_type: &'static str, subject: String, payload: &impl prost::Message) -> NewEvent {
    NewEvent::new(event_type, subject, Timestamp::from_micros(1), payload)
}

pub(crate) fn source(system: &str, id: impl ToString) -> Option<SourceRef> {
    Some(SourceRef { system: system.to_owned(), id: id.to_string() })
}

/// Publishes everything and tells what it comes to.
pub(crate) async fn publish(sandbox: &Sandbox, seed: u64) -> Expected {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut expected = Expected::new();
    sandbox.publish("ingest", &landings(&mut expected), 5).await;
    for (domain, events) in history::histories(&mut random, &mut expected) {
        sandbox.publish(domain, &events, 40).await;
    }
    sandbox.publish("order", &orders(&mut random, &mut expected, ORDERS), 100).await;
    expected
}

fn landings(expected: &mut Expected) -> Vec<NewEvent> {
    let tables = [
        ("shop", "orders", "bronze_shop__orders"),
        ("shop", "customers", "bronze_shop__customers"),
        ("pos", "transactions", "bronze_pos__transactions"),
    ];
    let landing = |number: usize| {
        let (system, entity, table) = tables[number % 3];
        *expected.entry(table).or_default().entry("").or_default() += RECORDS as i64;
        let payload = RecordsLanded {
            system: system.to_owned(),
            entity: entity.to_owned(),
            object: format!("{entity}-{number}.csv"),
            record_count: RECORDS as i64,
            read_time: at(1_000 + number as i64),
            records: records(&lines(number)).into(),
            ..RecordsLanded::default()
        };
        changed("omnimesh.ingest.v1.RecordsLanded", format!("sources/{system}"), &payload)
    };
    (0..LANDINGS).map(landing).collect()
}

fn lines(number: usize) -> Vec<(String, String)> {
    (0..RECORDS).map(|row| (row.to_string(), format!("{{\"landing\":{number},\"row\":{row}}}"))).collect()
}

/// Records, each with its position, as they are told of.
pub(crate) fn records(records: &[(String, String)]) -> Vec<u8> {
    let fields = ["position", "payload"].map(|name| Field::new(name, DataType::Utf8, false));
    let schema = Schema::new(fields.to_vec());
    let positions: StringArray = records.iter().map(|(position, _)| Some(position.as_str())).collect();
    let payloads: StringArray = records.iter().map(|(_, payload)| Some(payload.as_str())).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(positions), Arc::new(payloads)];
    let batch = RecordBatch::try_new(schema.clone().into(), columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Somebody by values that nobody else has: golden id, names, e-mail address, phone, loyalty card, account in the shop.
pub(crate) const PERSON: [&str; 7] = [
    "golden-q7zk2m9x",
    "Zyxqwanda",
    "Vbnmkjhrt",
    "zyxqwanda.vbnmkjhrt@example.com",
    "+15559348217",
    "880912347765",
    "C-5501928374",
];

/// Their orders.
pub(crate) const PERSONS_ORDERS: [&str; 2] = ["order-9001", "order-9002"];

/// The columns of a till's file.
const RECEIPT: [&str; 7] =
    ["store_id", "receipt_no", "customer_name", "loyalty_card", "product_id", "quantity", "amount"];

/// Publishes records of which half are the person's, or only the other half; and what is made of them.
pub(crate) async fn publish_person(sandbox: &Sandbox, is_there: bool) {
    let [golden_id, given_name, family_name, email, phone, card, account] = PERSON;
    let raw = [
        (
            "shop",
            "customers",
            format!(r#"{{"customer_id":"{account}","name":"{given_name} {family_name}"}}"#),
        ),
        ("shop", "orders", format!(r#"{{"order_id":"S-77","buyer":{{"mail":"{}"}}}}"#, email.to_uppercase())),
        ("pos", "transactions", format!(r#"367,1,"{family_name}, {given_name}",{card},1082185,1,1.09"#)),
        ("pos", "transactions", "367,1,\"Ann, A.\",880912347766,1082185,1,1.09".to_owned()),
        ("shop", "customers", r#"{"customer_id":"C-5501928375","mail":"someone@example.com"}"#.to_owned()),
    ];
    let landing = |(number, (system, entity, payload)): (usize, (&str, &str, String))| {
        let landed: Vec<_> =
            [(number.to_string(), payload)].into_iter().filter(|_| is_there || number > 2).collect();
        let payload = RecordsLanded {
            system: system.to_owned(),
            entity: entity.to_owned(),
            object: format!("late-{number}"),
            record_count: landed.len() as i64,
            read_time: at(9_000),
            records: records(&landed).into(),
            columns: if system == "pos" { RECEIPT.map(str::to_owned).into() } else { Vec::new() },
            ..RecordsLanded::default()
        };
        changed("omnimesh.ingest.v1.RecordsLanded", format!("sources/{system}"), &payload)
    };
    let landings: Vec<_> = raw.into_iter().enumerate().map(landing).collect();
    sandbox.publish("ingest", &landings, 2).await;
    // What was sold is gone from the stock, whoever bought it.
    sandbox.publish("inventory", &[sold(if is_there { PERSONS_ORDERS[0] } else { "order-0" })], 1).await;
    if !is_there {
        return;
    }
    let customer = Customer {
        golden_id: golden_id.to_owned(),
        given_name: given_name.to_owned(),
        family_name: family_name.to_owned(),
        email: email.to_owned(),
        phone: phone.to_owned(),
        loyalty_cards: vec![card.to_owned()],
        source_refs: [("shop", account), ("loyalty", card)]
            .map(|(system, id)| SourceRef { system: system.to_owned(), id: id.to_owned() })
            .into(),
        ..Customer::default()
    };
    sandbox.publish("customer", &[customer_changed(customer)], 1).await;
    sandbox.publish("identity", &[linked(golden_id, source("shop", account))], 1).await;
    let mut random = ChaCha8Rng::seed_from_u64(99);
    // Of today, so that features count them.
    let order_time = Some(Timestamp::now().into());
    let orders = [9_001, 9_002].map(|number| {
        order_changed(&Order { golden_id: golden_id.to_owned(), order_time, ..order(&mut random, number) })
    });
    sandbox.publish("order", &orders, 2).await;
}

/// A stock that nobody has counted is sold from.
fn sold(order: &str) -> NewEvent {
    let (sku, location_id) = ("sold-uncounted".to_owned(), "1".to_owned());
    let movement = StockMovement {
        ledger_sequence: 1,
        sku: sku.clone(),
        location_id: location_id.clone(),
        kind: MovementKind::Sale.into(),
        quantity: -2,
        event_time: at(2),
        record_time: at(3),
        source: source("order", order),
    };
    let stock = Stock { sku, location_id, on_hand: -2, ledger_sequence: 1, ..Stock::default() };
    let payload = StockChanged { stock: Some(stock), movements: vec![movement], corrected: Vec::new() };
    changed("omnimesh.inventory.v1.StockChanged", "locations/1/stocks/sold-uncounted".to_owned(), &payload)
}

/// The first that is told of a customer.
pub(crate) fn customer_changed(customer: Customer) -> NewEvent {
    let subject = format!("customers/{}", customer.golden_id);
    let history = vec![CustomerVersion {
        version: 1,
        valid_from_time: at(1),
        record_from_time: at(2),
        customer: Some(customer.clone()),
        ..CustomerVersion::default()
    }];
    let payload = CustomerChanged { customer: Some(customer), history, superseded: Vec::new() };
    changed("omnimesh.customer.v1.CustomerChanged", subject, &payload)
}

/// A source's record turns out to be about a person.
pub(crate) fn linked(golden_id: &str, source: Option<SourceRef>) -> NewEvent {
    let link = IdentityLink { source, golden_id: golden_id.to_owned(), link_time: at(1), unlink_time: None };
    let payload = IdentityChanged { linked: vec![link], ..IdentityChanged::default() };
    changed("omnimesh.identity.v1.IdentityChanged", format!("identities/{golden_id}"), &payload)
}

/// Orders, of which every tenth is seen by the marketplace later on, which every other time turns out to be an order of
/// its own; every twentieth becomes a part of its neighbour.
pub(crate) fn orders(random: &mut ChaCha8Rng, expected: &mut Expected, count: usize) -> Vec<NewEvent> {
    let mut orders: Vec<_> = (0..count).map(|number| order(random, number)).collect();
    let mut events = Vec::new();
    let mut tell = |order: &mut Order| {
        order.update_time = at(1 + events.len() as i64);
        events.push(order_changed(order));
    };
    orders.iter_mut().for_each(&mut tell);
    for number in (0..count).step_by(5) {
        if number % 20 == 0 {
            let order = orders[number].clone();
            let neighbour = &mut orders[number + 1];
            neighbour.sources.extend(order.sources);
            tell(neighbour);
            orders[number] = Order {
                order_uid: order.order_uid,
                order_time: order.order_time,
                merged_into: orders[number + 1].order_uid.clone(),
                ..Order::default()
            };
        } else {
            let copy = OrderSource { source: source("marketplace", number), ..OrderSource::default() };
            orders[number].sources.push(copy);
            orders[number].total_minor += 1;
        }
        tell(&mut orders[number]);
        if number % 20 == 10 {
            let mut other =
                Order { order_uid: format!("order-{}", count + number), ..orders[number].clone() };
            other.sources.remove(0);
            tell(&mut other);
            orders.push(other);
            orders[number].sources.truncate(1);
            tell(&mut orders[number]);
        }
    }
    orders.retain(|order| order.merged_into.is_empty());
    let lines = || orders.iter().flat_map(|order| &order.lines);
    let payments = || orders.iter().flat_map(|order| &order.payments);
    expected.insert(
        "orders_unified",
        BTreeMap::from([
            ("", orders.len() as i64),
            ("total_minor", orders.iter().map(|order| order.total_minor).sum()),
            ("lines", lines().count() as i64),
            ("lines.quantity", lines().map(|line| line.quantity).sum()),
            ("lines.amount_minor", lines().map(|line| line.amount_minor).sum()),
            ("source_refs", orders.iter().map(|order| order.sources.len() as i64).sum()),
            (
                "source_refs.version",
                orders.iter().flat_map(|order| &order.sources).map(|source| source.version).sum(),
            ),
            ("paid_minor", payments().map(|payment| payment.amount_minor).sum()),
        ]),
    );
    events
}

fn order(random: &mut ChaCha8Rng, number: usize) -> Order {
    let line = |random: &mut ChaCha8Rng| OrderLine {
        sku: random.random_range(1..500).to_string(),
        quantity: random.random_range(0..5),
        amount_minor: random.random_range(0..5_000),
        discount_minor: 0,
    };
    let lines: Vec<_> = (0..random.random_range(1..12)).map(|_| line(random)).collect();
    Order {
        order_uid: format!("order-{number}"),
        channel: Channel::Web.into(),
        order_time: at(number as i64),
        currency_code: "USD".to_owned(),
        total_minor: lines.iter().map(|line| line.amount_minor).sum(),
        discount_minor: number as i64 % 3,
        payments: lines[..number % 2].iter().map(|line| payment(line.amount_minor)).collect(),
        lines,
        sources: vec![OrderSource {
            source: source("shop", number),
            role: "ORIGIN".to_owned(),
            version: number as i64,
            ..OrderSource::default()
        }],
        ..Order::default()
    }
}

fn payment(amount_minor: i64) -> Payment {
    Payment { method: "card".to_owned(), amount_minor, ..Payment::default() }
}

pub(crate) fn order_changed(order: &Order) -> NewEvent {
    let time = order.update_time.map_or(Timestamp::from_micros(1), |time| time.try_into().unwrap());
    let payload = OrderChanged { order: Some(order.clone()) };
    NewEvent::new("omnimesh.order.v1.OrderChanged", format!("orders/{}", order.order_uid), time, &payload)
}

/// Publishes a new stock and a change of the first one; returns what is on hand of either.
pub(crate) async fn publish_stock(sandbox: &Sandbox, number: i64) -> i64 {
    let stocks = [0, number].map(|sku| {
        let stock = Stock {
            sku: sku.to_string(),
            location_id: "1".to_owned(),
            on_hand: number,
            ledger_sequence: number,
            ..Stock::default()
        };
        let payload = StockChanged { stock: Some(stock), ..StockChanged::default() };
        changed("omnimesh.inventory.v1.StockChanged", format!("locations/1/stocks/{sku}"), &payload)
    });
    sandbox.publish("inventory", &stocks, 2).await;
    number
}
