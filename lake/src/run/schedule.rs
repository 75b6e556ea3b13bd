//! When a table is due, as its card says.

use croner::Cron;
use jiff::{Timestamp, tz::TimeZone};

use crate::Error;

/// Whether a cron expression (UTC) has named a time since `last`; an empty one names every time.
pub(super) fn has_come(schedule: &str, last: Option<Timestamp>) -> Result<bool, Error> {
    has_come_at(schedule, last, Timestamp::now())
}

fn has_come_at(schedule: &str, last: Option<Timestamp>, now: Timestamp) -> Result<bool, Error> {
    let (false, Some(last)) = (schedule.is_empty(), last) else { return Ok(true) };
    let invalid = |error: croner::errors::CronError| Error::Definition {
        table: String::new(),
        reason: format!("`{schedule}` is no schedule: {error}"),
    };
    let cron: Cron = schedule.parse().map_err(invalid)?;
    let next = cron.find_next_occurrence(&last.to_zoned(TimeZone::UTC), false).map_err(invalid)?;
    Ok(next.timestamp() <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layer, feature, table::DERIVED};

    #[test]
    fn what_takes_long_waits_for_times_that_there_are() {
        for derived in DERIVED.iter().copied().chain(feature::tables()) {
            let (name, schedule) = (derived.name().unwrap(), derived.card().schedule);
            assert!(has_come(&schedule, Some(Timestamp::now())).is_ok(), "{name}: {schedule}");
            let is_quick = ![Layer::Features, Layer::Embeddings].contains(&name.layer());
            assert!(is_quick || !schedule.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_table_is_due_when_its_time_has_come_since_the_last_run() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let cases = [
            ("", "2026-01-01T00:00:00Z", true),
            ("0 3 * * *", "2026-01-01T02:59:00Z", false),
            ("0 3 * * *", "2026-01-01T03:00:00Z", true),
            ("*/15 * * * *", "2026-01-01T01:14:00Z", false),
            ("*/15 * * * *", "2026-01-01T01:16:00Z", true),
        ];
        for (schedule, now, due) in cases {
            let found = has_come_at(schedule, Some(at("2026-01-01T01:05:00Z")), at(now)).unwrap();
            assert_eq!(found, due, "{schedule} at {now}");
        }
        assert!(has_come_at("0 3 * * *", None, at("2026-01-01T00:00:00Z")).unwrap());
        assert!(
            has_come_at("every day", Some(at("2026-01-01T00:00:00Z")), at("2026-01-01T01:00:00Z")).is_err()
        );
    }
}
