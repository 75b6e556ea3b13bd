//! A table on disk: the only module that knows Lance.
//!
//! A commit is in three steps, each on disk before the next: data files, the manifest that names them, and only then is
//! anybody told. Lance itself syncs nothing, so a power cut may leave a manifest torn; [`heal`] sets it aside.

mod durable;
mod exclusive;
mod feed;
mod files;
mod heal;
mod index;
mod lock;
mod publish;
mod purge;
mod search;
mod turn;
mod upkeep;
mod version;
mod write;

use std::{collections::HashMap, fs, sync::Arc};

use arrow::{array::RecordBatch, datatypes::Schema};
use events::Cursor;
use futures::{Stream, TryStreamExt};
use lance::{
    Error as LanceError,
    dataset::{
        CommitBuilder, Dataset, InsertBuilder, WhenMatched, WriteMode, WriteParams,
        builder::DatasetBuilder,
        transaction::{Operation, Transaction},
    },
    session::Session,
};
use lance_file::version::LanceFileVersion;
use lance_io::object_store::ObjectStore;
use object_store::path::Path as ObjectPath;
use tokio::sync::{Mutex, OnceCell};

use crate::{
    Error, Layer, Root, TableName,
    card::Card,
    deny::Denied,
    root,
    run::PROD,
    table::{Change, RECORDED_TO, is_computed, own},
};
use durable::Durable;
pub(crate) use feed::changed_values;
pub(crate) use lock::Lock;
pub(crate) use publish::{Published, digest, identity};
pub(crate) use purge::{Purged, would_purge};
pub(crate) use turn::Turn;
pub use version::Version;
use write::{append, dressed, filter, merge, quoted};

/// What Lance may cache of indices and of metadata, over all tables.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
pub(crate) const VERSION: LanceFileVersion = LanceFileVersion::V2_2;

/// The lake.
#[derive(Debug)]
pub(crate) struct Store {
    root: Root,
    session: Arc<Session>,
    /// The root's files.
    objects: OnceCell<(Arc<ObjectStore>, ObjectPath)>,
    /// What is denied, as far as it is known here.
    turn: Mutex<Arc<Denied>>,
    /// Whether all others wait for it.
    is_alone: bool,
}

impl Store {
    /// The lake in `root`, whose directories are made where they are missing.
    pub(crate) fn create(root: &Root) -> Result<Self, Error> {
        if let Some(directory) = root.directory() {
            for layer in Layer::ALL {
                let path = directory.join(layer.as_str());
                fs::create_dir_all(&path).map_err(|source| Error::Files { path, source })?;
            }
        }
        Ok(Self::existing(root))
    }

    /// The lake in `root`.
    pub(crate) fn existing(root: &Root) -> Self {
        let session = Session::new(CACHE_BYTES, CACHE_BYTES, root::registry());
        Self {
            root: root.clone(),
            session: Arc::new(session),
            objects: OnceCell::new(),
            turn: Mutex::default(),
            is_alone: false,
        }
    }

    /// Adds rows to a table of the lake's own.
    pub(crate) async fn append(&self, name: &TableName, rows: RecordBatch) -> Result<(), Error> {
        let turn = self.turn().await?;
        let change = Change::Append(vec![rows]);
        turn.open(name.clone()).await?.commit(&turn, change, HashMap::new(), &own::card(name)).await
    }

    /// Opens a table for writing, healed if it needs to be.
    pub(crate) async fn open(&self, name: TableName) -> Result<Table, Error> {
        let _shared = self.shared().await?;
        self.open_unlocked(name).await
    }

    async fn open_unlocked(&self, name: TableName) -> Result<Table, Error> {
        let revision = self.denied().await?.revision();
        let directory = self.root.directory().map(|root| root.join(name.path()));
        let quarantine = quarantine(&name);
        let has_lost = match self.root.directory() {
            Some(root) => heal::heal(&root.join(name.path()), &root.join(quarantine))?,
            // A bucket has an object as a whole, or not at all.
            None => self.has_lost(&name).await?,
        };
        let dataset = self.load(&name).await?;
        Ok(Table {
            uri: self.root.at(&name.path()),
            name,
            dataset,
            has_lost,
            revision,
            session: Arc::clone(&self.session),
            durable: Durable::new(directory),
        })
    }

    /// Whether a table has lost rows and may not have them again yet.
    pub(crate) async fn has_lost(&self, name: &TableName) -> Result<bool, Error> {
        Ok(!self.files(&quarantine(name)).await?.is_empty())
    }

    /// Every table that has lost rows and may not have them again yet.
    pub(crate) async fn that_lost(&self) -> Result<Vec<TableName>, Error> {
        self.named(&format!("{QUARANTINE}/"), "").await
    }

    /// Says that a table has lost rows.
    pub(crate) async fn lost(&self, name: &TableName) -> Result<(), Error> {
        let told = format!("{name} has lost rows; its events are read again\n");
        self.write_file(&format!("{}/lost", quarantine(name)), told.into_bytes()).await
    }

    /// Says that a table has again what it had lost.
    pub(crate) async fn mended(&self, name: &TableName) -> Result<(), Error> {
        self.remove_directory(&quarantine(name)).await
    }

    /// A table's rows in its newest version, with only the columns that `wanted` picks; of a bitemporal table those that
    /// stand.
    pub(crate) async fn scan(
        &self,
        name: &TableName,
        wanted: impl Fn(&arrow::datatypes::Field) -> bool,
    ) -> Result<Option<impl Stream<Item = Result<RecordBatch, Error>>>, Error> {
        let Some(dataset) = self.load(name).await? else { return Ok(None) };
        let failed = |error| failed(name, "read", error);
        let schema = Schema::from(dataset.schema());
        let columns: Vec<_> =
            schema.fields().iter().filter(|field| wanted(field)).map(|field| field.name()).collect();
        let mut scan = dataset.scan();
        scan.project(&columns).map_err(failed)?;
        if schema.column_with_name(RECORDED_TO).is_some() {
            scan.filter(&format!("{RECORDED_TO} IS NULL")).map_err(failed)?;
        }
        let batches = scan.try_into_stream().await.map_err(failed)?;
        let name = name.clone();
        Ok(Some(batches.map_err(move |error| self::failed(&name, "read", error))))
    }

    /// A table's newest version and how many rows it has, as its manifest says: no row is read.
    pub(crate) async fn extent(&self, name: &TableName) -> Result<Option<(u64, u64)>, Error> {
        let Some(dataset) = self.load(name).await? else { return Ok(None) };
        let rows = dataset.count_rows(None).await.map_err(|error| failed(name, "read", error))?;
        Ok(Some((dataset.version().version, rows as u64)))
    }

    /// A table's newest version, if it has rows.
    pub(crate) async fn load(&self, name: &TableName) -> Result<Option<Dataset>, Error> {
        self.at(name, &Version::Newest).await
    }

    /// A table as it was, if it was.
    pub(crate) async fn at(&self, name: &TableName, version: &Version) -> Result<Option<Dataset>, Error> {
        let builder = DatasetBuilder::from_uri(self.root.at(&name.path()));
        let builder = builder.with_session(Arc::clone(&self.session));
        let builder = match version {
            Version::Published if is_computed(name) => builder.with_tag(PROD),
            Version::Published | Version::Newest => builder,
            Version::Number(number) => builder.with_version(*number),
            Version::Tag(tag) => builder.with_tag(tag),
        };
        match builder.load().await {
            Ok(dataset) => Ok(Some(dataset)),
            Err(
                LanceError::DatasetNotFound { .. }
                | LanceError::NotFound { .. }
                | LanceError::RefNotFound { .. }
                | LanceError::InvalidRef { .. }
                | LanceError::VersionNotFound { .. },
            ) => Ok(None),
            Err(error) => Err(failed(name, "opened", error)),
        }
    }
}

const QUARANTINE: &str = "_quarantine";

/// Where what a table has lost is set aside, or told; it stays until the table has that again.
fn quarantine(name: &TableName) -> String {
    format!("{QUARANTINE}/{name}")
}

/// How far a table, and the exporter that wrote it, had come with a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The table has every event of its own up to here.
    pub(crate) cursor: Cursor,
    /// Every table of the exporter has every event up to here.
    pub(crate) settled: Cursor,
}

impl Progress {
    /// The table has every event of its own up to here, by what either says.
    pub(crate) fn has(self) -> Cursor {
        self.cursor.max(self.settled)
    }

    pub(crate) fn properties(self, domain: &str) -> HashMap<String, String> {
        HashMap::from([
            (format!("omnimesh.cursor.{domain}"), self.cursor.to_string()),
            (format!("omnimesh.settled.{domain}"), self.settled.to_string()),
        ])
    }

    fn of(transaction: &Transaction, domain: &str) -> Result<Option<Self>, Error> {
        let Some(properties) = &transaction.transaction_properties else { return Ok(None) };
        let cursor =
            |kind| properties.get(&format!("omnimesh.{kind}.{domain}")).map(|text| text.parse()).transpose();
        let (Some(cursor), Some(settled)) = (cursor("cursor")?, cursor("settled")?) else { return Ok(None) };
        Ok(Some(Self { cursor, settled }))
    }
}

/// How far a version of a table is.
pub(crate) async fn progress(name: &TableName, dataset: &Dataset, domain: &str) -> Result<Progress, Error> {
    // Maintenance commits in between carry no cursor of their own.
    for version in (1..=dataset.version().version).rev() {
        let transaction = dataset.read_transaction_by_version(version).await;
        let transaction = transaction.map_err(|error| failed(name, "read", error))?;
        if let Some(progress) = transaction.map(|found| Progress::of(&found, domain)).transpose()?.flatten() {
            return Ok(progress);
        }
    }
    Ok(Progress::default())
}

/// A table that is written to. Until its first rows there is nothing on disk.
#[derive(Debug)]
pub(crate) struct Table {
    name: TableName,
    uri: String,
    dataset: Option<Dataset>,
    has_lost: bool,
    /// Of what was denied when it was opened.
    revision: u64,
    session: Arc<Session>,
    durable: Durable,
}

impl Table {
    /// Its name.
    pub(crate) fn name(&self) -> &TableName {
        &self.name
    }

    /// The newest version, if there is one.
    pub(crate) fn dataset(&self) -> Option<&Dataset> {
        self.dataset.as_ref()
    }

    /// Puts a tag on a version, or moves it there.
    pub(crate) async fn tag(&mut self, tag: &str, version: u64) -> Result<(), Error> {
        let Some(dataset) = &self.dataset else { return Ok(()) };
        publish::tag(dataset, tag, version).await.map_err(|error| failed(&self.name, "tagged", error))?;
        self.durable.sync_tags().await
    }

    /// Takes the tags away that `is_forgotten` is true of.
    pub(crate) async fn untag(&self, is_forgotten: impl Fn(&str) -> bool) -> Result<(), Error> {
        let Some(dataset) = &self.dataset else { return Ok(()) };
        publish::untag(dataset, is_forgotten).await.map_err(|error| failed(&self.name, "untagged", error))
    }

    /// Whether it has lost versions, and may not have their events again yet.
    pub(crate) fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// What the newest commit of ours says; at the start if there is none.
    pub(crate) async fn progress(&self, domain: &str) -> Result<Progress, Error> {
        match &self.dataset {
            Some(dataset) => progress(&self.name, dataset, domain).await,
            None => Ok(Progress::default()),
        }
    }

    /// Commits a change together with its `properties`. All of it is on disk afterwards, or none.
    pub(crate) async fn commit(
        &mut self,
        turn: &Turn<'_>,
        change: Change,
        properties: HashMap<String, String>,
        card: &Card,
    ) -> Result<(), Error> {
        let change = turn.admit(self, change).await?;
        let transaction =
            self.write(change, card).await.map_err(|error| failed(&self.name, "written", error))?;
        match transaction {
            Some(transaction) => self.settle(turn, transaction, card, properties).await,
            None => Ok(()),
        }
    }

    /// Commits what has been written.
    async fn settle(
        &mut self,
        turn: &Turn<'_>,
        mut transaction: Transaction,
        card: &Card,
        properties: HashMap<String, String>,
    ) -> Result<(), Error> {
        let is_whole = matches!(transaction.operation, Operation::Overwrite { .. });
        transaction.transaction_properties = Some(Arc::new(properties.clone()));
        self.durable.sync().await?;
        turn.still(&self.name).await?;
        let dataset =
            self.publish(transaction).await.map_err(|error| failed(&self.name, "committed", error))?;
        self.dataset = Some(dataset);
        turn.still(&self.name).await?;
        self.describe(card).await?;
        self.durable.sync().await?;
        self.maintain(properties, is_whole).await;
        Ok(())
    }

    /// Writes data files for a change, if it makes any.
    async fn write(&self, change: Change, card: &Card) -> Result<Option<Transaction>, LanceError> {
        let change = exclusive::settled(self.dataset.as_ref(), change).await?;
        match (change, &self.dataset) {
            (Change::Append(rows), _) if rows.iter().all(|batch| batch.num_rows() == 0) => Ok(None),
            (Change::Upsert { rows, .. } | Change::Record(rows), None) if rows.num_rows() == 0 => Ok(None),
            (Change::Append(rows), Some(dataset)) => Some(append(dataset, rows).await).transpose(),
            (Change::Append(rows), None) => Some(self.create(rows, card).await).transpose(),
            (Change::Upsert { rows, .. } | Change::Record(rows), None) => {
                Some(self.create(vec![rows], card).await).transpose()
            }
            (Change::Upsert { rows, stale, newer }, Some(dataset)) => {
                let newer = newer.map(|column| format!("source.{column} >= target.{column}"));
                let matched = newer.map_or(WhenMatched::UpdateAll, WhenMatched::UpdateIf);
                merge(dataset, vec![rows], matched, filter(&stale)).await
            }
            (Change::Record(rows), Some(dataset)) => {
                let closes = format!("source.{RECORDED_TO} IS NOT NULL AND target.{RECORDED_TO} IS NULL");
                merge(dataset, vec![rows], WhenMatched::UpdateIf(closes), None).await
            }
        }
    }

    async fn create(&self, rows: Vec<RecordBatch>, card: &Card) -> Result<Transaction, LanceError> {
        let rows = dressed(rows, card)?;
        let params = WriteParams {
            mode: WriteMode::Create,
            enable_stable_row_ids: self.has_stable_row_ids(),
            data_storage_version: Some(VERSION),
            session: Some(Arc::clone(&self.session)),
            ..WriteParams::default()
        };
        InsertBuilder::new(self.uri.as_str()).with_params(&params).execute_uncommitted(rows).await
    }

    async fn publish(&self, transaction: Transaction) -> Result<Dataset, LanceError> {
        let commit = match &self.dataset {
            Some(dataset) => CommitBuilder::new(Arc::new(dataset.clone())),
            None => CommitBuilder::new(self.uri.as_str())
                .with_session(Arc::clone(&self.session))
                .use_stable_row_ids(self.has_stable_row_ids())
                .with_storage_format(VERSION),
        };
        commit.execute(transaction).await
    }
}

pub(crate) fn failed(table: &TableName, action: &'static str, error: LanceError) -> Error {
    Error::Table { table: table.clone(), action, cause: Box::new(error) }
}
