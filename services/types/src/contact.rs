//! How people are reached: e-mail addresses, phone numbers, loyalty cards and postal addresses, in the one form in
//! which they compare.

use omnimesh_proto::r#type::v1 as pb;
use serde::{Deserialize, Serialize};

/// Country code of a phone number that names none: the North American plan's.
const DEFAULT_COUNTRY: &str = "1";

/// Shortest and longest E.164 number, country code included.
const E164_DIGITS: std::ops::RangeInclusive<usize> = 8..=15;

/// An e-mail address in lower case; none if the text cannot be one.
pub fn email(text: &str) -> Option<String> {
    let address = text.trim().to_lowercase();
    let (mailbox, domain) = address.split_once('@')?;
    let labels = domain.split('.').count();
    let whole = !mailbox.is_empty() && labels > 1 && domain.split('.').all(|label| !label.is_empty());
    let clean = !domain.contains('@') && !address.chars().any(|c| c.is_whitespace() || c.is_control());
    (whole && clean).then_some(address)
}

/// A phone number in E.164; none if the text cannot be one, or is too short to be one person's.
pub fn phone(text: &str) -> Option<String> {
    let number = text.trim();
    // What follows is the extension: another desk of the same number.
    let number = number.split(['x', 'X', '#', ';']).next().unwrap_or_default();
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let international = if number.starts_with('+') {
        digits
    } else if let Some(digits) = digits.strip_prefix("00") {
        digits.to_owned()
    } else if digits.len() == 10 {
        format!("{DEFAULT_COUNTRY}{digits}")
    } else if digits.len() == 11 && digits.starts_with(DEFAULT_COUNTRY) {
        digits
    } else {
        return None;
    };
    let real = E164_DIGITS.contains(&international.len()) && !international.starts_with('0');
    real.then(|| format!("+{international}"))
}

/// A loyalty card's number without the blanks and dashes that make it readable; none if nothing is left.
pub fn loyalty_card(text: &str) -> Option<String> {
    let number: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
    (!number.is_empty()).then(|| number.to_uppercase())
}

/// A postal address as far as it is known; what is not is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Street and house number.
    pub street: String,
    /// City.
    pub city: String,
    /// Postal code.
    pub postcode: String,
    /// ISO 3166-1 alpha-2 country code.
    pub country_code: String,
}

impl Address {
    /// True if nothing of it is known.
    pub fn is_empty(&self) -> bool {
        [&self.street, &self.city, &self.postcode, &self.country_code].iter().all(|part| part.is_empty())
    }

    /// The address as the contract carries it: unset when nothing of it is known.
    pub fn into_message(self) -> Option<pb::Address> {
        let Self { street, city, postcode, country_code } = self;
        let message = pb::Address { street, city, postcode, country_code };
        (message != pb::Address::default()).then_some(message)
    }
}

impl From<Option<pb::Address>> for Address {
    fn from(message: Option<pb::Address>) -> Self {
        let pb::Address { street, city, postcode, country_code } = message.unwrap_or_default();
        Self { street, city, postcode, country_code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_email_are_one() {
        for (text, expect) in [
            ("maria.lopez@mail.example", Some("maria.lopez@mail.example")),
            (" Maria.LOPEZ@Mail.example ", Some("maria.lopez@mail.example")),
            ("", None),
            ("maria", None),
            ("maria@mail", None),
            ("@mail.example", None),
            ("maria@.example", None),
            ("maria@mail.example.", None),
            ("maria@lopez@mail.example", None),
            ("maria lopez@mail.example", None),
        ] {
            assert_eq!(email(text).as_deref(), expect, "{text:?}");
        }
    }

    #[test]
    fn spellings_of_one_phone_are_one() {
        for (text, expect) in [
            ("(513) 555-0142", Some("+15135550142")),
            ("513-555-0142", Some("+15135550142")),
            ("513.555.0142 x12", Some("+15135550142")),
            ("+1 513 555 0142", Some("+15135550142")),
            ("1-513-555-0142", Some("+15135550142")),
            ("5135550142", Some("+15135550142")),
            ("+44 20 7946 0018", Some("+442079460018")),
            ("0044 20 7946 0018", Some("+442079460018")),
            ("555-0142", None),
            ("+0 555 555 0142", None),
            ("+1234567890123456", None),
            ("n/a", None),
            ("", None),
        ] {
            assert_eq!(phone(text).as_deref(), expect, "{text:?}");
        }
    }

    #[test]
    fn spellings_of_one_loyalty_card_are_one() {
        assert_eq!(loyalty_card(" 9840-0012 3456 ").as_deref(), Some("984000123456"));
        assert_eq!(loyalty_card("ab12").as_deref(), Some("AB12"));
        assert_eq!(loyalty_card(" - "), None);
    }
}
