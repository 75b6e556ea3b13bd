//! What a field is about, as its name says: the same number may be a customer, a product and a quantity.

/// What the values of a field stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum About {
    /// Persons, by the ids that one system has given them.
    Person,
    /// Persons, by what is theirs whichever system says so, such as a loyalty card.
    Belonging,
    /// Anything else.
    #[default]
    Other,
}

/// Words for persons and what stands for them, and for what is theirs, in the singular.
const PERSONS: [&str; 25] = [
    "account",
    "acct",
    "addressee",
    "buyer",
    "cardholder",
    "client",
    "consumer",
    "cust",
    "customer",
    "guest",
    "holder",
    "household",
    "login",
    "member",
    "owner",
    "patron",
    "payer",
    "person",
    "profile",
    "purchaser",
    "receiver",
    "recipient",
    "shopper",
    "subscriber",
    "user",
];
const BELONGINGS: [&str; 12] = [
    "card",
    "cell",
    "contact",
    "device",
    "fax",
    "golden",
    "loyalty",
    "mobile",
    "phone",
    "tel",
    "telephone",
    "visitor",
];
/// Words that leave open what it is that they number.
const LABELS: [&str; 11] =
    ["code", "id", "identifier", "key", "no", "nr", "num", "number", "ref", "reference", "uid"];

impl About {
    /// What a field of this name is about; `parent` is what the record is about that it is in, `persons` are more words
    /// for persons.
    ///
    /// The last word tells that is more than a label: `customer_id` is a customer, `customer_group_id` is not.
    fn of(name: &str, parent: Self, persons: &[String]) -> Self {
        let words = words(name);
        let Some(word) = words.iter().rfind(|word| !LABELS.contains(&word.as_str())) else { return parent };
        let is =
            |is_known: &dyn Fn(&str) -> bool| is_known(word) || word.strip_suffix("id").is_some_and(is_known);
        if is(&|word| PERSONS.contains(&word) || persons.iter().any(|person| person == word)) {
            Self::Person
        } else if is(&|word| BELONGINGS.contains(&word)) {
            Self::Belonging
        } else {
            Self::Other
        }
    }
}

/// The words of a name, in lower case and in the singular.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in name.chars() {
        let begins = letter.is_uppercase() && was_lower;
        was_lower = letter.is_lowercase();
        if begins || !letter.is_alphanumeric() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
    }
    let words = words.into_iter().filter(|word| !word.is_empty());
    words.map(|word| word.strip_suffix('s').map_or(word.clone(), str::to_owned)).collect()
}

/// A field of a record, by what matters here.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Field<'a> {
    pub(super) about: About,
    /// The system that the record comes from; empty if it is not told.
    pub(super) system: &'a str,
    /// Words for persons, beside those that are always known.
    pub(super) persons: &'a [String],
}

impl Field<'_> {
    /// The field of this name in what this field holds.
    pub(super) fn inside(self, name: &str) -> Self {
        Self { about: About::of(name, self.about, self.persons), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whether_it_is_about_a_person() {
        use About::{Belonging, Other, Person};
        for (name, parent, about) in [
            ("customer_id", Other, Person),
            ("customerId", Other, Person),
            ("CUSTOMER_ID", Other, Person),
            ("customerid", Other, Person),
            ("buyers", Other, Person),
            ("account_id", Other, Person),
            ("acct_no", Other, Person),
            ("addressee", Other, Person),
            ("cardholder_id", Other, Person),
            ("account_holder", Other, Person),
            ("loginId", Other, Person),
            ("owner", Other, Person),
            ("payer_id", Other, Person),
            ("profileId", Other, Person),
            ("purchaser", Other, Person),
            ("receiver_ref", Other, Person),
            ("recipients", Other, Person),
            ("subscriber_key", Other, Person),
            ("account_manager_id", Other, Other),
            ("profile_version", Other, Other),
            ("id", Person, Person),
            ("_id", Person, Person),
            ("id", Other, Other),
            ("number", Belonging, Belonging),
            ("loyalty_cards", Other, Belonging),
            ("card_number", Other, Belonging),
            ("phone", Other, Belonging),
            ("golden_id", Other, Belonging),
            ("customer_group_id", Other, Other),
            ("customer_order_no", Other, Other),
            ("order_id", Person, Other),
            ("quantity", Person, Other),
            ("source_refs", Other, Other),
        ] {
            assert_eq!(About::of(name, parent, &[]), about, "{name}");
        }
    }

    #[test]
    fn other_languages_have_other_words() {
        let persons = words("Kunden Socios");
        for (name, about) in [
            ("kunden_nr", About::Person),
            ("KundenID", About::Person),
            ("socio", About::Person),
            ("kundengruppe", About::Other),
        ] {
            assert_eq!(About::of(name, About::Other, &persons), about, "{name}");
        }
    }
}
