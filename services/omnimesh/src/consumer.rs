//! `omnimesh consumer`: who may call from outside, by which keys, until when and how much.

mod plan;
mod usage;

use std::collections::BTreeSet;

use anyhow::{Context, anyhow};
use edge::{ApiKey, Consumers, Grant};
use jiff::{Span, Timestamp, tz::TimeZone};
use mesh::{Clock, Permissions};
use serde::Serialize;

use crate::{
    cli::{AddArgs, Common, ConsumerCommand, ReadArgs},
    config::Config,
    error::Failure,
    output, roles,
    table::table,
};

/// A key as programs read it.
#[derive(Debug, Serialize)]
struct Entry {
    key: String,
    consumer: String,
    permissions: Vec<String>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    expired: bool,
}

pub(crate) async fn run(command: ConsumerCommand) -> Result<(), Failure> {
    match command {
        ConsumerCommand::Add(args) => add(args).await,
        ConsumerCommand::List(args) => list(args).await,
        ConsumerCommand::Revoke(args) => revoke(&args.common, &args.name).await,
        ConsumerCommand::Plan(command) => plan::run(command).await,
        ConsumerCommand::Usage(args) => usage::run(args).await,
    }
}

async fn add(args: AddArgs) -> Result<(), Failure> {
    let known = roles::permissions().map_err(Failure::usage)?;
    let permissions = scope(args.permissions, &known).map_err(Failure::Usage)?;
    let now = time(Clock::system().now_micros())?;
    let expires_at =
        args.expires.as_deref().map(|when| expiry(when, now)).transpose().map_err(Failure::Usage)?;
    let consumers = open(&args.common).await?;
    let grant =
        Grant { consumer: args.name, permissions, expires_at: expires_at.map(Timestamp::as_microsecond) };
    let (key, text) = consumers.issue(grant, args.plan.as_deref()).await.map_err(Failure::usage)?;
    output::line(text)?;
    let until = expires_at.map_or_else(|| "until it is revoked".to_owned(), |end| format!("until {end:.0}"));
    eprintln!("{} of {} may {} {until}", key.name(), key.grant.consumer, key.grant.permissions.join(", "));
    Ok(())
}

async fn list(args: ReadArgs) -> Result<(), Failure> {
    let keys = open(&args.common).await?.list().await.map_err(|error| Failure::Failed(error.into()))?;
    let entries = keys.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    if args.json {
        return output::json(&entries);
    }
    let rows = entries.into_iter().map(|entry| {
        let expires = match entry.expires_at {
            Some(end) if entry.expired => format!("expired {end:.0}"),
            Some(end) => format!("{end:.0}"),
            None => "never".to_owned(),
        };
        vec![
            entry.consumer,
            entry.key,
            entry.permissions.join(", "),
            format!("{:.0}", entry.created_at),
            expires,
        ]
    });
    output::line(table(&["consumer", "key", "permissions", "created", "expires"], &[], rows))
}

async fn revoke(common: &Common, name: &str) -> Result<(), Failure> {
    let revoked = open(common).await?.revoke(name).await.map_err(|error| Failure::Failed(error.into()))?;
    match revoked {
        0 => Err(Failure::Failed(anyhow!(
            "there is no consumer and no key `{name}`: `omnimesh consumer list` names them"
        ))),
        count => {
            eprintln!("revoked {count} {}", if count == 1 { "key" } else { "keys" });
            Ok(())
        }
    }
}

/// The consumers of a deployment, whether or not its edge runs.
async fn open(common: &Common) -> Result<Consumers, Failure> {
    let config = Config::load(common, None)?;
    if config.storage.is_none() {
        config.must_exist()?;
    }
    Consumers::open(&config.storage()).await.map_err(Failure::usage)
}

/// What a key may do: what was asked for, or to read everything.
fn scope(asked: Vec<String>, known: &BTreeSet<String>) -> anyhow::Result<Vec<String>> {
    if asked.is_empty() {
        return Ok(known.iter().filter(|permission| permission.ends_with(".read")).cloned().collect());
    }
    let covers_nothing = |pattern: &&String| {
        let pattern = Permissions::from_iter([pattern.as_str()]);
        !known.iter().any(|permission| pattern.allow(permission))
    };
    match asked.iter().find(covers_nothing) {
        None => Ok(asked),
        Some(unknown) => Err(anyhow!(
            "there is no permission `{unknown}`: take one of {}, all of a domain (`order.*`) or all (`*`)",
            known.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// When a key ends that is to end at `when`.
fn expiry(when: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let end = match when.parse::<Timestamp>() {
        Ok(end) => end,
        Err(_) => when
            .parse::<Span>()
            .and_then(|span| now.to_zoned(TimeZone::UTC).checked_add(span))
            .map_err(|_| {
                anyhow!(
                    "`{when}` is no time: take a span such as 90d or 12h, or one such as 2030-01-31T00:00:00Z"
                )
            })?
            .timestamp(),
    };
    if end <= now {
        return Err(anyhow!("`{when}` is not in the future"));
    }
    Ok(end)
}

fn entry(key: ApiKey) -> Result<Entry, Failure> {
    Ok(Entry {
        key: key.name(),
        expired: key.is_expired(),
        created_at: time(key.created_at)?,
        expires_at: key.grant.expires_at.map(time).transpose()?,
        consumer: key.grant.consumer,
        permissions: key.grant.permissions,
    })
}

fn time(micros: i64) -> Result<Timestamp, Failure> {
    Ok(Timestamp::from_microsecond(micros).context("a time beyond the calendar")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_those_of_the_contract() {
        let known = roles::permissions().unwrap();
        let scope = |asked: &[&str]| scope(asked.iter().map(|&asked| asked.to_owned()).collect(), &known);
        for asked in [&["order.read"][..], &["order.*", "catalog.read"], &["*"]] {
            assert_eq!(scope(asked).unwrap(), asked);
        }
        for unknown in ["order.raed", "till.*", "ord*", "order", "", "order.read "] {
            let error = scope(&["order.read", unknown]).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("there is no permission `{unknown}`: take one of ")),
                "{error}"
            );
            assert!(error.contains("order.read, "), "{error}");
        }
        let default = scope(&[]).unwrap();
        assert!(default.contains(&"order.read".to_owned()), "{default:?}");
        assert!(default.iter().all(|permission| permission.ends_with(".read")), "{default:?}");
    }

    #[test]
    fn keys_end_in_the_future() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (when, end) in [
            ("90d", "2026-05-30T12:00:00Z"),
            ("12h", "2026-03-02T00:00:00Z"),
            ("1y 1mo", "2027-04-01T12:00:00Z"),
            ("2030-01-01T00:00:00+01:00", "2029-12-31T23:00:00Z"),
        ] {
            assert_eq!(expiry(when, now).unwrap().to_string(), end);
        }
        for when in ["", "soon", "90", "2030-01-01", "9999999999y"] {
            assert!(expiry(when, now).unwrap_err().to_string().contains("is no time"), "{when}");
        }
        for when in ["0s", "-1d", "1d ago", "2026-03-01T12:00:00Z", "2020-01-01T00:00:00Z"] {
            assert!(expiry(when, now).unwrap_err().to_string().contains("not in the future"), "{when}");
        }
    }
}
