//! Parquet files: each row is handed over as a JSON document.

use std::{fs, io, panic::catch_unwind, path::Path};

use arrow::{array::RecordBatch, error::ArrowError, json::LineDelimitedWriter};
use mesh::panic_text;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use sha2::{Digest, Sha256};

use super::{
    End,
    files::{File, Output, Reached},
};
use crate::{Error, landing::Records};

const ROWS: usize = 1024;

pub(super) fn read(file: &File, out: &mut Output<'_>) -> Result<(), End> {
    let digest = match digest(file) {
        Ok(digest) => digest,
        Err(error) => return out.fail(file, b"", "", format!("the file cannot be read: {error}")),
    };
    let known = file.known.as_ref().filter(|known| known.digest == digest);
    let skip: i64 = known.and_then(|known| known.position.parse().ok()).unwrap_or(0);
    let changed = file.known.is_some() && known.is_none();
    let mut restart = changed;
    // Once through before anything lands: a file that is torn in the middle is put aside as one, not taken in part.
    if let Err(reason) = check(&file.path, skip) {
        return out.fail(file, b"", &digest, format!("the file cannot be read as Parquet: {reason}"));
    }
    let unreadable = |error: ArrowError| Error::SourceUnreadable {
        place: file.path.display().to_string(),
        reason: error.to_string(),
    };
    let mut row = skip;
    for batch in rows(&file.path, skip).map_err(unreadable)? {
        let text = batch.and_then(|batch| documents(&batch, Vec::new())).map_err(unreadable)?;
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines().peekable();
        let mut records = Records::default();
        while let Some(line) = lines.next() {
            row += 1;
            records.push(&row.to_string(), line);
            if records.is_full() || lines.peek().is_none() {
                let first = row - records.count() as i64 + 1;
                let (position, digest) = (row.to_string(), digest.clone());
                let reached = Reached { position, digest, complete: false, restart, changed };
                out.add(file, first, std::mem::take(&mut records), reached)?;
                restart = false;
            }
        }
    }
    let reached = Reached { position: row.to_string(), digest, complete: true, restart, changed };
    out.add(file, row, Records::default(), reached)
}

/// Reads a file through.
fn check(path: &Path, skip: i64) -> Result<(), String> {
    let read = || rows(path, skip)?.try_for_each(|batch| documents(&batch?, io::sink()).map(drop));
    // The decoder trusts some of what a file says of itself, and panics where that is false.
    match catch_unwind(read) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => Err(panic_text(panic.as_ref()).to_owned()),
    }
}

fn rows(path: &Path, skip: i64) -> Result<ParquetRecordBatchReader, ArrowError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path)?)?;
    Ok(builder.with_batch_size(ROWS).with_offset(skip as usize).build()?)
}

/// Writes each row as a line.
fn documents<W: io::Write>(batch: &RecordBatch, out: W) -> Result<W, ArrowError> {
    let mut writer = LineDelimitedWriter::new(out);
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

fn digest(file: &File) -> io::Result<String> {
    let mut digest = Sha256::new();
    io::copy(&mut fs::File::open(&file.path)?, &mut digest)?;
    Ok(hex::encode(digest.finalize()))
}
