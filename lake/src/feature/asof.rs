//! The point-in-time join: of an entity's rows, the one that was current at a time, by what was known at that time.
//!
//! That is, of the rows with `event_time <= T`, `known_at <= T` and `event_time > T - ttl`, the one with the greatest
//! event time, and of those with the same one the one that became known last. Offline and online answers come from here.

use std::{ops::Range, thread};

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array},
    buffer::NullBuffer,
    datatypes::TimestampMicrosecondType,
    error::ArrowError,
};
use datafusion::common::HashMap;

/// Where there is no row.
const NONE: u32 = u32::MAX;
/// Rows that are worth a thread.
const ROWS: usize = 32_768;

/// Rows of entities in the order of time, to be asked for those of any moment.
///
/// Built over a table whose first three columns are the entity, the event time and the time from which it was known.
#[derive(Debug)]
pub(crate) struct Timelines {
    table: RecordBatch,
    entities: HashMap<Box<str>, Range<usize>>,
    event: Vec<i64>,
    known: Vec<i64>,
    earlier: Vec<Earlier>,
    rows: Vec<u32>,
}

/// Ways from a row that was not known yet to earlier ones that may have been.
#[derive(Debug, Clone, Copy)]
struct Earlier {
    /// The nearest of the entity's rows before it that became known before it.
    next: u32,
    /// One further along these ways, so that the longest walk takes logarithmic time.
    jump: u32,
}

impl Timelines {
    pub(crate) fn new(table: RecordBatch) -> Result<Self, ArrowError> {
        let (entity, event, known) = keys(&table)?;
        let (groups, group) = groups(entity);
        let (event, known) = (event.values(), known.values());
        let mut rows: Vec<u32> = (0..table.num_rows() as u32).collect();
        let place = |row: &u32| {
            let row = *row as usize;
            (group[row], event[row], known[row])
        };
        // A table that was written in order is found in order.
        if !rows.is_sorted_by_key(place) {
            rows.sort_by_key(place);
        }
        let event: Vec<_> = rows.iter().map(|row| event[*row as usize]).collect();
        let known: Vec<_> = rows.iter().map(|row| known[*row as usize]).collect();
        let mut entities = HashMap::with_capacity(groups.len());
        let mut earlier = Vec::with_capacity(rows.len());
        let mut start = 0;
        for (number, name) in groups.into_iter().enumerate() {
            let more = rows[start..].partition_point(|row| group[*row as usize] == number as u32);
            link(&known, start..start + more, &mut earlier);
            entities.insert(name, start..start + more);
            start += more;
        }
        Ok(Self { table, entities, event, known, earlier, rows })
    }

    /// The rows that it was built over.
    pub(crate) fn table(&self) -> &RecordBatch {
        &self.table
    }

    /// The row of the table that was current for `entity` at `time`.
    pub(crate) fn current(&self, entity: &str, time: i64, ttl: i64) -> Option<usize> {
        let row = self.find(self.entities.get(entity)?, time, ttl);
        (row != NONE).then_some(row as usize)
    }

    /// An entity's event times in their order, each with its row that became known last.
    pub(crate) fn events(&self, entity: &str) -> impl Iterator<Item = (i64, usize)> {
        let range = self.entities.get(entity).cloned().unwrap_or_default();
        let end = range.end;
        let is_last = move |index: &usize| index + 1 == end || self.event[index + 1] != self.event[*index];
        range.filter(is_last).map(|index| (self.event[index], self.rows[index] as usize))
    }

    /// Every entity.
    pub(crate) fn entities(&self) -> impl Iterator<Item = &str> {
        self.entities.keys().map(AsRef::as_ref)
    }

    fn find(&self, range: &Range<usize>, time: i64, ttl: i64) -> u32 {
        let passed = self.event[range.clone()].partition_point(|event| *event <= time);
        if passed == 0 {
            return NONE;
        }
        let mut index = range.start + passed - 1;
        while self.known[index] > time {
            let Earlier { next, jump } = self.earlier[index];
            let is_far = jump == NONE || self.known[jump as usize] <= time;
            match if is_far { next } else { jump } {
                NONE => return NONE,
                found => index = found as usize,
            }
        }
        if self.event[index] > time.saturating_sub(ttl) { self.rows[index] } else { NONE }
    }

    /// For each entity and time the row of the table that was current.
    pub(crate) fn join(
        &self,
        entities: &StringArray,
        times: &TimestampMicrosecondArray,
        ttl: i64,
    ) -> UInt32Array {
        let mut rows = vec![NONE; entities.len()];
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = rows.len().div_ceil(threads).max(ROWS);
        thread::scope(|scope| {
            let find = |(number, rows): (usize, &mut [u32])| {
                self.find_all(rows, entities, times, number * share, ttl)
            };
            let mut shares = rows.chunks_mut(share).enumerate();
            // The first share, which is often the only one, needs no other thread.
            let first = shares.next();
            for share in shares {
                scope.spawn(move || find(share));
            }
            if let Some(first) = first {
                find(first);
            }
        });
        let found = NullBuffer::from_iter(rows.iter().map(|row| *row != NONE));
        UInt32Array::new(rows.into(), Some(found))
    }

    fn find_all(
        &self,
        rows: &mut [u32],
        entities: &StringArray,
        times: &TimestampMicrosecondArray,
        first: usize,
        ttl: i64,
    ) {
        let mut before: Option<(&str, &Range<usize>)> = None;
        for (index, row) in (first..).zip(rows) {
            if entities.is_null(index) || times.is_null(index) {
                continue;
            }
            // Whoever asks often asks for an entity's times one after the other.
            let entity = entities.value(index);
            let (_, range) = match before {
                Some(same) if same.0 == entity => same,
                _ => (entity, self.entities.get(entity).unwrap_or(&(0..0))),
            };
            before = Some((entity, range));
            *row = self.find(range, times.value(index), ttl);
        }
    }
}

pub(super) fn keys(
    table: &RecordBatch,
) -> Result<(&StringArray, &TimestampMicrosecondArray, &TimestampMicrosecondArray), ArrowError> {
    let invalid =
        || ArrowError::SchemaError("the table lacks its entity, event time or known time".to_owned());
    let [entity, event, known, ..] = table.columns() else { return Err(invalid()) };
    let time = |column: &dyn Array| column.as_primitive_opt::<TimestampMicrosecondType>().is_some();
    let is_whole = [entity, event, known].iter().all(|column| column.null_count() == 0);
    if !(is_whole && time(event) && time(known)) {
        return Err(invalid());
    }
    Ok((entity.as_string_opt().ok_or_else(invalid)?, event.as_primitive(), known.as_primitive()))
}

/// The distinct names in the order in which they come, and the number of each row's.
fn groups(entities: &StringArray) -> (Vec<Box<str>>, Vec<u32>) {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut names: Vec<Box<str>> = Vec::new();
    let mut before = ("", NONE);
    let numbered = entities.iter().map(|entity| {
        let entity = entity.unwrap_or_default();
        if entity != before.0 || before.1 == NONE {
            let number = numbers.entry(entity).or_insert_with(|| {
                names.push(entity.into());
                names.len() as u32 - 1
            });
            before = (entity, *number);
        }
        before.1
    });
    let numbered = numbered.collect();
    (names, numbered)
}

/// Adds the links of one entity's rows. Along `next` each row became known earlier than the one before; `jump` skips
/// ever more of them, as in a skew-binary list.
fn link(known: &[i64], range: Range<usize>, earlier: &mut Vec<Earlier>) {
    let first = range.start;
    let mut depths: Vec<u32> = Vec::with_capacity(range.len());
    for index in range {
        let mut next = if index == first { NONE } else { index as u32 - 1 };
        while next != NONE && known[next as usize] >= known[index] {
            next = earlier[next as usize].next;
        }
        let depth = |row: u32| if row == NONE { 0 } else { depths[row as usize - first] };
        let jump_of = |row: u32| if row == NONE { NONE } else { earlier[row as usize].jump };
        let (near, far) = (jump_of(next), jump_of(jump_of(next)));
        let is_even = next != NONE && depth(next) - depth(near) == depth(near) - depth(far);
        let jump = if is_even { far } else { next };
        let depth = depth(next) + 1;
        depths.push(depth);
        earlier.push(Earlier { next, jump });
    }
}

#[cfg(test)]
mod tests;
