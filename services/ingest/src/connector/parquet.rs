//! Parquet files: each row is handed over as a JSON document.

use std::{fs, io};

use arrow::json::LineDelimitedWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
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
        Err(error) => return out.fail(file, "", "", format!("the file cannot be read: {error}")),
    };
    let known = file.known.as_ref().filter(|known| known.digest == digest);
    let skip: i64 = known.and_then(|known| known.position.parse().ok()).unwrap_or(0);
    let changed = file.known.is_some() && known.is_none();
    let mut restart = changed;
    let opened = fs::File::open(&file.path).map_err(|error| error.to_string()).and_then(|file| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
        builder.with_batch_size(ROWS).with_offset(skip as usize).build().map_err(|error| error.to_string())
    });
    let batches = match opened {
        Ok(batches) => batches,
        Err(reason) => return out.fail(file, "", &digest, format!("the file is no Parquet: {reason}")),
    };
    let mut row = skip;
    for batch in batches {
        let batch = batch.map_err(|error| Error::SourceUnreadable {
            place: file.path.display().to_string(),
            reason: error.to_string(),
        })?;
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(&batch)?;
        writer.finish()?;
        let lines = writer.into_inner();
        let mut records = Records::default();
        for line in String::from_utf8_lossy(&lines).lines() {
            row += 1;
            records.push(&row.to_string(), line);
        }
        let first = row - records.count() as i64 + 1;
        let reached =
            Reached { position: row.to_string(), digest: digest.clone(), complete: false, restart, changed };
        out.add(file, first, records, reached)?;
        restart = false;
    }
    let reached = Reached { position: row.to_string(), digest, complete: true, restart, changed };
    out.add(file, row, Records::default(), reached)
}

fn digest(file: &File) -> io::Result<String> {
    let mut digest = Sha256::new();
    io::copy(&mut fs::File::open(&file.path)?, &mut digest)?;
    Ok(hex::encode(digest.finalize()))
}
