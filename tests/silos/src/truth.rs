//! What really is one person or one order, and which rows are junk: kept for scoring, never read by the product.

use std::path::Path;

use serde::Serialize;

use crate::{
    Error, World,
    plan::{Link, Plan},
    shop,
    summary::Summary,
    text_file::{TextFile, Written, directory},
};

#[derive(Debug, Serialize)]
struct Record {
    system: &'static str,
    id: String,
}

#[derive(Serialize)]
struct HouseholdTruth {
    household_id: u32,
    records: Vec<Record>,
}

#[derive(Serialize)]
struct OrderTruth {
    basket_id: u64,
    household_id: u32,
    link: Option<Link>,
    records: Vec<Record>,
}

pub(crate) fn write(root: &Path, world: &World, mut silos: Vec<(&str, Written)>) -> Result<Summary, Error> {
    directory(root, "truth")?;
    silos.sort_by_key(|(name, _)| *name);
    let mut unaccounted = Written::default();

    let mut file = TextFile::new("truth/households.jsonl".to_owned());
    for household in households(world) {
        file.json(&household)?;
    }
    file.save(root, &mut unaccounted)?;

    let mut file = TextFile::new("truth/orders.jsonl".to_owned());
    for order in orders(world) {
        file.json(&order)?;
    }
    file.save(root, &mut unaccounted)?;

    let mut file = TextFile::new("truth/junk.jsonl".to_owned());
    for junk in silos.iter().flat_map(|(_, written)| &written.junk) {
        file.json(junk)?;
    }
    file.save(root, &mut unaccounted)?;

    let summary = summary(world, &silos);
    let mut file = TextFile::new("truth/totals.json".to_owned());
    file.json(&summary)?;
    file.save(root, &mut unaccounted)?;
    Ok(summary)
}

fn households(world: &World) -> Vec<HouseholdTruth> {
    let mut truths: Vec<HouseholdTruth> = world
        .households
        .iter()
        .map(|household| {
            let card = |card: &String| Record { system: "loyalty", id: card.clone() };
            let records = household.members.iter().map(|member| card(&member.card)).collect();
            HouseholdTruth { household_id: household.id, records }
        })
        .collect();
    for (household, customer) in shop::customers(world) {
        let id = world.households[household].customers[customer].id.clone();
        truths[household].records.push(Record { system: "shop", id });
    }
    let mut buys = vec![false; truths.len()];
    for order in &world.plan.marketplace {
        buys[world.dataset.baskets[order.basket].household] = true;
    }
    for ((truth, household), _) in
        truths.iter_mut().zip(&world.households).zip(buys).filter(|(_, buys)| *buys)
    {
        truth.records.push(Record { system: "marketplace", id: household.buyer.id.clone() });
    }
    truths
}

fn orders(world: &World) -> Vec<OrderTruth> {
    let mut truths: Vec<OrderTruth> = world
        .dataset
        .baskets
        .iter()
        .map(|basket| OrderTruth {
            basket_id: basket.id,
            household_id: world.households[basket.household].id,
            link: None,
            records: Vec::new(),
        })
        .collect();
    let Plan { shop, marketplace, tills } = &world.plan;
    for order in shop {
        truths[order.basket].link = order.twin.map(|twin| twin.link);
        truths[order.basket].records.push(Record { system: "shop", id: order.id() });
    }
    for order in marketplace {
        truths[order.basket].records.push(Record { system: "marketplace", id: order.order_no.clone() });
    }
    for receipt in tills {
        truths[receipt.basket].records.push(Record { system: "pos", id: receipt.id() });
    }
    truths
}

fn summary(world: &World, silos: &[(&str, Written)]) -> Summary {
    let baskets = &world.dataset.baskets;
    Summary {
        households: world.households.len() as u64,
        baskets: baskets.len() as u64,
        lines: baskets.iter().map(|basket| world.dataset.lines(basket).len() as u64).sum(),
        sales_minor: baskets.iter().map(|basket| i64::from(world.dataset.total(basket).0)).sum(),
        silos: silos.iter().map(|(name, written)| ((*name).to_owned(), written.tally)).collect(),
    }
}
