//! Times as the systems write them. The dataset's timestamps are taken as UTC.

use jiff::{SignedDuration, Timestamp, civil::Date, tz::Offset};

/// 2017-01-01T00:00:00Z, before the first basket.
pub(crate) const YEAR_START: Timestamp = Timestamp::constant(1_483_228_800, 0);

pub(crate) fn day(at: Timestamp) -> Date {
    Offset::UTC.to_datetime(at).date()
}

/// `2017-01-01 11:53:26`, as a till prints it.
pub(crate) fn till_clock(at: Timestamp) -> impl std::fmt::Display {
    Offset::UTC.to_datetime(at).strftime("%F %T")
}

/// `at` o'clock on the day that is `days` after `date`.
pub(crate) fn hour_after(date: Timestamp, days: i64, hour: i64) -> Timestamp {
    let midnight = date.as_second().div_euclid(86_400) + days;
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(midnight * 86_400) + SignedDuration::from_hours(hour)
}
