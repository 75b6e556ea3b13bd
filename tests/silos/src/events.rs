//! The clickstream: what a visitor did before each order of the shop, a file per topic and day.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, civil::Date};
use rand::{Rng, seq::index::sample};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use uuid::Builder;

use crate::{
    Error, Site, World,
    chance::dice,
    dataset::Line,
    plan::ShopOrder,
    text_file::{TextFile, Written, directory},
    when,
};

#[derive(Serialize)]
struct Event<'a> {
    event_id: String,
    occurred_at: String,
    session_id: &'a str,
    device_id: &'a str,
    customer_id: Option<&'a str>,
    #[serde(flatten)]
    action: &'a Action,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Action {
    View { product_id: String },
    Search { query: String, results: u32 },
    Basket { product_id: String, quantity: i32 },
    Purchase { order_id: String, total_minor: i32, currency: &'static str, lines: usize },
}

impl Action {
    fn topic(&self) -> &'static str {
        match self {
            Self::View { .. } => "views",
            Self::Search { .. } => "searches",
            Self::Basket { .. } => "baskets",
            Self::Purchase { .. } => "purchases",
        }
    }
}

type Files = BTreeMap<(Date, &'static str), TextFile>;

pub(crate) fn write(site: &Site) -> Result<Written, Error> {
    for topic in ["views", "searches", "baskets", "purchases"] {
        directory(&site.root, &format!("events/{topic}"))?;
    }
    let world = &site.world;
    let mut written = Written::default();
    let mut open = Files::new();
    for orders in world.plan.shop.chunks(1_000) {
        for order in orders {
            written.tally.records += visit(world, order, &mut open)?;
        }
        // Orders come by time and a visit lasts less than a day: no more events can come for days before yesterday.
        let last = orders.last().map_or(when::YEAR_START, |order| world.dataset.baskets[order.basket].at);
        let yesterday = when::day(last - SignedDuration::from_hours(24));
        let still_open = open.split_off(&(yesterday, ""));
        save(site, std::mem::replace(&mut open, still_open), &mut written)?;
        site.advance(orders.len() as u64);
    }
    save(site, open, &mut written)?;
    Ok(written)
}

fn save(site: &Site, files: Files, written: &mut Written) -> Result<(), Error> {
    for ((date, topic), mut file) in files {
        if topic == "searches" && date.day() == 13 {
            file.cut_off(r#"{"event_id":"00000000-0000-4000-8000-00000000000d","occurred_at":"#);
        }
        file.save(&site.root, written)?;
    }
    Ok(())
}

/// Writes the events of the visit that ended in `order`, and returns their number.
fn visit(world: &World, order: &ShopOrder, open: &mut Files) -> Result<u64, Error> {
    let basket = &world.dataset.baskets[order.basket];
    let household = &world.households[basket.household];
    let mut dice = dice(world.seed, "visit", basket.id);
    let actions = actions(world, order, &mut dice);
    let session = format!("s-{:016x}", dice.random::<u64>());
    let device = device(world, household.id, &mut dice);
    let login = if dice.random_bool(0.3) { 0 } else { dice.random_range(1..actions.len()) };
    let pause = dice.random_range(20_000..150_000) as i64;
    for (index, action) in actions.iter().enumerate() {
        let before = pause * (actions.len() - 1 - index) as i64;
        let jitter = if before == 0 { 0 } else { dice.random_range(0..pause) };
        let occurred_at = basket.at - SignedDuration::from_millis(before - jitter);
        let event = Event {
            event_id: Builder::from_random_bytes(dice.random()).into_uuid().to_string(),
            occurred_at: format!("{occurred_at:.3}"),
            session_id: &session,
            device_id: &device,
            customer_id: (index >= login).then_some(household.customers[order.customer].id.as_str()),
            action,
        };
        let (date, topic) = (when::day(occurred_at), action.topic());
        let file = open
            .entry((date, topic))
            .or_insert_with(|| TextFile::new(format!("events/{topic}/{date}.jsonl")));
        file.json(&event)?;
        add_junk(file, occurred_at, &mut dice);
    }
    Ok(actions.len() as u64)
}

/// A household has two devices.
fn device(world: &World, household: u32, dice: &mut ChaCha8Rng) -> String {
    let which = u64::from(dice.random_bool(0.3));
    let mut devices = crate::chance::dice(world.seed, "device", u64::from(household) * 2 + which);
    format!("d-{:012x}", devices.random::<u64>() >> 16)
}

/// Searches, looks around, puts into the basket, and buys: 8 to 12 actions.
fn actions(world: &World, order: &ShopOrder, dice: &mut ChaCha8Rng) -> Vec<Action> {
    let dataset = &world.dataset;
    let basket = &dataset.baskets[order.basket];
    let lines = dataset.lines(basket);
    let chosen: Vec<&Line> =
        sample(dice, lines.len(), lines.len().min(3)).iter().map(|index| &lines[index]).collect();
    let searches = dice.random_range(1..=2);
    let looks = dice.random_range(8..=12_usize).saturating_sub(searches + 2 * chosen.len() + 1);

    let mut actions = Vec::with_capacity(12);
    for line in chosen.iter().cycle().take(searches) {
        let kind = dataset.product(line.product).and_then(|product| product.texts[3].as_deref());
        let query = kind.unwrap_or("weekly deals").to_lowercase();
        actions.push(Action::Search { query, results: dice.random_range(1..240) });
    }
    for _ in 0..looks {
        let product = dataset.products[dice.random_range(0..dataset.products.len())].id;
        actions.push(Action::View { product_id: product.to_string() });
    }
    for line in chosen {
        let product_id = line.product.to_string();
        actions.push(Action::View { product_id: product_id.clone() });
        actions.push(Action::Basket { product_id, quantity: line.quantity });
    }
    actions.push(Action::Purchase {
        order_id: order.id(),
        total_minor: dataset.total(basket).0,
        currency: "USD",
        lines: lines.len(),
    });
    actions
}

fn add_junk(file: &mut TextFile, at: Timestamp, dice: &mut ChaCha8Rng) {
    if !dice.random_ratio(1, 2_000) {
        return;
    }
    let id = Builder::from_random_bytes(dice.random()).into_uuid();
    if dice.random_bool(0.5) {
        file.junk("invalid_json", &format!(r#"{{"event_id":"{id}","occurred_at":"{at}","session_id":s-0}}"#));
    } else {
        file.junk("missing_columns", &format!(r#"{{"event_id":"{id}","session_id":"s-0"}}"#));
    }
}
