//! Records on their way in: as their source wrote them, in batches that are landed, mapped and settled together.

use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, RecordBatch, StringArray, StringBuilder},
    datatypes::{DataType, Field, Schema},
    error::ArrowError,
    ipc::{
        CompressionType,
        reader::StreamReader,
        writer::{IpcWriteOptions, StreamWriter},
    },
};
use bytes::Bytes;

/// A batch ends after this many records or bytes, whichever comes first.
const BATCH_RECORDS: usize = 4096;
const BATCH_BYTES: usize = 1024 * 1024;
/// A record that is longer, its own bytes beside its text counted, is cut off and thereby damaged: what lands has to fit
/// into an event.
pub(crate) const RECORD_BYTES: usize = 4 * 1024 * 1024;
/// What is kept of a record that is cut off, and of a file that is put aside as a whole.
pub(crate) const KEPT_BYTES: usize = 16 * 1024;
/// A portion ends after this many bytes or objects, whichever comes first.
const PORTION_BYTES: usize = 1024 * 1024;
const PORTION_OBJECTS: usize = 1024;

/// Records of one object, in its order.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Index of the entity in its source.
    pub(crate) entity: usize,
    pub(crate) object: Arc<str>,
    pub(crate) first_position: i64,
    /// The object's: in a later one, its records are newer.
    pub(crate) revision: i64,
    positions: StringArray,
    payloads: StringArray,
    /// The records' own bytes, where those of their payloads are others.
    originals: BinaryArray,
}

impl Batch {
    pub(crate) fn new(
        entity: usize,
        object: Arc<str>,
        revision: i64,
        first_position: i64,
        records: Records,
    ) -> Self {
        let Records { mut positions, mut payloads, mut originals, .. } = records;
        let (positions, payloads) = (positions.finish(), payloads.finish());
        Self { entity, object, first_position, revision, positions, payloads, originals: originals.finish() }
    }

    /// A batch as it was landed: the Arrow stream of `RecordsLanded`.
    pub(crate) fn decode(
        entity: usize,
        object: &str,
        revision: i64,
        first_position: i64,
        stream: &[u8],
    ) -> Result<Self, ArrowError> {
        let mut reader = StreamReader::try_new(stream, None)?;
        let incomplete =
            || ArrowError::IpcError("a batch of positions, payloads and bytes is due".to_owned());
        let batch = reader.next().ok_or_else(incomplete)??;
        let text = |index: usize| {
            let column = batch.columns().get(index).and_then(|column| column.as_string_opt::<i32>());
            column.cloned().ok_or_else(incomplete)
        };
        let (positions, payloads) = (text(0)?, text(1)?);
        let originals = match batch.columns().get(2) {
            Some(column) => column.as_binary_opt::<i32>().cloned().ok_or_else(incomplete)?,
            // Earlier builds kept none.
            None => BinaryArray::new_null(payloads.len()),
        };
        Ok(Self { entity, object: object.into(), first_position, revision, positions, payloads, originals })
    }

    pub(crate) fn len(&self) -> usize {
        self.payloads.len()
    }

    pub(crate) fn positions(&self) -> impl Iterator<Item = &str> {
        self.positions.iter().flatten()
    }

    pub(crate) fn payloads(&self) -> impl Iterator<Item = &str> {
        self.payloads.iter().flatten()
    }

    pub(crate) fn position(&self, index: usize) -> &str {
        self.positions.value(index)
    }

    pub(crate) fn payload(&self, index: usize) -> &str {
        self.payloads.value(index)
    }

    /// A record's own bytes, where those of its payload are others.
    pub(crate) fn original(&self, index: usize) -> Option<&[u8]> {
        self.originals.is_valid(index).then(|| self.originals.value(index))
    }
}

/// Records being collected into a batch.
#[derive(Debug, Default)]
pub(crate) struct Records {
    positions: StringBuilder,
    payloads: StringBuilder,
    originals: BinaryBuilder,
    count: usize,
    bytes: usize,
}

impl Records {
    /// Adds a record that its source gave as text.
    pub(crate) fn push(&mut self, position: &str, payload: &str) {
        self.push_read(position, payload, payload.as_bytes());
    }

    /// Adds a record that its source wrote as `bytes`, and that reads `payload`.
    pub(crate) fn push_read(&mut self, position: &str, payload: &str, bytes: &[u8]) {
        let original = (payload.as_bytes() != bytes).then_some(bytes);
        let (payload, original) = match payload.len() + original.map_or(0, <[u8]>::len) {
            ..=RECORD_BYTES => (Cow::Borrowed(payload), original),
            _ => {
                let kept = &payload[..payload.floor_char_boundary(KEPT_BYTES)];
                (Cow::Owned(format!("{kept}\u{fffd}")), Some(&bytes[..bytes.len().min(kept.len())]))
            }
        };
        self.count += 1;
        self.bytes += position.len() + payload.len() + original.map_or(0, <[u8]>::len);
        self.positions.append_value(position);
        self.payloads.append_value(payload);
        self.originals.append_option(original);
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count >= BATCH_RECORDS || self.bytes >= BATCH_BYTES
    }

    /// No order is as long: what is awaited is not coming.
    pub(crate) fn is_overfull(&self) -> bool {
        self.count >= 4 * BATCH_RECORDS || self.bytes >= 2 * BATCH_BYTES
    }
}

/// Writes batches as Arrow streams; one for many, because a compressor costs more to make than to use.
pub(crate) struct Encoder {
    writer: StreamWriter<Vec<u8>>,
    schema: Arc<Schema>,
    head: Vec<u8>,
}

/// Ends an Arrow stream.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

impl Encoder {
    pub(crate) fn new() -> Result<Self, ArrowError> {
        let text = |name| Field::new(name, DataType::Utf8, false);
        let bytes = Field::new("bytes", DataType::Binary, true);
        let schema = Arc::new(Schema::new(vec![text("position"), text("payload"), bytes]));
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options)?;
        let head = std::mem::take(writer.get_mut());
        Ok(Self { writer, schema, head })
    }

    pub(crate) fn encode(&mut self, batch: &Batch) -> Result<Bytes, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(batch.positions.clone()),
            Arc::new(batch.payloads.clone()),
            Arc::new(batch.originals.clone()),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.writer.get_mut().extend_from_slice(&self.head);
        self.writer.write(&batch)?;
        let mut stream = std::mem::take(self.writer.get_mut());
        stream.extend_from_slice(&END);
        Ok(stream.into())
    }
}

/// How far an object was read in a portion.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    pub(crate) entity: usize,
    pub(crate) object: Arc<str>,
    pub(crate) size: i64,
    pub(crate) mtime: i64,
    pub(crate) position: String,
    pub(crate) digest: String,
    /// It was read to its end.
    pub(crate) complete: bool,
    /// It is another than it was: what was known of it no longer counts.
    pub(crate) restart: bool,
    pub(crate) revision: i64,
    /// Records in this portion.
    pub(crate) landed: i64,
    /// Why it cannot be read as what it should be; its one record is quarantined.
    pub(crate) failure: Option<String>,
}

/// Batches that are landed in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) batches: Vec<Batch>,
    /// The batches as Arrow streams.
    pub(crate) streams: Vec<Bytes>,
    bytes: usize,
}

impl Portion {
    pub(crate) fn push(&mut self, batch: Batch, encoder: &mut Encoder) -> Result<(), ArrowError> {
        self.bytes += batch.payloads.values().len() + batch.originals.values().len();
        self.streams.push(encoder.encode(&batch)?);
        self.batches.push(batch);
        Ok(())
    }

    /// Notes how far an object is; of one object only the last word counts.
    pub(crate) fn reach(&mut self, mut checkpoint: Checkpoint) {
        if let Some(last) = self
            .checkpoints
            .pop_if(|last| last.entity == checkpoint.entity && last.object == checkpoint.object)
        {
            checkpoint.landed += last.landed;
            checkpoint.restart |= last.restart;
        }
        self.checkpoints.push(checkpoint);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= PORTION_BYTES || self.checkpoints.len() >= PORTION_OBJECTS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.checkpoints.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(records: Records) -> Batch {
        Batch::new(0, "a.csv".into(), 0, 1, records)
    }

    #[test]
    fn bytes_are_kept_where_the_payload_has_others() {
        let mut records = Records::default();
        let long = "é".repeat(RECORD_BYTES);
        records.push("1", "José");
        records.push_read("2", "Jos\u{fffd}", b"Jos\xe9");
        records.push("3", &long);
        let stream = Encoder::new().unwrap().encode(&batch(records)).unwrap();
        let batch = Batch::decode(0, "a.csv", 0, 1, &stream).unwrap();
        assert_eq!((batch.payload(0), batch.original(0)), ("José", None));
        assert_eq!((batch.payload(1), batch.original(1)), ("Jos\u{fffd}", Some(b"Jos\xe9".as_slice())));
        let kept = &long[..KEPT_BYTES];
        assert_eq!(
            (batch.payload(2), batch.original(2)),
            (&*format!("{kept}\u{fffd}"), Some(kept.as_bytes()))
        );
    }

    #[test]
    fn what_earlier_builds_landed_has_no_bytes() {
        let texts = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        let columns = [("position", texts("1")), ("payload", texts("Jos\u{fffd}"))];
        let records = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &records.schema()).unwrap();
        writer.write(&records).unwrap();
        let batch = Batch::decode(0, "a.csv", 0, 1, &writer.into_inner().unwrap()).unwrap();
        assert_eq!((batch.payload(0), batch.original(0)), ("Jos\u{fffd}", None));
    }
}
