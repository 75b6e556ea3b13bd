//! Amounts in cents, written as a person writes them.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cents(pub(crate) i32);

impl Cents {
    /// The dataset keeps dollars as floats; all of them are whole cents within a float's precision.
    pub(crate) fn from_dollars(dollars: f64) -> Self {
        Self((dollars * 100.0).round() as i32)
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let cents = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", cents / 100, cents % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::Cents;

    #[test]
    fn cents_are_exact_and_keep_their_sign() {
        assert_eq!(Cents::from_dollars(1.15), Cents(115));
        assert_eq!(Cents(5).to_string(), "0.05");
        assert_eq!(Cents(-5).to_string(), "-0.05");
        assert_eq!(Cents(84_000).to_string(), "840.00");
    }
}
