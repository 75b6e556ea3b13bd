//! Files of lines: CSV and JSON Lines, read in one pass and in bounded memory, however long they are.
//!
//! A file that only grew is read on from where it ended; the digest of what was read before tells.

use std::{
    borrow::Cow,
    fs,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use encoding_rs::{Encoding, UTF_8};
use sha2::{Digest, Sha256};

use super::{
    End,
    files::{File, Output, Reached},
};
use crate::{
    Error,
    landing::{KEPT_BYTES, RECORD_BYTES, Records},
    mapping::Shape,
    source::Entity,
};

const BUFFER_BYTES: usize = 64 * 1024;
const LINE_BYTES: u64 = RECORD_BYTES as u64;
/// What spreadsheets begin a file of UTF-8 with.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

pub(super) fn read(file: &File, entity: &Entity, out: &mut Output<'_>) -> Result<(), End> {
    let mut lines = match Lines::open(&file.path, entity.encoding) {
        Ok(lines) => lines,
        Err(error) => return out.fail(file, b"", "", format!("the file cannot be read: {error}")),
    };
    let failed = |error: io::Error| Error::SourceUnreadable {
        place: file.path.display().to_string(),
        reason: error.to_string(),
    };
    let changed = !lines.resume(file, entity).map_err(failed)?;
    if lines.state.bytes == 0 && entity.schema.shape() == Shape::Row {
        lines.next().map_err(failed)?;
        let checked = entity.schema.check_header(&lines.text());
        if let Err(reason) = checked {
            let (start, digest) = lines.rest_of_bad_file(&file.path).map_err(failed)?;
            return out.fail(file, &start, &digest, reason);
        }
    }
    batches(lines, file, entity, changed, out, failed)
}

fn batches(
    mut lines: Lines,
    file: &File,
    entity: &Entity,
    changed: bool,
    out: &mut Output<'_>,
    failed: impl Fn(io::Error) -> Error,
) -> Result<(), End> {
    let mut records = Records::default();
    let mut restart = changed;
    let mut first = 0;
    // The last row of a full batch that is one.
    let mut last = String::new();
    loop {
        let before = records.is_full().then(|| lines.state.clone());
        let more = lines.next().map_err(&failed)?;
        let text = lines.text();
        if let Some(before) = before
            && more
            && (records.is_overfull() || are_apart(entity, &last, &text))
        {
            out.add(
                file,
                first,
                std::mem::take(&mut records),
                Reached { restart, changed, ..before.reached() },
            )?;
            restart = false;
            last.clear();
        }
        if !more {
            return out.add(
                file,
                first,
                records,
                Reached { complete: true, restart, changed, ..lines.state.reached() },
            );
        }
        if text.is_empty() {
            continue;
        }
        if records.count() == 0 {
            first = lines.state.lines;
        }
        records.push_read(&lines.state.lines.to_string(), &text, lines.bytes());
        if records.is_full() && (last.is_empty() || entity.schema.parse(&text).is_ok()) {
            last.clear();
            last.push_str(&text);
        }
    }
}

/// True where two rows are certainly not of one order. Of a bad row nobody knows: it may stand within an order.
fn are_apart(entity: &Entity, last: &str, next: &str) -> bool {
    if entity.group_by.is_empty() {
        return true;
    }
    match (entity.schema.parse(last), entity.schema.parse(next)) {
        (Ok(last), Ok(next)) => {
            entity.group_by.iter().any(|field| last.column(*field) != next.column(*field))
        }
        _ => false,
    }
}

/// A file's lines, and the digest of what was read of it.
struct Lines {
    reader: BufReader<fs::File>,
    line: Vec<u8>,
    is_cut_off: bool,
    encoding: &'static Encoding,
    state: State,
}

#[derive(Clone, Default)]
struct State {
    bytes: u64,
    lines: i64,
    digest: Sha256,
}

impl State {
    /// The start of a file, which is another one in another encoding.
    fn start(encoding: &'static Encoding) -> Self {
        let mut state = Self::default();
        if encoding != UTF_8 {
            state.digest.update(encoding.name());
        }
        state
    }

    fn digest(&self) -> String {
        hex::encode(self.digest.clone().finalize())
    }

    fn reached(&self) -> Reached {
        let position = format!("{} {}", self.bytes, self.lines);
        Reached { position, digest: self.digest(), complete: false, restart: false, changed: false }
    }
}

impl Lines {
    fn open(path: &Path, encoding: &'static Encoding) -> io::Result<Self> {
        let reader = BufReader::with_capacity(BUFFER_BYTES, fs::File::open(path)?);
        Ok(Self { reader, line: Vec::new(), is_cut_off: false, encoding, state: State::start(encoding) })
    }

    /// Reads the next line; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.is_cut_off = false;
        let read = self.reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut self.line)? as u64;
        self.state.digest.update(&self.line);
        self.state.bytes += read;
        self.state.lines += i64::from(read > 0);
        if read == LINE_BYTES && !self.line.ends_with(b"\n") {
            self.cut_off()?;
        }
        Ok(read > 0)
    }

    /// Passes over the rest of a line that is too long to be kept.
    fn cut_off(&mut self) -> io::Result<()> {
        // Not within a character of UTF-8: what is kept is as good as it was.
        let end = (0..=KEPT_BYTES).rev().find(|end| self.line[*end] & 0xc0 != 0x80);
        self.line.truncate(end.unwrap_or(KEPT_BYTES));
        self.is_cut_off = true;
        loop {
            let buffer = self.reader.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(buffer.len(), |end| end + 1);
            self.state.digest.update(&buffer[..length]);
            self.state.bytes += length as u64;
            self.reader.consume(length);
            if end.is_some() {
                self.line.push(b'\n');
            }
            if end.is_some() || length == 0 {
                return Ok(());
            }
        }
    }

    /// The line without its end; what marks the file's byte order is no part of its first line.
    fn bytes(&self) -> &[u8] {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mark = if self.state.lines == 1 { BYTE_ORDER_MARK } else { b"" };
        line.strip_prefix(mark).unwrap_or(line)
    }

    /// What the line reads: U+FFFD stands for what is no text, and marks where it was cut off.
    fn text(&self) -> Cow<'_, str> {
        let (text, _) = self.encoding.decode_without_bom_handling(self.bytes());
        if self.is_cut_off { text + "\u{fffd}" } else { text }
    }

    /// Goes to where reading ended the last time. False, and at the start, if the file is not what it was up to there,
    /// or goes on in the middle of an order: half of it was taken for the whole.
    fn resume(&mut self, file: &File, entity: &Entity) -> io::Result<bool> {
        let Some(known) = &file.known else { return Ok(true) };
        let bytes = known.position.split(' ').next().and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or(0);
        while self.state.bytes < bytes && self.next()? {}
        // A last line without an end may have grown meanwhile.
        let at_line_end = self.line.ends_with(b"\n") || self.reader.fill_buf()?.is_empty();
        if self.state.bytes == bytes
            && at_line_end
            && self.state.digest() == known.digest
            && (!known.complete || self.goes_on_apart(entity)?)
        {
            return Ok(true);
        }
        self.reader.rewind()?;
        self.state = State::start(self.encoding);
        Ok(false)
    }

    /// True if the next line, which is not taken, is no part of the last line's order.
    fn goes_on_apart(&mut self, entity: &Entity) -> io::Result<bool> {
        if entity.group_by.is_empty() {
            return Ok(true);
        }
        let state = self.state.clone();
        let last = self.text().into_owned();
        let more = self.next()?;
        let apart = !more || state.lines <= 1 || are_apart(entity, &last, &self.text());
        self.reader.seek(SeekFrom::Start(state.bytes))?;
        self.state = state;
        Ok(apart)
    }

    /// The start of the file, and the digest of all of it.
    fn rest_of_bad_file(&mut self, path: &Path) -> io::Result<(Vec<u8>, String)> {
        let mut start = Vec::new();
        fs::File::open(path)?.take(KEPT_BYTES as u64).read_to_end(&mut start)?;
        while self.next()? {}
        Ok((start, self.state.digest()))
    }
}
