//! When a table is due, as its card says.

use croner::Cron;
use jiff::{Timestamp, tz::TimeZone};

use super::{
    Known, Runner,
    make::definition,
    manifest::{all, known},
    plan,
};
use crate::{Error, TableName, table::Derived};

impl Runner {
    /// Tables that would change: something that they are made of has changed, and it is their time.
    pub(super) async fn due(&self) -> Result<Vec<TableName>, Error> {
        let known = known(&all(&self.store).await?);
        let mut due = Vec::new();
        for derived in plan::order(self.tables(), &[])? {
            let name = derived.name()?;
            let known = known.get(&name.to_string());
            match events::caught(self.is_due(derived, &name, known, &due)).await {
                Ok(true) => due.push(name),
                Ok(false) => {}
                Err(error) => tracing::warn!(table = %name, %error, "nobody knows when it is due"),
            }
        }
        Ok(due)
    }

    /// Whether a table would change, if those of `due` do.
    async fn is_due(
        &self,
        derived: &dyn Derived,
        name: &TableName,
        known: Option<&Known>,
        due: &[TableName],
    ) -> Result<bool, Error> {
        let last = known.and_then(Known::latest);
        let mut is_due = last.is_none_or(|last| last.definition != definition(derived));
        for input in derived.inputs()? {
            // What cannot be read now may be at another time.
            let Ok(found) = self.input(&input).await else { return Ok(false) };
            let version = found.as_ref().map(|dataset| dataset.version().version);
            let changes = due.contains(&input);
            if version.is_none() && !changes && !derived.can_lack(&input)? {
                return Ok(false);
            }
            is_due |= changes
                || version.as_ref() != last.and_then(|last| last.inputs.get(&input.to_string()))
                || found.is_some_and(|found| last.is_some_and(|last| !last.knew(&found)));
        }
        let stands = known.and_then(|known| known.standing.as_ref());
        // A run that was cut short may not have come to promise what it made.
        if let Some(stands) = stands {
            let promised = self.input(name).await.ok().flatten();
            is_due |= promised.is_none_or(|promised| promised.version().version != stands.version);
        }
        let rests = known.is_some_and(|known| known.rests(Timestamp::now()));
        let began = last.and_then(|last| last.began_at);
        Ok(is_due && !rests && has_come(name, &derived.card().schedule, began, Timestamp::now())?)
    }
}

/// Whether a cron expression (UTC) has named a time since `last`; an empty one names every time.
fn has_come(
    table: &TableName,
    schedule: &str,
    last: Option<Timestamp>,
    now: Timestamp,
) -> Result<bool, Error> {
    let (false, Some(last)) = (schedule.is_empty(), last) else { return Ok(true) };
    let invalid = |error: croner::errors::CronError| Error::Definition {
        table: table.to_string(),
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
            let now = Timestamp::now();
            assert!(has_come(&name, &schedule, Some(now), now).is_ok(), "{name}: {schedule}");
            let is_quick = ![Layer::Features, Layer::Embeddings].contains(&name.layer());
            assert!(is_quick || !schedule.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_table_is_due_when_its_time_has_come_since_the_last_run() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let table = TableName::new(Layer::Gold, "dim_made").unwrap();
        let has_come = |schedule, last: Option<&str>, now| has_come(&table, schedule, last.map(at), at(now));
        let cases = [
            ("", "2026-01-01T00:00:00Z", true),
            ("0 3 * * *", "2026-01-01T02:59:00Z", false),
            ("0 3 * * *", "2026-01-01T03:00:00Z", true),
            ("*/15 * * * *", "2026-01-01T01:14:00Z", false),
            ("*/15 * * * *", "2026-01-01T01:16:00Z", true),
        ];
        for (schedule, now, due) in cases {
            let found = has_come(schedule, Some("2026-01-01T01:05:00Z"), now).unwrap();
            assert_eq!(found, due, "{schedule} at {now}");
        }
        assert!(has_come("0 3 * * *", None, "2026-01-01T00:00:00Z").unwrap());
        let none = has_come("every day", Some("2026-01-01T00:00:00Z"), "2026-01-02T00:00:00Z");
        let told = none.unwrap_err().to_string();
        assert!(told.starts_with("lake table gold/dim_made") && told.contains("`every day`"), "{told}");
    }
}
