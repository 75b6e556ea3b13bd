//! The households' people, who do not exist, and the account that each system keeps of them.
//!
//! A household's e-mails, phones and cards are its own alone.

mod account;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

pub(crate) use self::account::{Buyer, Contact, Customer, Member};
use crate::{Error, chance::dice, dataset::Dataset, when::YEAR_START};

#[derive(Debug)]
pub(crate) struct Household {
    pub(crate) id: u32,
    /// At the shop. Who has a second one opened it when the password of the first was forgotten.
    pub(crate) customers: Vec<Customer>,
    /// At the marketplace.
    pub(crate) buyer: Buyer,
    /// Of the loyalty programme, a card each.
    pub(crate) members: Vec<Member>,
}

impl Household {
    /// The account in use at that time, as an index into `customers`.
    pub(crate) fn customer_at(&self, at: Timestamp) -> usize {
        self.customers.iter().rposition(|customer| customer.created_at <= at).unwrap_or(0)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) street: String,
    pub(crate) city: String,
    pub(crate) postcode: String,
}

/// As it is, whatever the systems say.
struct Person<'a> {
    given: &'a GivenName,
    family: &'a str,
    spouse: &'a GivenName,
    /// The usual one, and one that is used where nobody should know.
    emails: [String; 2],
    phones: [String; 2],
    home: Address,
    moved: Option<Move>,
}

struct Move {
    from: Address,
    at: Timestamp,
}

/// In full and for short.
type GivenName = (String, String);

#[derive(Deserialize)]
struct Names {
    given: Vec<GivenName>,
    family: Vec<String>,
    streets: Vec<String>,
    /// Name, postcode, area code.
    cities: Vec<[String; 3]>,
}

/// Gives every household its people and accounts, in the order of `dataset.households`.
pub(crate) fn settle(seed: u64, dataset: &Dataset) -> Result<Vec<Household>, Error> {
    let names: Names = serde_json::from_str(include_str!("../data/people.json"))?;
    let enrolled = enrolled(dataset);
    let settle = |(&id, codes): (&u32, Codes)| {
        let mut dice = dice(seed, "person", id.into());
        let person = Person::invent(&names, &codes, &mut dice);
        // Loyalty data without a card would be no one's. Of all households, about 85 % have a card.
        let has_card = enrolled.contains(&id) || dice.random_bool(0.57);
        let members = if has_card { account::members(&person, codes.cards, &mut dice) } else { Vec::new() };
        let customers = account::customers(&person, codes.customers, members.first(), &mut dice);
        let buyer = account::buyer(&person, &mut dice);
        Household { id, customers, buyer, members }
    };
    Ok(dataset.households.iter().zip(Codes::draw(seed)).map(settle).collect())
}

/// The four digits that make a household's keys its own, drawn apart so that one key tells nothing of another.
struct Codes {
    mailboxes: [u32; 2],
    phones: [u32; 2],
    cards: [u32; 2],
    customers: [u32; 2],
}

impl Codes {
    /// For each household in turn; there are enough for 5,000.
    fn draw(seed: u64) -> impl Iterator<Item = Self> {
        let pairs = |purpose: &str| {
            let mut codes: Vec<u32> = (0..10_000).collect();
            codes.shuffle(&mut dice(seed, purpose, 0));
            (0..5_000).map(move |pair| [codes[2 * pair], codes[2 * pair + 1]])
        };
        let keys = pairs("mailboxes").zip(pairs("phones"));
        keys.zip(pairs("cards").zip(pairs("customers")))
            .map(|((mailboxes, phones), (cards, customers))| Self { mailboxes, phones, cards, customers })
    }
}

/// Households of which the dataset has loyalty data.
fn enrolled(dataset: &Dataset) -> BTreeSet<u32> {
    let surveyed = dataset.demographics.iter().map(|row| row.household);
    let targeted = dataset.targets.iter().map(|(_, household)| *household);
    let redeemed = dataset.redemptions.iter().map(|row| row.household);
    surveyed.chain(targeted).chain(redeemed).collect()
}

impl<'a> Person<'a> {
    fn invent(names: &'a Names, codes: &Codes, dice: &mut ChaCha8Rng) -> Self {
        let given = pick(&names.given, dice);
        let family = pick(&names.family, dice);
        let mailbox = |given: &str, code: u32, domain: &str| {
            let family = family.replace('\'', "");
            format!("{given}.{family}{code:04}@{domain}").to_lowercase()
        };
        let [_, _, area] = pick(&names.cities, dice);
        let moved = dice.random_bool(0.12).then(|| Move {
            from: Address::invent(names, dice),
            at: YEAR_START + SignedDuration::from_hours(24 * dice.random_range(30..330)),
        });
        Self {
            given,
            family,
            spouse: pick(&names.given, dice),
            emails: [
                mailbox(&given.0, codes.mailboxes[0], "example.com"),
                mailbox(&given.0[..1], codes.mailboxes[1], "example.org"),
            ],
            phones: codes.phones.map(|code| format!("{area}555{code:04}")),
            home: Address::invent(names, dice),
            moved,
        }
    }

    fn home_at(&self, at: Timestamp) -> &Address {
        match &self.moved {
            Some(moved) if at < moved.at => &moved.from,
            _ => &self.home,
        }
    }
}

impl Address {
    fn invent(names: &Names, dice: &mut ChaCha8Rng) -> Self {
        let [city, postcode, _] = pick(&names.cities, dice).clone();
        let street = format!("{} {}", dice.random_range(1..2_400), pick(&names.streets, dice));
        Self { street, city, postcode }
    }
}

/// `list` is one of the lists in `data/people.json`, none of which is empty.
fn pick<'a, T>(list: &'a [T], dice: &mut ChaCha8Rng) -> &'a T {
    &list[dice.random_range(0..list.len())]
}
