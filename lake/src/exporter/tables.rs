//! The tables that an exporter writes, how far each is, and which of them cannot be written for now.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use events::{Cursor, Event};
use tokio::time::Instant;

use super::{RETRY_FIRST, RETRY_LONGEST, pending::Pending};
use crate::{
    Error, Layer, TableName,
    dataset::{self, Progress, Store},
    openlineage,
    table::Table,
};

/// The tables of an exporter.
pub(super) struct Tables<'a> {
    store: &'a Store,
    table: &'static dyn Table,
    open: HashMap<TableName, (dataset::Table, Cursor)>,
    /// All of them are at least here. Only the last commit of a round can say so: a table that a crash kept from being
    /// made has no cursor that could hold the others back.
    settled: Cursor,
    /// Tables whose events are passed over until they can be written again; none stands for events of no table. From
    /// where everything is settled, which stays where it is meanwhile, they come again.
    aside: BTreeSet<Option<TableName>>,
    /// What was told of each, and of events up to where.
    faults: BTreeMap<Option<TableName>, (String, Cursor)>,
    /// When to try again, and how long to wait the next time.
    again: Option<Instant>,
    pause: Duration,
}

impl<'a> Tables<'a> {
    pub(super) async fn open(store: &'a Store, table: &'static dyn Table) -> Result<Self, Error> {
        let mut tables = Self {
            store,
            table,
            open: HashMap::new(),
            settled: Cursor::START,
            aside: BTreeSet::new(),
            faults: BTreeMap::new(),
            again: None,
            pause: RETRY_FIRST,
        };
        let names = store.names().await?.into_iter().filter(|name| table.owns(name));
        tables.open_all(names.collect()).await;
        Ok(tables)
    }

    /// All of the tables are at least here.
    pub(super) fn settled(&self) -> Cursor {
        self.settled
    }

    /// When what was set aside is to be tried again.
    pub(super) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Whether all that there is to write is set aside: of silver an exporter has but one table.
    pub(super) fn has_no_other(&self) -> bool {
        self.aside.iter().flatten().any(|name| name.layer() != Layer::Bronze)
    }

    /// Whether a table is to be written that does not have what is at a position.
    pub(super) fn lacks(&self, name: &TableName, at: Cursor) -> bool {
        let cursor = self.open.get(name).map_or(Cursor::START, |(_, cursor)| *cursor);
        at > cursor && self.aside.iter().all(|aside| aside.as_ref() != Some(name))
    }

    /// Opens what was set aside anew.
    pub(super) async fn mend(&mut self) {
        self.again = None;
        let aside = std::mem::take(&mut self.aside);
        self.open_all(aside.into_iter().flatten().collect()).await;
    }

    async fn open_all(&mut self, names: Vec<TableName>) {
        let mut is_torn = false;
        for name in names {
            match events::caught(self.open_table(&name)).await {
                Ok(was_torn) => is_torn |= was_torn,
                Err(error) => self.set_aside(Some(name), error, self.settled),
            }
        }
        if is_torn {
            // What the others say no longer holds for the table that lost versions.
            self.settled = Cursor::START;
        }
    }

    /// True if the table had lost versions.
    async fn open_table(&mut self, name: &TableName) -> Result<bool, Error> {
        let dataset = self.store.open(name.clone()).await?;
        let progress = dataset.progress(self.table.source().domain).await?;
        let was_torn = dataset.was_torn();
        if dataset.dataset().is_some() {
            self.declare(name).await;
        }
        self.settled = self.settled.max(progress.settled);
        self.open.insert(name.clone(), (dataset, progress.cursor));
        Ok(was_torn)
    }

    /// Passes over a table, or what is of no table, until it is tried again. The same reason is told once.
    pub(super) fn set_aside(&mut self, name: Option<TableName>, error: Error, at: Cursor) {
        let error = match &name {
            Some(name) => error.of(name).to_string(),
            None => error.to_string(),
        };
        if self.faults.get(&name).is_none_or(|(told, _)| *told != error) {
            let consumer = self.table.source().consumer;
            tracing::warn!(consumer, error, "set aside, and tried again by itself; everything else goes on");
        }
        let until = self.faults.get(&name).map_or(at, |(_, until)| at.max(*until));
        self.faults.insert(name.clone(), (error, until));
        if let Some(name) = &name {
            self.open.remove(name);
        }
        self.aside.insert(name);
        if self.again.is_none() {
            self.again = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(RETRY_LONGEST);
        }
    }

    /// Commits what is pending, which is everything up to `cursor`, but for what is set aside.
    pub(super) async fn commit(&mut self, pending: Pending, cursor: Cursor) {
        let mut left = pending.events.len();
        for (name, events) in pending.events {
            left -= 1;
            let settled = if left == 0 && self.aside.is_empty() { cursor } else { self.settled };
            let events = events.into_values().map(|(_, event)| event).collect();
            let progress = Progress { cursor, settled };
            if let Err(error) = events::caught(self.commit_table(&name, events, progress)).await {
                self.set_aside(Some(name), error, cursor);
            }
        }
        self.settle(cursor);
    }

    /// Takes note that every table is here, unless one is set aside. False if one is.
    pub(super) fn settle(&mut self, cursor: Cursor) -> bool {
        if !self.aside.is_empty() {
            return false;
        }
        self.settled = cursor;
        self.faults.retain(|name, (_, until)| {
            let lasts = *until > cursor;
            if let Some(table) = name.as_ref().filter(|_| !lasts) {
                tracing::info!(%table, "written again");
            }
            lasts
        });
        if self.faults.is_empty() {
            self.pause = RETRY_FIRST;
        }
        true
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
        let is_new = !self.open.contains_key(name);
        if is_new {
            let dataset = turn.open(name.clone()).await?;
            if dataset.dataset().is_some() {
                // Another exporter has made it meanwhile: what it has from the events must not come again.
                return Err(Error::Overtaken { table: name.clone() });
            }
            self.open.insert(name.clone(), (dataset, Cursor::START));
        }
        if let Some((dataset, cursor)) = self.open.get_mut(name) {
            dataset.commit(&turn, change, progress.properties(table.source().domain), &table.card()).await?;
            *cursor = progress.cursor;
        }
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

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{
        Root,
        table::{self, Route},
    };

    #[tokio::test]
    async fn what_is_set_aside_is_named_and_holds_back_what_is_settled_until_it_is_written() {
        let directory = TempDir::new().unwrap();
        let store = Store::create(&Root::from(directory.path())).unwrap();
        let mut tables = Tables::open(&store, table::ALL[0]).await.unwrap();
        let [first, second]: [Cursor; 2] = ["0-7", "0-8"].map(|text| text.parse().unwrap());
        let name: TableName = "bronze/bronze_shop__orders".parse().unwrap();
        let bad = || {
            let mut pending = Pending::default();
            let event = Event {
                id: "e-1".to_owned(),
                cursor: first.to_string(),
                payload: vec![0xff_u8].into(),
                ..Event::default()
            };
            pending.push(Route { table: name.clone(), key: "e-1".to_owned(), rank: 0, rows: 1 }, event);
            pending
        };
        tables.commit(bad(), first).await;
        let (told, until) = &tables.faults[&Some(name.clone())];
        for part in ["lake table bronze/bronze_shop__orders", "event e-1 at 0-7", "makes no rows"] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!((*until, tables.settled(), tables.again().is_some()), (first, Cursor::START, true));
        let other: TableName = "bronze/bronze_shop__customers".parse().unwrap();
        assert!(!tables.lacks(&name, second) && tables.lacks(&other, second));
        assert!(!tables.settle(second) && tables.settled() == Cursor::START);

        // It is tried again, later each time, until it is over what could not be written.
        tables.mend().await;
        assert!(tables.lacks(&name, first) && tables.again().is_none());
        let pause = tables.pause;
        tables.commit(bad(), first).await;
        assert!(tables.pause > pause && tables.faults.len() == 1);
        tables.mend().await;
        assert!(tables.settle(second) && tables.settled() == second);
        assert!(tables.faults.is_empty() && tables.pause == RETRY_FIRST);
    }
}
