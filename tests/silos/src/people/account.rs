//! What the systems know of a person, as their clerks and forms wrote it.

use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Address, GivenName, Person};
use crate::{clerk, when::YEAR_START};

/// A customer of the shop.
#[derive(Debug)]
pub(crate) struct Customer {
    pub(crate) id: String,
    pub(crate) given: String,
    pub(crate) family: String,
    pub(crate) contact: Contact,
    pub(crate) address: Option<Address>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A buyer at the marketplace.
#[derive(Debug)]
pub(crate) struct Buyer {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) contact: Contact,
    address: Option<Address>,
    moved: Option<(Timestamp, Address)>,
}

impl Buyer {
    pub(crate) fn address_at(&self, at: Timestamp) -> Option<&Address> {
        match &self.moved {
            Some((moved_at, address)) if *moved_at <= at => Some(address),
            _ => self.address.as_ref(),
        }
    }
}

/// A member of the loyalty programme.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) card: String,
    pub(crate) name: String,
    pub(crate) contact: Contact,
    pub(crate) address: Option<Address>,
    pub(crate) enrolled_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// By what an account can be recognised in another system.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    pub(crate) email: Option<String>,
    pub(crate) phone: Option<String>,
    pub(crate) card: Option<String>,
}

impl Contact {
    pub(crate) fn shares_key_with(&self, other: &Self) -> bool {
        self.keys().any(|key| other.keys().any(|theirs| theirs == key))
    }

    /// Their kinds cannot be mistaken for one another: a mailbox has an `@`, a phone 10 digits, a card 12.
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> {
        let email = self.email.as_ref().map(|email| email.trim().to_lowercase());
        let phone = self.phone.as_ref().map(|phone| {
            let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
            digits[digits.len().saturating_sub(10)..].to_owned()
        });
        [email, phone, self.card.clone()].into_iter().flatten()
    }
}

/// Which of the two e-mails and phones this system was given.
fn usual_or_other(dice: &mut ChaCha8Rng) -> usize {
    usize::from(dice.random_bool(0.09))
}

fn some_years_ago(dice: &mut ChaCha8Rng) -> Timestamp {
    YEAR_START - SignedDuration::from_secs(dice.random_range(30 * 86_400..900 * 86_400))
}

fn called(given: &GivenName, dice: &mut ChaCha8Rng) -> String {
    match dice.random_range(0..100) {
        0..14 => given.1.clone(),
        14..20 => clerk::misspell(&given.0, dice),
        _ => given.0.clone(),
    }
}

fn surname(family: &str, dice: &mut ChaCha8Rng) -> String {
    if dice.random_bool(0.06) { clerk::misspell(family, dice) } else { family.to_owned() }
}

/// The address on file and when it was last touched: half of those who move tell nobody.
fn address_on_file(
    person: &Person<'_>,
    opened: Timestamp,
    dice: &mut ChaCha8Rng,
) -> (Option<Address>, Timestamp) {
    let told = person.moved.as_ref().map(|moved| moved.at).filter(|at| *at > opened && dice.random_bool(0.5));
    let touched =
        told.map_or(opened, |at| at + SignedDuration::from_secs(dice.random_range(3_600..20 * 86_400)));
    let address = person.home_at(touched);
    let written = Address { street: clerk::street(&address.street, dice), ..address.clone() };
    (dice.random_bool(0.93).then_some(written), touched)
}

/// The shop's account, and for one in twenty a second one, opened under another e-mail during the year.
pub(super) fn customers(
    person: &Person<'_>,
    codes: [u32; 2],
    member: Option<&Member>,
    dice: &mut ChaCha8Rng,
) -> Vec<Customer> {
    let mut customers = vec![customer(person, codes[0], member, some_years_ago(dice), dice)];
    if dice.random_bool(0.05) {
        let opened = YEAR_START + SignedDuration::from_secs(dice.random_range(120 * 86_400..240 * 86_400));
        let second = customer(person, codes[1], None, opened, dice);
        let email = Some(clerk::email(&person.emails[1], dice));
        let phone = Some(clerk::phone(&person.phones[0], dice));
        customers.push(Customer { contact: Contact { email, phone, card: None }, ..second });
    }
    customers
}

fn customer(
    person: &Person<'_>,
    code: u32,
    member: Option<&Member>,
    created_at: Timestamp,
    dice: &mut ChaCha8Rng,
) -> Customer {
    let which = usual_or_other(dice);
    let contact = Contact {
        email: Some(clerk::email(&person.emails[which], dice)),
        phone: dice.random_bool(0.8).then(|| clerk::phone(&person.phones[which], dice)),
        card: member.map(|member| member.card.clone()).filter(|_| which == 0 && dice.random_bool(0.45)),
    };
    let (mut given, mut family) = (called(person.given, dice), surname(person.family, dice));
    if dice.random_bool(0.06) {
        (given, family) = (given.to_lowercase(), family.to_lowercase());
    }
    let (address, updated_at) = address_on_file(person, created_at, dice);
    Customer { id: format!("C-1{code:05}"), given, family, contact, address, created_at, updated_at }
}

pub(super) fn buyer(person: &Person<'_>, dice: &mut ChaCha8Rng) -> Buyer {
    const DIGITS: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
    let id: String = (0..9).map(|_| char::from(DIGITS[dice.random_range(0..DIGITS.len())])).collect();
    let which = usual_or_other(dice);
    let ships = dice.random_bool(0.9);
    let known_moves = person.moved.as_ref().filter(|_| ships && dice.random_bool(0.7));
    Buyer {
        id: format!("B{id}"),
        name: format!("{} {}", called(person.given, dice), surname(person.family, dice)),
        contact: Contact {
            email: Some(clerk::email(&person.emails[which], dice)),
            phone: dice.random_bool(0.5).then(|| clerk::phone(&person.phones[which], dice)),
            card: None,
        },
        address: ships.then(|| person.home_at(YEAR_START).clone()),
        moved: known_moves.map(|moved| (moved.at, person.home.clone())),
    }
}

/// A card, and for one household in ten another for the spouse, who leaves the household's phone.
pub(super) fn members(person: &Person<'_>, codes: [u32; 2], dice: &mut ChaCha8Rng) -> Vec<Member> {
    let which = usual_or_other(dice);
    let phone = dice.random_bool(0.85);
    let email = !phone || dice.random_bool(0.65);
    let contact = Contact {
        email: email.then(|| clerk::email(&person.emails[which], dice)),
        phone: phone.then(|| clerk::phone(&person.phones[which], dice)),
        card: None,
    };
    let mut members = vec![member(person, person.given, codes[0], contact, dice)];
    if dice.random_bool(0.1) {
        let contact =
            Contact { phone: Some(clerk::phone(&person.phones[which], dice)), ..Contact::default() };
        members.push(member(person, person.spouse, codes[1], contact, dice));
    }
    members
}

fn member(
    person: &Person<'_>,
    given: &GivenName,
    code: u32,
    contact: Contact,
    dice: &mut ChaCha8Rng,
) -> Member {
    let card = format!("6012{:04}{code:04}", dice.random_range(0..10_000));
    let enrolled_at = some_years_ago(dice);
    let (given, family) = (called(given, dice), surname(person.family, dice));
    let (address, updated_at) = address_on_file(person, enrolled_at, dice);
    Member {
        name: clerk::filed_name(&given, &family, dice),
        contact: Contact { card: Some(card.clone()), ..contact },
        card,
        address,
        enrolled_at,
        updated_at,
    }
}
