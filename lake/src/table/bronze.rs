//! `bronze_<system>__<entity>`: the records of one entity of one source, as they landed.

use std::{io::Cursor, iter::repeat_n};

use arrow::{
    array::{Array, FixedSizeBinaryArray, RecordBatch, StringArray},
    compute::cast,
    datatypes::DataType,
    ipc::reader::StreamReader,
};
use omnimesh_proto::{event::v1::Event, ingest::v1::RecordsLanded};
use sha2::{Digest, Sha256};

use super::{Change, Route, Source, Table, decode, unusable};
use crate::{
    Error, Layer, TableName,
    card::Card,
    columns::{Column, batch, integer, optional_text, text, time},
};

const CARD: &str = "\
What a source wrote, unaltered: a row for each time that a record was read.
grain: one row per record and reading
key: _ingest_id
owner: ingest
freshness: seconds behind the events, at most `lake.linger_ms` and a commit
column _ingest_id: Which reading of which record: the event that told of it, and its place in it.
[from=event.id]
column _source: The source. [from=system]
column _entity: What the record is, in the source's words. [from=entity]
column _object: The file or table that it was read from. [from=object]
column _revision: How often that had become another: what an older revision had no longer counts.
[from=revision]
column _position: Its place in that: its line, or its key. [pii=quasi] [from=records.position]
column _op: How it came to be seen, in Debezium's terms.
column _received_at: When it was read. [from=read_time]
column _trace_id: The trace of the run that read it. [from=event.traceparent]
column _columns: The names of its fields, in their order and between commas, if it is a row of CSV.
[from=columns]
column _payload: The record as the source wrote it. [pii=direct] [from=records.payload]
column _payload_sha256: SHA-256 of the payload. [pii=quasi] [from=records.payload]
";

static SOURCE: Source = Source {
    consumer: "lake.bronze<-ingest",
    domain: "ingest",
    event_type: "omnimesh.ingest.v1.RecordsLanded",
};

/// How a record came to be seen, in Debezium's terms.
const READ: &str = "r";

pub(super) struct Bronze;

impl Table for Bronze {
    fn source(&self) -> &'static Source {
        &SOURCE
    }

    fn owns(&self, name: &TableName) -> bool {
        name.layer() == Layer::Bronze
    }

    fn route(&self, event: &Event) -> Result<Route, Error> {
        let landed: RecordsLanded = decode(SOURCE.event_type, event)?;
        let table = TableName::new(Layer::Bronze, format!("bronze_{}__{}", landed.system, landed.entity))?;
        let rows = usize::try_from(landed.record_count).unwrap_or(0);
        Ok(Route { table, key: event.id.clone(), rank: 0, rows })
    }

    fn card(&self) -> Card {
        Card::parse(CARD)
    }

    /// What lands of each entity of a source is a stream of its own.
    fn stream(&self, name: &TableName) -> String {
        let stream = name.as_str().strip_prefix("bronze_").unwrap_or_default();
        format!("sources/{}", stream.replace("__", "/"))
    }

    fn change(&self, events: Vec<Event>) -> Result<Change, Error> {
        let mut rows = Vec::new();
        for event in &events {
            rows.extend(read(event).map_err(|error| error.of_event(event))?);
        }
        Ok(Change::Append(rows))
    }
}

/// Rows for an event's records.
fn read(event: &Event) -> Result<Vec<RecordBatch>, Error> {
    let landed: RecordsLanded = decode(SOURCE.event_type, event)?;
    let mut rows = Vec::new();
    let mut first = 0;
    for records in StreamReader::try_new(Cursor::new(&landed.records), None)? {
        let records = records?;
        rows.push(unaltered(event, &landed, &records, first)?);
        first += records.num_rows();
    }
    Ok(rows)
}

/// Rows for the records of a batch, of which the first is the event's `first`th.
fn unaltered(
    event: &Event,
    landed: &RecordsLanded,
    records: &RecordBatch,
    first: usize,
) -> Result<RecordBatch, Error> {
    let count = records.num_rows();
    let position = strings(event, records, "position")?;
    let payload = strings(event, records, "payload")?;
    let ids: Vec<_> = (first..first + count).map(|index| format!("{}-{index:06}", event.id)).collect();
    // An empty run of texts has no first byte to tell the width of a digest by.
    let digests = payload.iter().map(|payload| payload.map(|text| Sha256::digest(text.as_bytes())));
    let digests = FixedSizeBinaryArray::try_from_sparse_iter_with_size(digests, 32)?;
    let same = |name, value| text(name, repeat_n(value, count));
    let columns = landed.columns.join(",");
    Ok(batch(vec![
        text("_ingest_id", ids.iter().map(String::as_str)).key(1).volatile(),
        same("_source", &landed.system),
        same("_entity", &landed.entity),
        same("_object", &landed.object),
        integer("_revision", repeat_n(landed.revision, count)),
        Column::new("_position", position),
        // Connectors read what is there; none of them is told of single changes.
        same("_op", READ),
        time("_received_at", repeat_n(landed.read_time, count)).volatile(),
        optional_text("_trace_id", repeat_n(trace_id(event), count)).volatile(),
        optional_text("_columns", repeat_n(columns.as_str(), count)),
        // Its digest stands for it where tables are compared.
        Column::new("_payload", payload).volatile(),
        Column::new("_payload_sha256", digests),
    ])?)
}

/// The trace of the run that landed a batch; empty where nothing is traced.
fn trace_id(event: &Event) -> &str {
    event.traceparent.split('-').nth(1).unwrap_or_default()
}

fn strings(event: &Event, records: &RecordBatch, name: &str) -> Result<StringArray, Error> {
    let invalid = || unusable(event, format!("its records lack the text `{name}`"));
    let column = cast(records.column_by_name(name).ok_or_else(invalid)?, &DataType::Utf8)?;
    let strings = column.as_any().downcast_ref::<StringArray>().filter(|strings| strings.null_count() == 0);
    strings.cloned().ok_or_else(invalid)
}
