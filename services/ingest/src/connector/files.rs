//! The files connector: a folder whose files are found by glob, and read again only where they changed.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{End, Known, KnownObjects, Sink, lines, parquet};
use crate::{
    Error,
    definition::Format,
    domain::WHOLE_OBJECT,
    landing::{Batch, Checkpoint, Encoder, Portion, Records},
    source::{self, Place, Source},
};

/// A file that has something new.
#[derive(Debug)]
pub(super) struct File {
    pub(super) entity: usize,
    pub(super) object: Arc<str>,
    pub(super) path: PathBuf,
    pub(super) size: i64,
    /// Nanoseconds since 1970.
    pub(super) mtime: i64,
    pub(super) known: Option<Known>,
}

/// Reads what is new below `root`. Blocks.
pub(crate) fn read(
    source: &Source,
    root: &Path,
    format: Format,
    known: KnownObjects,
    sink: &Sink,
) -> Result<(), End> {
    let (files, mut unreadable) = find(source, root, known);
    sink.expect(files.len());
    let mut out = Output { sink, encoder: Encoder::new()?, portion: Portion::default() };
    for file in &files {
        let entity = &source.entities[file.entity];
        let read = match format {
            Format::Csv | Format::Jsonl => lines::read(file, entity, &mut out),
            Format::Parquet => parquet::read(file, &mut out),
        };
        match read {
            Err(End::Failed(error)) => drop(unreadable.get_or_insert(error)),
            read => read?,
        }
        if out.portion.is_full() {
            out.flush()?;
        }
    }
    out.flush()?;
    unreadable.map_or(Ok(()), |error| Err(End::Failed(error)))
}

/// The files that an entity's glob names and that are not as they were, by name; and the first place that kept its
/// files to itself.
fn find(source: &Source, root: &Path, mut known: KnownObjects) -> (Vec<File>, Option<Error>) {
    let mut files = Vec::new();
    let mut unreadable = None;
    for entry in walkdir::WalkDir::new(root).follow_links(true) {
        let read = entry.and_then(|entry| Ok((entry.metadata()?, entry)));
        let (metadata, entry) = match read {
            Ok(read) => read,
            Err(error) => {
                let place = error.path().unwrap_or(root).display().to_string();
                let reason = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                unreadable.get_or_insert(Error::SourceUnreadable { place, reason });
                continue;
            }
        };
        let Ok(object) = entry.path().strip_prefix(root) else { continue };
        let object = object.to_string_lossy();
        let globbed =
            |place: &Place| matches!(place, Place::Files(glob) if glob.matches_with(&object, source::GLOB));
        let entity = source.entities.iter().position(|entity| globbed(&entity.place));
        let Some(entity) = entity.filter(|_| metadata.is_file()) else { continue };
        let size = i64::try_from(metadata.size()).unwrap_or(i64::MAX);
        let mtime = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        let known = known[entity].remove(&*object);
        if !known.as_ref().is_some_and(|known| known.complete && known.size == size && known.mtime == mtime) {
            let object = object.as_ref().into();
            files.push(File { entity, object, path: entry.into_path(), size, mtime, known });
        }
    }
    files.sort_by(|a, b| (a.entity, &a.object).cmp(&(b.entity, &b.object)));
    (files, unreadable)
}

/// How far a file is read that was put aside as a whole.
const PUT_ASIDE: &str = "aside";

/// What is being handed over.
pub(super) struct Output<'s> {
    sink: &'s Sink,
    encoder: Encoder,
    portion: Portion,
}

impl Output<'_> {
    /// Adds records of a file, and how far it is with them; hands over what has become a portion.
    pub(super) fn add(
        &mut self,
        file: &File,
        first_position: i64,
        records: Records,
        reached: Reached,
    ) -> Result<(), End> {
        let landed = records.count() as i64;
        let known = file.known.as_ref().map_or(0, |known| known.revision);
        let revision = known + i64::from(reached.changed);
        if landed > 0 {
            let batch = Batch::new(file.entity, Arc::clone(&file.object), revision, first_position, records);
            self.portion.push(batch, &mut self.encoder)?;
        }
        let complete = reached.complete;
        self.portion.reach(Checkpoint {
            entity: file.entity,
            object: Arc::clone(&file.object),
            size: file.size,
            mtime: file.mtime,
            position: reached.position,
            digest: reached.digest,
            complete,
            restart: reached.restart,
            revision,
            landed,
            failure: None,
        });
        if !complete && self.portion.is_full() { self.flush() } else { Ok(()) }
    }

    /// Puts a file aside that is not what it should be; `digest` is empty where it has to be tried again.
    pub(super) fn fail(
        &mut self,
        file: &File,
        start: &[u8],
        digest: &str,
        reason: String,
    ) -> Result<(), End> {
        let (position, digest) = (PUT_ASIDE.to_owned(), digest.to_owned());
        let changed =
            !file.known.as_ref().is_some_and(|known| known.position == position && known.digest == digest);
        let reached = Reached { complete: !digest.is_empty(), position, digest, restart: changed, changed };
        let mut records = Records::default();
        if !changed {
            return self.add(file, 0, records, reached);
        }
        records.push_read(WHOLE_OBJECT, &String::from_utf8_lossy(start), start);
        self.add(file, 0, records, reached)?;
        if let Some(checkpoint) = self.portion.checkpoints.last_mut() {
            checkpoint.failure = Some(reason);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), End> {
        let portion = std::mem::take(&mut self.portion);
        if portion.is_empty() { Ok(()) } else { Ok(self.sink.blocking_send(portion)?) }
    }
}

/// How far a file is read.
pub(super) struct Reached {
    /// For the reader to go on from.
    pub(super) position: String,
    /// Of everything before the position.
    pub(super) digest: String,
    pub(super) complete: bool,
    /// These are its first records since it became another.
    pub(super) restart: bool,
    /// It is another than it was.
    pub(super) changed: bool,
}
