//! Erasing a person: from every table, version, tag, branch, index and mirror of the lake, and for good.
//!
//! What is to go is written down first, as salted digests ([`deny`](crate::deny)). From then on every step goes by that
//! list alone, so that an erasure that is cut short is finished by the next one, whichever keys that one is given. The
//! tables of events lose the rows, what is computed of them is computed anew, and in the end every file that is left is
//! decoded and looked into.

mod landed;
mod subject;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Error, Layer, TableName,
    columns::{batch, integer, text, time},
    dataset::{Lock, Purged, Store, would_purge},
    deny::Denied,
    run::Runner,
};
use landed::Unclear;
use subject::Subject;

/// Directories of files that can be made again, or are worth nothing without what was erased.
const DISPOSABLE: [&str; 4] = ["_quarantine", "mirror", "_meta/runs", "_meta/openlineage"];

/// What an erasure has done. It says nothing of the person.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Erasure {
    /// The erasure's id; later ones have greater ones.
    pub erasure_id: String,
    /// When it began and ended.
    pub started_at: Timestamp,
    /// See `started_at`.
    pub finished_at: Timestamp,
    /// Salted digest of the keys that were given.
    pub subject: String,
    /// Keys that the person was searched for by.
    pub keys: u64,
    /// Values that were not: they are others' as well, or too short to be told from other values.
    pub keys_left_out: u64,
    /// What each table has lost that held something of the person; empty if no row of any held any of the keys.
    pub tables: BTreeMap<String, Loss>,
    /// By table and field, how many landed records hold what one of the keys is, though nobody says whom it names.
    pub unclear: Unclear,
    /// Files that were removed: mirrors, set aside manifests and records of runs.
    pub files_removed: u64,
    /// Files that were looked into at the end, and held nothing.
    pub files_searched: u64,
    /// Whether it has been verified that nothing is left that is known to be the person's; not so if nothing was to be
    /// done but to tell.
    pub verified: bool,
}

/// What a table has lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Rows of its newest version.
    pub rows: u64,
    /// Tags and branches whose version held such rows.
    pub references: Vec<String>,
}

impl From<Purged> for Loss {
    fn from(Purged { rows, references }: Purged) -> Self {
        Self { rows, references }
    }
}

/// An erasure that is under way.
struct Job<'a> {
    store: Arc<Store>,
    /// What all others wait for; nothing as long as it only tells.
    locks: &'a [Lock],
    denied: Arc<Denied>,
    keys: BTreeSet<String>,
    told: &'a (dyn Fn(&TableName) + Sync),
    erasure: Erasure,
}

/// Erases whoever `given` are the keys of. `told` hears of each table before it is looked into.
pub(crate) async fn erase(
    store: &Store,
    runner: &Runner,
    given: &[String],
    told: &(dyn Fn(&TableName) + Sync),
) -> Result<Erasure, Error> {
    let (store, locks) = store.alone().await?;
    let erased = erase_alone(Arc::new(store), &locks, runner, given, told).await;
    for lock in locks {
        lock.release().await;
    }
    erased
}

async fn erase_alone(
    store: Arc<Store>,
    locks: &[Lock],
    runner: &Runner,
    given: &[String],
    told: &(dyn Fn(&TableName) + Sync),
) -> Result<Erasure, Error> {
    let mut job = Job::begin(store, locks, runner, given, told).await?;
    job.denied = job.store.deny(job.denied.as_ref().clone()).await?;
    let computed = runner.tables().map(|table| table.name()).collect::<Result<BTreeSet<_>, _>>()?;
    let (computed, sources): (Vec<_>, Vec<_>) =
        job.tables().await?.into_iter().partition(|name| computed.contains(name));
    job.purge(&sources).await?;
    runner.of(Arc::clone(&job.store)).run(&[], told).await?;
    job.purge(&computed).await?;
    job.dispose().await?;
    job.verify().await?;
    job.record().await
}

/// Tells what [`erase`] would do.
pub(crate) async fn preview(
    store: Arc<Store>,
    runner: &Runner,
    given: &[String],
    told: &(dyn Fn(&TableName) + Sync),
) -> Result<Erasure, Error> {
    let mut job = Job::begin(store, &[], runner, given, told).await?;
    for name in job.tables().await? {
        told(&name);
        let found = job.store.search(&name.path(), &job.denied, &job.keys).await?;
        job.erasure.files_searched += found.searched;
        if !found.files.is_empty() {
            let loss = would_purge(&job.store, &name, &job.denied, &found.files).await?;
            job.erasure.tables.insert(name.to_string(), loss.into());
        }
    }
    job.erasure.unclear = landed::unclear(&job.store, &job.denied, &job.keys).await?;
    job.erasure.finished_at = Timestamp::now();
    Ok(job.erasure)
}

impl<'a> Job<'a> {
    async fn begin(
        store: Arc<Store>,
        locks: &'a [Lock],
        runner: &Runner,
        given: &[String],
        told: &'a (dyn Fn(&TableName) + Sync),
    ) -> Result<Self, Error> {
        let Subject { keys, left_out } = Subject::of(&store, &runner.runtime(), given).await?;
        let denied = store.denied().await?.naming(runner.persons());
        let denied = denied.finding(landed::subject_keys(&store).await?);
        let denied = Arc::new(denied.with(keys.iter().map(String::as_str)));
        let mut given: Vec<_> = given.iter().map(|key| key.trim()).collect();
        given.sort_unstable();
        let erasure = Erasure {
            erasure_id: Uuid::now_v7().to_string(),
            started_at: Timestamp::now(),
            subject: denied.digest(&given.join("\n")),
            keys: keys.len() as u64,
            keys_left_out: left_out,
            ..Erasure::default()
        };
        Ok(Self { store, locks, denied, keys, told, erasure })
    }

    /// Every table, those of the lake's own among them.
    async fn tables(&self) -> Result<Vec<TableName>, Error> {
        let own = self.store.files(Layer::Meta.as_str()).await?;
        let own =
            own.iter().filter_map(|file| TableName::new(Layer::Meta, file.strip_suffix(".lance")?).ok());
        Ok(self.store.names().await?.into_iter().chain(own).collect())
    }

    async fn purge(&mut self, names: &[TableName]) -> Result<(), Error> {
        for name in names {
            (self.told)(name);
            let found = self.store.search(&name.path(), &self.denied, &self.keys).await?;
            self.still().await?;
            let mut table = self.store.open(name.clone()).await?;
            if found.files.is_empty() && !table.is_half_cleaned().await? {
                continue;
            }
            if table.dataset().is_none() {
                // A table that was never finished is made of nothing but such files.
                self.store.remove(&found.files).await?;
                self.erasure.files_removed += found.files.len() as u64;
                continue;
            }
            let purged = table.purge(&self.denied, &found.files, self.erasure.started_at).await?;
            tracing::info!(table = %name, rows = purged.rows, references = ?purged.references, "erased");
            self.erasure.tables.insert(name.to_string(), purged.into());
        }
        Ok(())
    }

    /// Removes what holds a key beside the tables; of a mirrored version all, as it is nothing without a part.
    async fn dispose(&mut self) -> Result<(), Error> {
        // What is set aside marks tables that lack something: they lack it as well once that is gone.
        for table in self.store.that_lost().await? {
            self.store.lost(&table).await?;
        }
        for directory in DISPOSABLE {
            let found = self.store.search(directory, &self.denied, &self.keys).await?;
            let mut files = found.files;
            if directory == "mirror" {
                files = self.store.beside(directory, &files).await?;
            }
            self.still().await?;
            self.store.remove(&files).await?;
            self.erasure.files_removed += files.len() as u64;
        }
        Ok(())
    }

    /// Fails if others may be writing after all.
    async fn still(&self) -> Result<(), Error> {
        for lock in self.locks {
            if !lock.is_held().await? {
                return Err(Error::Erasure("it stood still, and others write again".to_owned()));
            }
        }
        Ok(())
    }

    /// Fails if anything that is known to be the person's is left anywhere, in whatever form.
    async fn verify(&mut self) -> Result<(), Error> {
        let found = self.store.search("", &self.denied, &self.keys).await?;
        if let Some(file) = found.files.first() {
            let count = found.files.len();
            let reason = format!("{count} files still hold what was to be erased, {file} among them");
            return Err(Error::Erasure(reason));
        }
        for table in self.erasure.tables.keys() {
            let table = self.store.open(table.parse()?).await?;
            if let Some(fault) = table.fault(self.erasure.started_at).await? {
                return Err(Error::Erasure(format!("of table {}, {fault}", table.name())));
            }
        }
        self.erasure.unclear = landed::unclear(&self.store, &self.denied, &self.keys).await?;
        self.still().await?;
        self.erasure.files_searched = found.searched;
        self.erasure.verified = true;
        Ok(())
    }

    async fn record(mut self) -> Result<Erasure, Error> {
        self.erasure.finished_at = Timestamp::now();
        let name = TableName::new(Layer::Meta, "erasures")?;
        self.store.append(&name, self.erasure.row()?).await?;
        Ok(self.erasure)
    }
}

impl Erasure {
    fn row(&self) -> Result<arrow::array::RecordBatch, Error> {
        let at = |time: Timestamp| {
            std::iter::once(Some(prost_types::Timestamp {
                seconds: time.as_second(),
                nanos: time.subsec_nanosecond(),
            }))
        };
        let one = |value: u64| std::iter::once(value.cast_signed());
        let tables = serde_json::to_string(&self.tables).unwrap_or_default();
        // Names of fields may be persons' names.
        let unclear = self.unclear.iter().map(|(table, fields)| (table, fields.values().sum()));
        let unclear = serde_json::to_string(&unclear.collect::<BTreeMap<_, u64>>()).unwrap_or_default();
        Ok(batch(vec![
            text("erasure_id", std::iter::once(self.erasure_id.as_str())).key(1),
            time("started_at", at(self.started_at)),
            time("finished_at", at(self.finished_at)),
            text("subject", std::iter::once(self.subject.as_str())),
            integer("keys", one(self.keys)),
            integer("keys_left_out", one(self.keys_left_out)),
            integer("rows", one(self.tables.values().map(|loss| loss.rows).sum())),
            text("tables", std::iter::once(tables.as_str())),
            text("unclear", std::iter::once(unclear.as_str())),
            integer("files_removed", one(self.files_removed)),
            integer("files_searched", one(self.files_searched)),
        ])?)
    }
}
