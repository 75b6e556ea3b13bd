//! What happens to customers, records, products, stocks and orders, told step by step: in whichever order the steps are
//! told.

use std::collections::BTreeMap;

use events::NewEvent;
use omnimesh_proto::{
    catalog::v1::{Product, ProductChanged},
    customer::v1::{Customer, CustomerChanged, CustomerVersion, Provenance},
    identity::v1::{IdentityChanged, IdentityLink},
    inventory::v1::{MovementKind, Stock, StockChanged, StockMovement},
    r#type::v1::Address,
};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    sandbox::Sandbox,
    world::{self, Expected, at, changed, source},
};

const CUSTOMERS: usize = 60;
const LINKS: usize = 90;
const PRODUCTS: usize = 70;
const STOCKS: usize = 300;
const ORDERS: usize = 200;

/// Publishes the same histories once in their order, or often in any.
pub(crate) async fn publish_histories(sandbox: &Sandbox, seed: u64, shuffled: bool) {
    let told = || {
        let (mut random, mut expected) = (ChaCha8Rng::seed_from_u64(seed), Expected::new());
        let orders = world::orders(&mut random, &mut expected, ORDERS);
        histories(&mut random, &mut expected).into_iter().chain([("order", orders)])
    };
    for ((domain, mut events), (_, again)) in told().zip(told()) {
        if shuffled {
            events.extend(again);
            events.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        }
        for portion in events.chunks(events.len().div_ceil(4)) {
            sandbox.publish(domain, portion, 7).await;
            sandbox.export().await;
        }
    }
}

/// Events of which each tells a step of a history, so that their order does not matter, by domain.
pub(crate) fn histories(
    random: &mut ChaCha8Rng,
    expected: &mut Expected,
) -> [(&'static str, Vec<NewEvent>); 4] {
    [
        ("identity", links(expected)),
        ("customer", customers(random, expected)),
        ("catalog", products(expected)),
        ("inventory", stocks(random, expected)),
    ]
}

/// Records, of which every third turns out to be another's, and every ninth to be the first one's after all.
fn links(expected: &mut Expected) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for number in 0..LINKS {
        let link = |golden_id: usize, from: i64| IdentityLink {
            source: source("shop", number),
            golden_id: format!("golden-{golden_id}"),
            link_time: at(from),
            unlink_time: None,
        };
        let moves = 1 + usize::from(number % 3 == 0) + usize::from(number % 9 == 0);
        let links = [link(number, 1), link(number + 1, 2), link(number, 3)];
        for step in 0..moves {
            let linked = vec![links[step].clone()];
            let ended =
                |link: &IdentityLink| IdentityLink { unlink_time: linked[0].link_time, ..link.clone() };
            let unlinked = links[..step].last().map(ended).into_iter().collect();
            let subject = format!("identities/{}", linked[0].golden_id);
            let payload = IdentityChanged { identity: None, linked, unlinked };
            events.push(changed("omnimesh.identity.v1.IdentityChanged", subject, &payload));
        }
    }
    expected.insert("identity_links", BTreeMap::from([("", LINKS as i64)]));
    events
}

/// Products, of which each is called something else now and then.
fn products(expected: &mut Expected) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for number in 0..PRODUCTS {
        let product = |change: usize| Product {
            sku: number.to_string(),
            title: format!("PRODUCT {number}.{change}"),
            category: if number % 7 == 0 { String::new() } else { "categories/grocery.cheese".to_owned() },
            create_time: at(1),
            update_time: at(1 + change as i64),
            ..Product::default()
        };
        for change in 0..=number % 4 {
            let previous = (change > 0).then(|| product(change - 1));
            let payload = ProductChanged { product: Some(product(change)), previous };
            events.push(changed(
                "omnimesh.catalog.v1.ProductChanged",
                format!("products/{number}"),
                &payload,
            ));
        }
    }
    let periods = |number: usize| (number % 4 + 1) as i64;
    let in_tree = (0..PRODUCTS).filter(|number| number % 7 != 0);
    expected.insert(
        "products_scd",
        BTreeMap::from([
            ("", (0..PRODUCTS).map(periods).sum()),
            ("is_current", PRODUCTS as i64),
            ("category_path", in_tree.map(periods).sum::<i64>() * 2),
        ]),
    );
    events
}

/// Each customer's history grows, and is now and then written anew; every tenth becomes a part of its neighbour.
fn customers(random: &mut ChaCha8Rng, expected: &mut Expected) -> Vec<NewEvent> {
    let mut events = Vec::new();
    let (mut rows, mut current) = (0, 0);
    for number in 0..CUSTOMERS {
        let mut record = CustomerRecord { number, changes: 0, stands: Vec::new() };
        let mut starts: Vec<i64> = Vec::new();
        for change in 0..random.random_range(1..5) {
            if change == 3 {
                // A late record moves every period.
                starts = starts.iter().map(|start| start - 10).collect();
            }
            starts.push(1_000 + 100 * change);
            events.push(record.change(&starts));
        }
        if number % 10 == 9 {
            events.push(record.change(&[]));
        } else {
            rows += starts.len() as i64;
            current += 1;
        }
    }
    let sums = [("", rows), ("is_current", current), ("loyalty_cards", rows), ("source_refs", rows)];
    expected.insert("users_scd", BTreeMap::from(sums));
    events
}

/// What stands of a customer, as the customer service keeps it.
struct CustomerRecord {
    number: usize,
    changes: i64,
    stands: Vec<CustomerVersion>,
}

impl CustomerRecord {
    /// The history begins anew at `starts`; without any the customer has become a part of its neighbour.
    fn change(&mut self, starts: &[i64]) -> NewEvent {
        self.changes += 1;
        let now = at(100_000 + self.changes);
        let ends = starts.iter().skip(1).map(|end| at(*end)).chain([None]);
        let versions = starts.iter().zip(ends).zip(1..).map(|((start, end), version)| CustomerVersion {
            version,
            valid_from_time: at(*start),
            valid_to_time: end,
            record_from_time: now,
            record_to_time: None,
            customer: Some(profile(self.number, *start)),
        });
        let mut stands: Vec<_> = versions.collect();
        let mut superseded = Vec::new();
        for (index, stood) in std::mem::take(&mut self.stands).into_iter().enumerate() {
            let known = CustomerVersion { record_from_time: now, ..stood.clone() };
            match stands.get_mut(index) {
                Some(stands) if *stands == known => *stands = stood,
                _ => superseded.push(CustomerVersion { record_to_time: now, ..stood }),
            }
        }
        self.stands.clone_from(&stands);
        let golden_id = format!("golden-{}", self.number);
        let neighbour = || format!("golden-{}", self.number - 1);
        let merged_into = if starts.is_empty() { neighbour() } else { String::new() };
        let customer = Customer { golden_id: golden_id.clone(), merged_into, ..Customer::default() };
        let payload = CustomerChanged { customer: Some(customer), history: stands, superseded };
        changed("omnimesh.customer.v1.CustomerChanged", format!("customers/{golden_id}"), &payload)
    }
}

fn profile(number: usize, start: i64) -> Customer {
    Customer {
        golden_id: format!("golden-{number}"),
        given_name: "Ada".to_owned(),
        email: format!("ada{number}.{start}@example.com"),
        address: (number % 2 == 0)
            .then(|| Address { street: format!("{start} Main St"), ..Address::default() }),
        loyalty_cards: vec![format!("card-{number}")],
        source_refs: source("shop", number).into_iter().collect(),
        provenance: [(
            "email".to_owned(),
            Provenance {
                source: source("shop", number),
                update_time: at(start),
                rule: "MOST_RECENT".to_owned(),
            },
        )]
        .into(),
        ..Customer::default()
    }
}

/// Stocks that are counted and then sold from; then it turns out that more was sold, or of every fifth nothing.
fn stocks(random: &mut ChaCha8Rng, expected: &mut Expected) -> Vec<NewEvent> {
    let mut events: [Vec<NewEvent>; 3] = Default::default();
    let (mut on_hand, mut quantity, mut rows) = (0, 0, 0);
    for number in 0..STOCKS {
        let (sku, location_id) = ((number / 2).to_string(), (number % 2).to_string());
        let (counted, sold) = (random.random_range(0..100), random.random_range(1..10));
        let is_void = number % 5 == 0;
        let corrected = if is_void { sold } else { -2 };
        let movement = |sequence: i64, kind: MovementKind, quantity| StockMovement {
            ledger_sequence: sequence,
            sku: sku.clone(),
            location_id: location_id.clone(),
            kind: kind.into(),
            quantity,
            event_time: at(if kind == MovementKind::Count { 1 } else { 2 }),
            record_time: at(sequence),
            source: source(kind.as_str_name(), number),
        };
        let ledger = [
            movement(1, MovementKind::Count, counted),
            movement(2, MovementKind::Sale, -sold),
            movement(3, MovementKind::Sale, corrected),
        ];
        for (step, at_hand) in [counted, counted - sold, counted - sold + corrected].into_iter().enumerate() {
            let entry = &ledger[step];
            let stock = Stock {
                sku: sku.clone(),
                location_id: location_id.clone(),
                on_hand: at_hand,
                last_count_time: at(1),
                ledger_sequence: entry.ledger_sequence,
                update_time: entry.event_time,
                ..Stock::default()
            };
            let subject = format!("locations/{location_id}/stocks/{sku}");
            let earlier = ledger[..step].iter().filter(|earlier| earlier.event_time == entry.event_time);
            let payload = StockChanged {
                stock: Some(stock),
                movements: vec![entry.clone()],
                corrected: earlier.cloned().collect(),
            };
            events[step].push(changed("omnimesh.inventory.v1.StockChanged", subject, &payload));
        }
        on_hand += counted - sold + corrected;
        quantity += counted - sold + corrected;
        rows += if is_void { 1 } else { 2 };
    }
    let stocks = STOCKS as i64;
    expected.insert("inventory_snapshots", BTreeMap::from([("", stocks), ("on_hand", on_hand)]));
    expected.insert("stock_ledger", BTreeMap::from([("", rows), ("quantity", quantity)]));
    events.into_iter().flatten().collect()
}
