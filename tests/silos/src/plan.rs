//! Which system saw which basket, under which number, and what ties two records of one basket together.

use std::{collections::BTreeMap, fmt};

use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::{
    chance::dice,
    dataset::{Basket, Dataset},
    people::{Contact, Household},
};

#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) shop: Vec<ShopOrder>,
    pub(crate) marketplace: Vec<MarketplaceOrder>,
    /// By store and time.
    pub(crate) tills: Vec<Receipt>,
}

/// `basket` is an index into the dataset's baskets, here and below.
#[derive(Debug)]
pub(crate) struct ShopOrder {
    pub(crate) basket: usize,
    /// 1 for the first order of the year.
    pub(crate) number: usize,
    /// Index into the household's accounts.
    pub(crate) customer: usize,
    pub(crate) external_order_no: Option<String>,
    pub(crate) method: &'static str,
    pub(crate) psp_ref: Option<PspRef>,
    /// The second sighting, where there is one.
    pub(crate) twin: Option<Twin>,
}

impl ShopOrder {
    pub(crate) fn id(&self) -> String {
        format!("S-{}", 1_000_000 + self.number)
    }
}

#[derive(Debug)]
pub(crate) struct MarketplaceOrder {
    pub(crate) basket: usize,
    pub(crate) order_no: String,
    pub(crate) at: Timestamp,
    pub(crate) merchant_order_no: Option<String>,
    pub(crate) psp_ref: Option<PspRef>,
}

#[derive(Debug)]
pub(crate) struct Receipt {
    pub(crate) basket: usize,
    pub(crate) store: u32,
    pub(crate) at: Timestamp,
    pub(crate) till: u32,
    pub(crate) sequence: u32,
    /// Index into the household's members: whose card was shown.
    pub(crate) member: Option<usize>,
    pub(crate) payment: &'static str,
    pub(crate) auth_code: Option<u32>,
    pub(crate) psp_ref: Option<PspRef>,
    pub(crate) order_ref: Option<String>,
}

impl Receipt {
    /// Unique over all stores.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}-{:06}", self.store, self.till, self.sequence)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Twin {
    pub(crate) system: SecondSystem,
    pub(crate) link: Link,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecondSystem {
    Marketplace,
    Till,
}

/// How two records of one basket can be recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Link {
    /// One names the other's number.
    Reference,
    /// Both name the same payment.
    Payment,
    /// Linked persons, the same lines and total, within ten minutes.
    Content,
}

/// A payment at the payment service provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PspRef(u64);

impl fmt::Display for PspRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "psp_{:016x}", self.0)
    }
}

impl Plan {
    pub(crate) fn draw(seed: u64, dataset: &Dataset, households: &[Household]) -> Self {
        let mut plan = Self::default();
        let split = split_at_a_till(&dataset.baskets);
        for (index, basket) in dataset.baskets.iter().enumerate() {
            let mut dice = dice(seed, "sighting", basket.id);
            let household = &households[basket.household];
            match dice.random_range(0..100) {
                _ if split[index] => plan.ring_up(index, basket, household, &mut dice),
                0..23 => plan.order_at_shop(index, basket, household, &mut dice),
                23..37 => {
                    let psp_ref = Some(PspRef(dice.random()));
                    plan.order_at_marketplace(index, basket.at, psp_ref, None, &mut dice);
                }
                _ => plan.ring_up(index, basket, household, &mut dice),
            }
        }
        plan.tills.sort_by_key(|receipt| (receipt.store, receipt.at, receipt.basket));
        number_receipts(&mut plan.tills);
        plan
    }

    /// How many records are to be written, for the progress.
    pub(crate) fn sightings(&self) -> u64 {
        // A shop order is written by the shop and by the clickstream.
        (2 * self.shop.len() + self.marketplace.len() + self.tills.len()) as u64
    }

    fn order_at_shop(&mut self, index: usize, basket: &Basket, household: &Household, dice: &mut ChaCha8Rng) {
        let customer = household.customer_at(basket.at);
        let twin = twin(household, &household.customers[customer].contact, dice);
        let mut order = ShopOrder {
            basket: index,
            number: self.shop.len() + 1,
            customer,
            external_order_no: None,
            method: ["card", "card", "wallet", "paypal"][dice.random_range(0..4)],
            psp_ref: Some(PspRef(dice.random())),
            twin,
        };
        match twin {
            Some(Twin { system: SecondSystem::Marketplace, link }) => {
                self.sell_through_marketplace(&mut order, link, basket.at, dice);
            }
            Some(Twin { system: SecondSystem::Till, link }) => {
                self.hand_over(&order, link, basket, household, dice);
            }
            None => {}
        }
        self.shop.push(order);
    }

    /// The marketplace took the order, minutes before the shop had it.
    fn sell_through_marketplace(
        &mut self,
        order: &mut ShopOrder,
        link: Link,
        at: Timestamp,
        dice: &mut ChaCha8Rng,
    ) {
        let psp_ref = PspRef(dice.random());
        order.method = "marketplace";
        order.psp_ref = (link == Link::Payment).then_some(psp_ref);
        let names_order = link == Link::Reference && dice.random_bool(0.5);
        let merchant_order_no = names_order.then(|| order.id());
        let taken_at = at - SignedDuration::from_secs(dice.random_range(0..570));
        let order_no =
            self.order_at_marketplace(order.basket, taken_at, Some(psp_ref), merchant_order_no, dice);
        order.external_order_no = (link == Link::Reference).then_some(order_no);
    }

    fn order_at_marketplace(
        &mut self,
        basket: usize,
        at: Timestamp,
        psp_ref: Option<PspRef>,
        merchant_order_no: Option<String>,
        dice: &mut ChaCha8Rng,
    ) -> String {
        let (high, low) = (dice.random_range(0..10_000_000), dice.random_range(0..10_000_000));
        let order_no = format!("114-{high:07}-{low:07}");
        self.marketplace.push(MarketplaceOrder {
            basket,
            order_no: order_no.clone(),
            at,
            merchant_order_no,
            psp_ref,
        });
        order_no
    }

    /// The customer collects at the till what is paid already.
    fn hand_over(
        &mut self,
        order: &ShopOrder,
        link: Link,
        basket: &Basket,
        household: &Household,
        dice: &mut ChaCha8Rng,
    ) {
        let minutes = match link {
            Link::Reference => dice.random_range(60..48 * 60),
            Link::Payment => dice.random_range(15..240),
            Link::Content => dice.random_range(0..10),
        };
        let member = match link {
            Link::Content => Some(0),
            _ => shown_card(household, dice),
        };
        self.tills.push(Receipt {
            basket: order.basket,
            store: basket.store,
            at: basket.at + SignedDuration::from_mins(minutes),
            till: 1,
            sequence: 0,
            member,
            payment: "prepaid",
            auth_code: None,
            psp_ref: order.psp_ref.filter(|_| link == Link::Payment),
            order_ref: (link == Link::Reference).then(|| order.id()),
        });
    }

    fn ring_up(&mut self, index: usize, basket: &Basket, household: &Household, dice: &mut ChaCha8Rng) {
        let by_card = dice.random_bool(0.65);
        self.tills.push(Receipt {
            basket: index,
            store: basket.store,
            at: basket.at,
            till: dice.random_range(1..=6),
            sequence: 0,
            member: shown_card(household, dice),
            payment: if by_card { "card" } else { "cash" },
            auth_code: by_card.then(|| dice.random_range(100_000..1_000_000)),
            psp_ref: by_card.then(|| PspRef(dice.random())),
            order_ref: None,
        });
    }
}

/// Baskets of a household within minutes of one another, index by index: who splits a purchase does it at a till.
/// Some of these are equal line by line, so that content alone could not tell them from two records of one.
fn split_at_a_till(baskets: &[Basket]) -> Vec<bool> {
    let mut split = vec![false; baskets.len()];
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, basket) in baskets.iter().enumerate() {
        let Some(previous) = last.insert(basket.household, index) else { continue };
        if basket.at.duration_since(baskets[previous].at) <= SignedDuration::from_mins(20) {
            split[previous] = true;
            split[index] = true;
        }
    }
    split
}

/// A quarter of the shop's orders has a second record. Content is a link only where the persons can be linked.
fn twin(household: &Household, customer: &Contact, dice: &mut ChaCha8Rng) -> Option<Twin> {
    let system = match dice.random_range(0..8) {
        0 => SecondSystem::Marketplace,
        1 => SecondSystem::Till,
        _ => return None,
    };
    let person = match system {
        SecondSystem::Marketplace => Some(&household.buyer.contact),
        SecondSystem::Till => household.members.first().map(|member| &member.contact),
    };
    let linked = person.is_some_and(|person| person.shares_key_with(customer));
    let link = match dice.random_range(0..10) {
        0..5 => Link::Reference,
        5..8 => Link::Payment,
        _ if linked => Link::Content,
        _ => Link::Reference,
    };
    Some(Twin { system, link })
}

fn shown_card(household: &Household, dice: &mut ChaCha8Rng) -> Option<usize> {
    let shown = dice.random_bool(0.92);
    (shown && !household.members.is_empty()).then(|| dice.random_range(0..household.members.len()))
}

/// Each till of a store counts by itself.
fn number_receipts(receipts: &mut [Receipt]) {
    let mut sequences: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for receipt in receipts {
        let sequence = sequences.entry((receipt.store, receipt.till)).or_default();
        *sequence += 1;
        receipt.sequence = *sequence;
    }
}
