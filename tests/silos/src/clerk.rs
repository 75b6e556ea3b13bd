//! How people and clerks write down what is one and the same.

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// Two neighbouring letters swapped, or one lost; the first letter is always right.
pub(crate) fn misspell(name: &str, dice: &mut ChaCha8Rng) -> String {
    let mut letters: Vec<char> = name.chars().collect();
    if letters.len() > 3 {
        let at = dice.random_range(1..letters.len() - 1);
        if dice.random_bool(0.5) {
            letters.swap(at, at + 1);
        } else {
            letters.remove(at);
        }
    }
    letters.into_iter().collect()
}

/// Ten digits in one of the formats found in address books.
pub(crate) fn phone(digits: &str, dice: &mut ChaCha8Rng) -> String {
    let (area, exchange, number) = (&digits[..3], &digits[3..6], &digits[6..]);
    match dice.random_range(0..6) {
        0 => format!("({area}) {exchange}-{number}"),
        1 => format!("{area}-{exchange}-{number}"),
        2 => format!("{area}.{exchange}.{number}"),
        3 => format!("+1 {area} {exchange} {number}"),
        4 => format!("1-{area}-{exchange}-{number}"),
        _ => digits.to_owned(),
    }
}

/// The same mailbox, perhaps in capitals or with a blank.
pub(crate) fn email(mailbox: &str, dice: &mut ChaCha8Rng) -> String {
    match dice.random_range(0..20) {
        0 => mailbox.to_uppercase(),
        1 => mailbox[..1].to_uppercase() + &mailbox[1..],
        2 => format!("{mailbox} "),
        _ => mailbox.to_owned(),
    }
}

/// The street with its kind spelled out now and then.
pub(crate) fn street(street: &str, dice: &mut ChaCha8Rng) -> String {
    const LONG: [(&str, &str); 4] =
        [(" St", " Street"), (" Ave", " Avenue"), (" Rd", " Road"), (" Ln", " Lane")];
    let spelled_out =
        LONG.iter().find_map(|(short, long)| Some(street.strip_suffix(short)?.to_owned() + long));
    match spelled_out {
        Some(spelled_out) if dice.random_bool(0.25) => spelled_out,
        _ => street.to_owned(),
    }
}

/// `Maria Lopez`, as the forms of most systems want it, or as a clerk at a desk files it.
pub(crate) fn filed_name(given: &str, family: &str, dice: &mut ChaCha8Rng) -> String {
    let styles: [fn(&str, &str) -> String; 4] = [
        |given, family| format!("{given} {family}"),
        |given, family| format!("{given} {family}"),
        |given, family| format!("{}, {}", family.to_uppercase(), given.to_uppercase()),
        |given, family| format!("{family}, {given}"),
    ];
    styles.choose(dice).map_or_else(String::new, |style| style(given, family))
}
