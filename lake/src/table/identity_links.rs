//! `identity_links`: whose each source record is, and was held to be before.

use arrow::array::RecordBatch;
use omnimesh_proto::{
    event::v1::Event,
    identity::v1::{IdentityChanged, IdentityLink},
};

use super::{Change, RECORDED_TO, Route, Source, Table, change_of_subject, decode, missing, once};
use crate::{
    Error, TableName,
    card::Card,
    columns::{batch, text, time},
};

const NAME: &str = "identity_links";

const CARD: &str = "\
Whose each source record is, and was held to be before: a record is one person's at any time. What stands has no
`recorded_to`.
grain: one row per source record and person that it was linked to
key: link_id
owner: identity
freshness: seconds behind the events, at most `lake.linger_ms` and a commit
column link_id: The row: record, person, time of recording. [pii=direct] [from=linked/unlinked.source,
linked/unlinked.golden_id, linked/unlinked.link_time]
column source_system: The record's system. [from=linked/unlinked.source.system]
column source_id: The record in its system; a loyalty card's number, where the system has no other. [pii=direct]
[from=linked/unlinked.source.id]
column golden_id: The person. [pii=quasi] [from=linked/unlinked.golden_id]
column recorded_from: When the record was found to be the person's. [from=linked/unlinked.link_time]
column recorded_to: When it was found to be another's; null while the link stands.
[from=linked/unlinked.unlink_time]
";

static SOURCE: Source = Source {
    consumer: "lake.identity_links<-identity",
    domain: "identity",
    event_type: "omnimesh.identity.v1.IdentityChanged",
};

pub(super) struct IdentityLinks;

impl Table for IdentityLinks {
    fn source(&self) -> &'static Source {
        &SOURCE
    }

    fn owns(&self, name: &TableName) -> bool {
        name.as_str() == NAME
    }

    fn route(&self, event: &Event) -> Result<Route, Error> {
        let IdentityChanged { linked, unlinked, .. } = decode(SOURCE.event_type, event)?;
        change_of_subject(NAME, event, linked.len() + unlinked.len())
    }

    fn card(&self) -> Card {
        Card::parse(CARD)
    }

    fn change(&self, events: Vec<Event>) -> Result<Change, Error> {
        let mut rows = Vec::new();
        for event in &events {
            let IdentityChanged { linked, unlinked, .. } = decode(SOURCE.event_type, event)?;
            for link in linked.into_iter().chain(unlinked) {
                rows.push(Row::new(event, link)?);
            }
        }
        let rows = once(rows, |row| (row.link_id.clone(), row.link.unlink_time.is_none()));
        Ok(Change::Record(batch_of(&rows)?))
    }
}

struct Row {
    link_id: String,
    system: String,
    id: String,
    link: IdentityLink,
}

impl Row {
    fn new(event: &Event, mut link: IdentityLink) -> Result<Self, Error> {
        let source = link.source.take().ok_or_else(|| missing(event, "source of a link"))?;
        let since = link.link_time.ok_or_else(|| missing(event, "time of a link"))?;
        let link_id = format!("{}:{}:{}:{since}", source.system, source.id, link.golden_id);
        Ok(Self { link_id, system: source.system, id: source.id, link })
    }
}

fn batch_of(rows: &[Row]) -> Result<RecordBatch, Error> {
    Ok(batch(vec![
        text("link_id", rows.iter().map(|row| row.link_id.as_str())).key(1).volatile(),
        text("source_system", rows.iter().map(|row| row.system.as_str())),
        text("source_id", rows.iter().map(|row| row.id.as_str())),
        text("golden_id", rows.iter().map(|row| row.link.golden_id.as_str())).volatile(),
        time("recorded_from", rows.iter().map(|row| row.link.link_time)).volatile(),
        time(RECORDED_TO, rows.iter().map(|row| row.link.unlink_time)).volatile(),
    ])?)
}
