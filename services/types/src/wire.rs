//! The border to the contract's shared messages.

use omnimesh_proto::r#type::v1 as pb;

use crate::{InvalidId, SourceRef, Timestamp};

impl TryFrom<pb::SourceRef> for SourceRef {
    type Error = InvalidId;

    fn try_from(message: pb::SourceRef) -> Result<Self, InvalidId> {
        Self::new(&message.system, &message.id)
    }
}

impl From<SourceRef> for pb::SourceRef {
    fn from(source: SourceRef) -> Self {
        Self { system: source.system.into_string(), id: source.id }
    }
}

impl From<Timestamp> for prost_types::Timestamp {
    fn from(time: Timestamp) -> Self {
        let micros = time.micros();
        Self {
            seconds: micros.div_euclid(1_000_000),
            nanos: i32::try_from(micros.rem_euclid(1_000_000)).unwrap_or(0) * 1_000,
        }
    }
}

/// A time that microseconds since 1970 cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is out of range")]
pub struct TimeOutOfRange;

impl TryFrom<prost_types::Timestamp> for Timestamp {
    type Error = TimeOutOfRange;

    fn try_from(message: prost_types::Timestamp) -> Result<Self, TimeOutOfRange> {
        if !(0..1_000_000_000).contains(&message.nanos) {
            return Err(TimeOutOfRange);
        }
        message
            .seconds
            .checked_mul(1_000_000)
            .and_then(|micros| micros.checked_add(i64::from(message.nanos / 1_000)))
            .map(Self::from_micros)
            .ok_or(TimeOutOfRange)
    }
}

/// The first time that is taken for one: 1900-01-01. What is earlier is what software writes that knows none.
const EARLIEST: Timestamp = Timestamp::from_micros(-2_208_988_800_000_000);
/// How far a source may be ahead of this machine's clock: nowhere on earth has tomorrow begun earlier.
const AHEAD_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// A required time.
pub fn time(message: Option<prost_types::Timestamp>) -> Result<Timestamp, String> {
    Timestamp::try_from(message.ok_or("is required")?).map_err(|error| error.to_string())
}

/// A required time of what a source says has happened: one whose clock is wrong would move what counts as now for
/// everybody.
pub fn past_time(message: Option<prost_types::Timestamp>) -> Result<Timestamp, String> {
    let time = time(message)?;
    let latest = Timestamp::from_micros(Timestamp::now().micros().saturating_add(AHEAD_MICROS));
    match time {
        _ if time < EARLIEST => Err(format!("is {time}, before 1900")),
        _ if time > latest => Err(format!("is {time}, more than a day from now")),
        _ => Ok(time),
    }
}

/// The largest quantity, amount or sum of amounts, either way: sums over millions of them still fit 64 bits.
const LARGEST: i128 = 1_000_000_000_000;

/// A number that sums can take.
pub fn bounded<N: Copy + Into<i128>>(number: N) -> Result<N, &'static str> {
    let in_range = (-LARGEST..=LARGEST).contains(&number.into());
    in_range.then_some(number).ok_or("is more than 10^12 either way")
}

/// A required source record.
pub fn source(message: Option<pb::SourceRef>) -> Result<SourceRef, String> {
    SourceRef::try_from(message.ok_or("is required")?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_happened_is_neither_in_the_future_nor_long_ago() {
        let now = Timestamp::now().micros();
        let hours = |hours: i64| Timestamp::from_micros(now + hours * 60 * 60 * 1_000_000);
        let at = |text| Timestamp::parse(text).unwrap();
        for (time, wrong) in [
            (at("1900-01-01T00:00:00Z"), None),
            (at("1899-12-31T23:59:59Z"), Some("before 1900")),
            (at("0001-01-01T00:00:00Z"), Some("before 1900")),
            (hours(-1), None),
            (hours(23), None),
            (hours(25), Some("more than a day from now")),
            (Timestamp::from_micros(i64::MAX), Some("more than a day from now")),
        ] {
            let wrong = wrong.map(|wrong| format!("is {time}, {wrong}"));
            assert_eq!(past_time(Some(time.into())), wrong.map_or(Ok(time), Err));
        }
        assert_eq!(past_time(None), Err("is required".to_owned()));
    }

    #[test]
    fn numbers_have_bounds() {
        for (number, taken) in [
            (0_i64, true),
            (1_000_000_000_000, true),
            (-1_000_000_000_000, true),
            (1_000_000_000_000 + 1, false),
            (-1_000_000_000_000 - 1, false),
            (i64::MIN, false),
        ] {
            assert_eq!(bounded(number).is_ok(), taken, "{number}");
        }
    }
}
