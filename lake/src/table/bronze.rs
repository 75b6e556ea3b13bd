//! `bronze_<system>__<entity>`: the records of one entity of one source, as they landed.

use std::{io::Cursor, iter::repeat_n};

use arrow::{
    array::{Array, AsArray, BinaryArray, FixedSizeBinaryArray, RecordBatch, StringArray},
    compute::cast,
    datatypes::DataType,
    ipc::reader::StreamReader,
};
use omnimesh_proto::{event::v1::Event, ingest::v1::RecordsLanded};
use sha2::{Digest, Sha256};
use types::csv;

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
column _columns: The names of its fields as a line of CSV, if it is one itself. [from=columns]
column _subject_keys: By which of its fields it names persons: templates of their keys, one a line, such as
`shop/{customer_id}` and `{email}`; missing where the source's definition tells of none. [from=subject_keys]
column _payload: The record as the source wrote it, or as it reads if it was not UTF-8 or was cut off.
[pii=direct] [from=records.payload]
column _payload_bytes: The record's own bytes where they are not those of the payload; if it was cut off,
those that were kept. [pii=direct] [from=records.bytes]
column _payload_sha256: SHA-256 of the record's own bytes. [pii=quasi] [from=records.payload, records.bytes]
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

    fn is_one(&self) -> bool {
        false
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
    let bytes = match records.column_by_name("bytes") {
        Some(bytes) => cast(bytes, &DataType::Binary)?.as_binary::<i32>().clone(),
        // Earlier builds landed none.
        None => BinaryArray::new_null(count),
    };
    let ids: Vec<_> = (first..first + count).map(|index| format!("{}-{index:06}", event.id)).collect();
    // An empty run of texts has no first byte to tell the width of a digest by.
    let own = payload.iter().zip(&bytes).map(|(text, bytes)| bytes.or(text.map(str::as_bytes)));
    let digests = own.map(|bytes| bytes.map(Sha256::digest));
    let digests = FixedSizeBinaryArray::try_from_sparse_iter_with_size(digests, 32)?;
    let same = |name, value| text(name, repeat_n(value, count));
    let columns = csv::line(landed.columns.iter().map(String::as_str));
    let subject_keys = landed.subject_keys.join("\n");
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
        optional_text("_subject_keys", repeat_n(subject_keys.as_str(), count)),
        // Their digest stands for them where tables are compared.
        Column::new("_payload", payload).volatile(),
        Column::new("_payload_bytes", bytes).nullable().volatile(),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{array::ArrayRef, ipc::writer::StreamWriter};
    use prost::Message;

    use super::*;

    /// The rows of records that landed with these columns.
    fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        let records = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, values)| (name, values, name == "bytes")),
        );
        let records = records.unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &records.schema()).unwrap();
        writer.write(&records).unwrap();
        let landed =
            RecordsLanded { records: writer.into_inner().unwrap().into(), ..RecordsLanded::default() };
        let event = Event { payload: landed.encode_to_vec().into(), ..Event::default() };
        read(&event).unwrap().remove(0)
    }

    #[test]
    fn records_are_told_by_their_own_bytes() {
        let own: [Option<&[u8]>; 2] = [Some(b"Jos\xe9"), None];
        let columns: [(&str, ArrayRef); 3] = [
            ("position", Arc::new(StringArray::from(vec!["1", "2"]))),
            ("payload", Arc::new(StringArray::from(vec!["Jos\u{fffd}", "José"]))),
            ("bytes", Arc::new(BinaryArray::from_iter(own))),
        ];
        let told = |rows: &RecordBatch, expected: [&[u8]; 2]| {
            let digests = rows.column_by_name("_payload_sha256").unwrap().as_fixed_size_binary();
            let expected = expected.map(Sha256::digest);
            assert_eq!(digests.iter().flatten().collect::<Vec<_>>(), [&expected[0][..], &expected[1][..]]);
        };
        let landed = rows(columns.to_vec());
        let bytes = landed.column_by_name("_payload_bytes").unwrap().as_binary::<i32>();
        assert_eq!(bytes.iter().collect::<Vec<_>>(), own);
        told(&landed, [b"Jos\xe9", "José".as_bytes()]);
        // As earlier builds landed them.
        let landed = rows(columns[..2].to_vec());
        assert_eq!(landed.column_by_name("_payload_bytes").unwrap().null_count(), 2);
        told(&landed, ["Jos\u{fffd}".as_bytes(), "José".as_bytes()]);
    }
}
