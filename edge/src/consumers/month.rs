//! Calendar months in UTC: what quotas are counted by.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A month, such as `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(Date);

/// It is no month.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no month: take one such as 2026-11")]
pub struct NoMonth(String);

impl Month {
    /// The month of a moment.
    pub fn of(moment: Timestamp) -> Self {
        Self(moment.to_zoned(TimeZone::UTC).date().first_of_month())
    }

    /// When it begins; none for a month beyond the calendar.
    pub(super) fn start(self) -> Option<Timestamp> {
        Some(self.0.to_zoned(TimeZone::UTC).ok()?.timestamp())
    }

    /// When the next one begins.
    pub(super) fn end(self) -> Timestamp {
        let next = self.0.last_of_month().tomorrow().ok();
        next.and_then(|next| Self(next).start()).unwrap_or(Timestamp::MAX)
    }

    /// How many seconds it has.
    pub(super) fn seconds(self) -> i64 {
        i64::from(self.0.days_in_month()) * 24 * 60 * 60
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

impl FromStr for Month {
    type Err = NoMonth;

    fn from_str(text: &str) -> Result<Self, NoMonth> {
        let first: Option<Date> = format!("{text}-01").parse().ok();
        first.map(Self).filter(|month| month.to_string() == text).ok_or_else(|| NoMonth(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_utc() {
        for (moment, month, end, days) in [
            ("2026-11-30T23:59:59.999999Z", "2026-11", "2026-12-01T00:00:00Z", 30),
            ("2026-12-01T00:00:00Z", "2026-12", "2027-01-01T00:00:00Z", 31),
            ("2026-12-01T00:30:00+01:00", "2026-11", "2026-12-01T00:00:00Z", 30),
            ("2028-02-29T12:00:00Z", "2028-02", "2028-03-01T00:00:00Z", 29),
        ] {
            let found = Month::of(moment.parse().unwrap());
            assert_eq!(found.to_string(), month);
            assert_eq!(found.end().to_string(), end);
            assert_eq!(found.seconds(), days * 86_400);
            assert_eq!(month.parse::<Month>().unwrap(), found);
        }
        for text in ["", "2026", "2026-13", "2026-1", "26-11", "2026-11-01", " 2026-11", "november"] {
            assert!(text.parse::<Month>().is_err(), "{text:?}");
        }
    }
}
