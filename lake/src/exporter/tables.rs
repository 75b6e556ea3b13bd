//! The tables that an exporter writes, how far each is, and which of them cannot be written for now.
//!
//! Those that are set aside and all the others take turns, so that nobody waits for what another lacks.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    time::Duration,
};

use events::{Cursor, Event};
use tokio::time::Instant;

use super::{RETRY_FIRST, RETRY_LONGEST, pending::Pending};
use crate::{
    Error, TableName,
    dataset::{self, Progress, Store},
    openlineage,
    table::Table,
};

/// The tables of an exporter.
pub(super) struct Tables<'a> {
    store: &'a Store,
    table: &'static dyn Table,
    open: HashMap<TableName, (dataset::Table, Cursor)>,
    /// Every table that is not set aside has all of its events up to here.
    reached: Cursor,
    /// Tables whose events are passed over; who has waited longest comes first.
    aside: Vec<Aside>,
    /// Tables that have lost what they had, and get it again with all others.
    filled: Vec<TableName>,
    /// The one of those set aside whose turn it is.
    tried: Option<Aside>,
    /// Whose events are passed over until another release reads them, from where on: by subject, or by the name that no
    /// table can have.
    unread: BTreeMap<String, Cursor>,
    /// How long the turns of the others are, and as long are those of what is set aside together.
    pause: Duration,
    /// When those end that have begun.
    until: Option<Instant>,
}

/// A table that is set aside.
struct Aside {
    name: TableName,
    /// It has all of its events up to here; from here on they come again.
    has: Cursor,
    /// What was told of it.
    fault: String,
    /// Whether it has lost versions, or all that it had, whose events are read again for it.
    has_lost: bool,
    /// Whether to try again. What an event says stays as it is until another release reads it, which begins here too.
    is_retried: bool,
}

impl<'a> Tables<'a> {
    pub(super) async fn open(store: &'a Store, table: &'static dyn Table) -> Result<Self, Error> {
        let mut tables = Self {
            store,
            table,
            open: HashMap::new(),
            reached: Cursor::START,
            aside: Vec::new(),
            filled: Vec::new(),
            tried: None,
            unread: BTreeMap::new(),
            pause: RETRY_FIRST,
            until: None,
        };
        let mut behind = Vec::new();
        let mut names: BTreeSet<_> = store.names().await?.into_iter().collect();
        names.extend(openlineage::declared(store).await?);
        for name in names.into_iter().filter(|name| table.owns(name)) {
            match events::caught(tables.open_table(&name)).await {
                Ok((progress, has_lost)) => {
                    tables.reached = tables.reached.max(progress.settled);
                    if has_lost {
                        // What the others say of it no longer holds.
                        behind.push((Some(progress.has()), Error::Lost { table: name.clone() }, name));
                    }
                }
                Err(error) => behind.push((None, error, name)),
            }
        }
        for (has, error, name) in behind {
            match has {
                // Nobody has more: what comes again is for all.
                Some(has) if has >= tables.reached => {
                    tracing::warn!(consumer = table.source().consumer, %error, "filled with the others");
                    tables.filled.push(name);
                }
                has => tables.set_aside(name, has.unwrap_or(tables.reached), error),
            }
        }
        Ok(tables)
    }

    /// Where to read on in this turn: nothing before is lacking.
    pub(super) fn position(&self) -> Cursor {
        self.tried.as_ref().map_or(self.reached, |tried| tried.has)
    }

    /// Whether a table that had lost rows has them again, or is about to, and is still marked as one that has not.
    pub(super) fn is_marked(&self) -> bool {
        !self.filled.is_empty() || self.tried.as_ref().is_some_and(|tried| tried.has_lost)
    }

    /// All of the tables are at least here.
    pub(super) fn settled(&self) -> Cursor {
        self.settled_if(self.reached)
    }

    fn settled_if(&self, reached: Cursor) -> Cursor {
        let behind = self.aside.iter().chain(&self.tried).map(|aside| aside.has);
        behind.chain(self.unread.values().copied()).fold(reached, Ord::min)
    }

    /// When the turn is over at the latest, if any table is to have the next one.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether the turn is over for who has read so far.
    pub(super) fn is_over(&self, cursor: Cursor) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
            || self.tried.as_ref().is_some_and(|tried| cursor >= self.reached || !self.is_open(tried))
    }

    /// Whether there is nothing to write in this turn.
    pub(super) fn is_idle(&self) -> bool {
        self.table.is_one() && self.tried.is_none() && !(self.aside.is_empty() && self.unread.is_empty())
    }

    /// Whether a table is to be written that does not have what is at a position.
    pub(super) fn lacks(&self, name: &TableName, at: Cursor) -> bool {
        let cursor = self.open.get(name).map_or(Cursor::START, |(_, cursor)| *cursor);
        at > cursor && self.aside.iter().all(|aside| aside.name != *name)
    }

    /// Whether what is at a position waits for another release, because of what came before it.
    pub(super) fn waits(&self, subject: &str, at: Cursor) -> bool {
        match self.table.is_one() {
            true => self.unread.values().any(|from| at > *from),
            false => self.unread.get(subject).is_some_and(|from| at > *from),
        }
    }

    /// Passes over an event of which it cannot be said whose it is, and whatever its table may lack after it: of a family
    /// that is all of its subject. A name that no table can have is in nobody's way.
    pub(super) fn pass_over(&mut self, event: &Event, error: Error) {
        let whose = match &error {
            Error::Name { name, .. } => name.clone(),
            _ => event.subject.clone(),
        };
        let from = self.position();
        if let Entry::Vacant(place) = self.unread.entry(whose) {
            let (consumer, whose, error) = (self.table.source().consumer, place.key(), error.of_event(event));
            tracing::warn!(consumer, %whose, %error, "set aside until that is started; everything else goes on");
            place.insert(from);
        }
    }

    /// Passes over a table until its turn, or until another release. It has all of its events up to `has`, unless that
    /// is known already. The same reason is told once.
    fn set_aside(&mut self, name: TableName, has: Cursor, error: Error) {
        self.open.remove(&name);
        let has_lost = matches!(error, Error::Lost { .. });
        let is_retried = !matches!(error, Error::Event { .. });
        let fault = error.of(&name).to_string();
        let known = self.aside.iter_mut().chain(&mut self.tried).find(|aside| aside.name == name);
        if known.as_ref().is_none_or(|known| known.fault != fault) {
            let consumer = self.table.source().consumer;
            let hope = if is_retried { "tried again by itself" } else { "waiting until that is started" };
            tracing::warn!(consumer, error = fault, "set aside, and {hope}; everything else goes on");
        }
        match known {
            Some(known) => (known.fault, known.is_retried) = (fault, is_retried),
            None => self.aside.push(Aside { name, has, fault, has_lost, is_retried }),
        }
        if is_retried {
            self.until.get_or_insert_with(|| Instant::now() + self.pause);
        }
    }

    /// Begins the turns of what is set aside, and tells how many there are.
    pub(super) fn begin_turns(&mut self) -> usize {
        self.until = Some(Instant::now() + self.pause);
        self.aside.iter().filter(|aside| aside.is_retried).count()
    }

    /// Begins the turn of who has waited longest. False if there is no time left, or it cannot be opened.
    pub(super) async fn begin_turn(&mut self) -> bool {
        let is_late = self.until.is_some_and(|until| until <= Instant::now());
        let first = self.aside.iter().position(|aside| aside.is_retried);
        let Some(first) = first.filter(|_| !is_late) else { return false };
        let tried = self.tried.insert(self.aside.remove(first));
        let name = tried.name.clone();
        match events::caught(self.open_table(&name)).await {
            Ok((progress, has_lost)) => {
                self.reached = self.reached.max(progress.settled);
                if let Some(tried) = &mut self.tried {
                    let is_news = has_lost && !tried.has_lost;
                    let known = if is_news { Cursor::START } else { tried.has };
                    tried.has = progress.has().max(known);
                    tried.has_lost = has_lost;
                }
                // However long that took, there is time for it to come on.
                self.until = self.until.max(Some(Instant::now() + RETRY_FIRST));
                true
            }
            Err(error) => {
                self.set_aside(name, self.reached, error);
                false
            }
        }
    }

    /// Ends a table's turn: if it has what the others have, it is one of them again.
    pub(super) async fn end_turn(&mut self) {
        let Some(tried) = self.tried.take() else { return };
        if tried.has < self.reached || !self.is_open(&tried) {
            return self.aside.push(tried);
        }
        if tried.has_lost {
            self.mended(&tried.name).await;
        }
        tracing::info!(table = %tried.name, "written again");
    }

    /// To be told once nothing is left to be read: who is filled with the others has all again.
    pub(super) async fn caught_up(&mut self) {
        if self.tried.is_none() {
            for name in std::mem::take(&mut self.filled).iter().filter(|name| self.open.contains_key(*name)) {
                self.mended(name).await;
            }
        }
    }

    /// Forgets that a table had lost something.
    async fn mended(&self, name: &TableName) {
        if let Err(error) = self.store.mended(name).await {
            tracing::warn!(table = %name, %error, "its events are read again at the next start");
        }
    }

    /// Begins the turn of the others: until somebody else is to have one.
    pub(super) fn end_turns(&mut self) {
        self.until = None;
        if self.aside.iter().any(|aside| aside.is_retried) {
            self.pause = (self.pause * 2).min(RETRY_LONGEST);
            self.until = Some(Instant::now() + self.pause);
        } else {
            self.pause = RETRY_FIRST;
        }
    }

    fn is_open(&self, aside: &Aside) -> bool {
        self.open.contains_key(&aside.name)
    }

    /// How far the table is, and whether it has lost what it had.
    async fn open_table(&mut self, name: &TableName) -> Result<(Progress, bool), Error> {
        // Asked first: afterwards, another exporter may have made it meanwhile.
        let has_had_rows = openlineage::is_declared(self.store, name).await;
        let dataset = self.store.open(name.clone()).await?;
        let progress = dataset.progress(self.table.source().domain).await?;
        let mut has_lost = dataset.has_lost();
        if dataset.dataset().is_some() {
            self.declare(name).await;
        } else if has_had_rows? {
            // Once it has its first rows again, it looks as if it had all: who is killed then has to know.
            self.store.lost(name).await?;
            has_lost = true;
        }
        self.open.insert(name.clone(), (dataset, progress.cursor));
        Ok((progress, has_lost))
    }

    /// Commits what is pending, which is everything up to `cursor` that may be written in this turn.
    pub(super) async fn commit(&mut self, pending: Pending, cursor: Cursor) {
        let mut left = pending.events.len();
        for (name, held) in pending.events {
            left -= 1;
            // Only the last commit of a round can say so: a table that a crash kept from being made has no cursor that
            // could hold the others back.
            let settled = self.settled_if(if left == 0 { cursor } else { self.reached });
            // Not `cursor`: between the two may be what another release will know to be of this table.
            let progress = Progress { cursor: held.last, settled };
            let events = held.events.into_values().map(|(_, event)| event).collect();
            if let Err(error) = events::caught(self.commit_table(&name, events, progress)).await {
                self.set_aside(name, self.reached, error);
            }
        }
        match &mut self.tried {
            Some(tried) if self.open.contains_key(&tried.name) => tried.has = cursor,
            Some(_) => {}
            None => self.reached = cursor,
        }
    }

    async fn commit_table(
        &mut self,
        name: &TableName,
        events: Vec<Event>,
        progress: Progress,
    ) -> Result<(), Error> {
        let turn = self.store.turn().await?;
        let table = self.table;
        let change = tokio::task::spawn_blocking(move || table.change(events)).await??;
        if !self.open.contains_key(name) {
            let dataset = turn.open(name.clone()).await?;
            if dataset.dataset().is_some() {
                // Another exporter has made it meanwhile: what it has from the events must not come again.
                return Err(Error::Overtaken { table: name.clone() });
            }
            self.open.insert(name.clone(), (dataset, Cursor::START));
        }
        let Some((dataset, cursor)) = self.open.get_mut(name) else { return Ok(()) };
        let has_begun = dataset.dataset().is_some();
        dataset.commit(&turn, change, progress.properties(table.source().domain), &table.card()).await?;
        *cursor = progress.cursor;
        let is_new = !has_begun && dataset.dataset().is_some();
        if is_new {
            self.declare(name).await;
        }
        Ok(())
    }

    /// Says what a table is made of. Its rows matter more: nothing waits until that can be said.
    async fn declare(&self, name: &TableName) {
        if let Err(error) = openlineage::declare(self.store, self.table, name).await {
            tracing::warn!(table = %name, %error, "its lineage was not written; the next start tries again");
        }
    }
}
