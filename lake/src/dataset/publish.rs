//! Publishing a computed table: all of its rows at once, checked before anybody can see them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    compute::cast,
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
    row::{RowConverter, SortField},
};
use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream,
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::{TryStreamExt, stream};
use lance::{
    Error as LanceError,
    dataset::{
        Dataset, InsertBuilder, WriteMode, WriteParams,
        transaction::{Operation, Transaction},
    },
};
use lance_io::object_store::{ObjectStore, ObjectStoreParams};
use lance_table::format::Fragment;
use tokio::sync::mpsc;

use super::{Table, Turn, VERSION, failed, write::sole};
use crate::{
    Error, Layer, TableName,
    card::Card,
    deny::Denied,
    digest::{self, Digest},
};

/// Batches that are looked for denied rows before their turn to be written has come.
const AHEAD: usize = 2;
/// Batches that are written, or wait for it, while those before them are checked: Lance encodes many at once.
const UNCHECKED: usize = 16;

/// The version that a computation made, or found unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) version: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Digest of the columns' names and types.
    pub(crate) schema: String,
    /// Digest of the rows in any order.
    pub(crate) content: String,
    /// Whether there is a new version.
    pub(crate) is_new: bool,
}

impl Published {
    /// The digest of its rows.
    pub(super) fn digest(&self) -> Option<Digest> {
        Digest::known(self.rows, &self.content)
    }
}

impl Table {
    /// Makes `rows` all that the table holds, unless its rows are known to be these: `known` is their digest. All of it
    /// is on disk afterwards, or nothing has changed.
    pub(crate) async fn replace(
        &mut self,
        turn: &Turn<'_>,
        rows: SendableRecordBatchStream,
        card: &Card,
        properties: HashMap<String, String>,
        known: Option<&str>,
    ) -> Result<Published, Error> {
        let mode = if self.dataset.is_some() { WriteMode::Overwrite } else { WriteMode::Create };
        let staged = self.stage(turn, rows, card, mode).await?;
        let is_known = known == Some(&identity(&staged.schema, &staged.content.hex()));
        self.settle_staged(turn, staged, card, properties, is_known).await
    }

    /// Adds `rows` to those that the table holds, which add up to `standing`. All of it is on disk afterwards, or
    /// nothing has changed; an error if somebody else has added rows since the table was opened.
    pub(crate) async fn extend(
        &mut self,
        turn: &Turn<'_>,
        rows: SendableRecordBatchStream,
        card: &Card,
        properties: HashMap<String, String>,
        standing: Digest,
    ) -> Result<Published, Error> {
        let mut staged = self.stage(turn, rows, card, WriteMode::Append).await?;
        sole(&mut staged.transaction);
        let adds_nothing = staged.content.rows == 0;
        staged.content = staged.content.plus(standing);
        self.settle_staged(turn, staged, card, properties, adds_nothing).await
    }

    /// Drops the rows of versions after `promised`, on which nobody has come to rely.
    pub(crate) async fn back_to(&mut self, turn: &Turn<'_>, promised: &Dataset) -> Result<(), Error> {
        let has_others = |newest: &Dataset| {
            newest.version().version != promised.version().version
                && newest.fragments() != promised.fragments()
        };
        if !self.dataset.as_ref().is_some_and(has_others) {
            return Ok(());
        }
        turn.denied(self)?;
        turn.still(&self.name).await?;
        let mut promised = promised.clone();
        promised.restore().await.map_err(|error| failed(&self.name, "restored", error))?;
        self.dataset = Some(promised);
        self.durable.sync().await
    }

    /// Writes rows that nobody sees yet, and checks them.
    async fn stage(
        &mut self,
        turn: &Turn<'_>,
        rows: SendableRecordBatchStream,
        card: &Card,
        mode: WriteMode,
    ) -> Result<Staged, Error> {
        let name = self.name.clone();
        let denied = turn.denied(self)?;
        let schema = Arc::new(card.dress(&rows.schema()));
        let check = Check::new(&name.to_string(), &schema, card)?;
        let (shown, batches) = mpsc::channel(UNCHECKED);
        let checked = tokio::task::spawn_blocking(move || check.all(batches));
        let written = self.write_rows(showing(rows, Arc::clone(&schema), denied, shown), mode).await;
        let transaction = written.map_err(|error| failed(&name, "written", error))?;
        match checked.await.map_err(Error::from).flatten() {
            Ok(content) => Ok(Staged { transaction, schema: digest::schema(&schema), content }),
            Err(error) => {
                self.discard(&transaction).await;
                Err(error)
            }
        }
    }

    /// Publishes what was staged, or drops it if it is no news.
    async fn settle_staged(
        &mut self,
        turn: &Turn<'_>,
        staged: Staged,
        card: &Card,
        properties: HashMap<String, String>,
        is_known: bool,
    ) -> Result<Published, Error> {
        let Staged { transaction, schema, content } = staged;
        let is_new = !is_known || self.dataset.is_none();
        let bytes = bytes(&transaction);
        if is_new {
            self.settle(turn, transaction, card, properties).await?;
        } else {
            self.discard(&transaction).await;
        }
        let (version, rows, content) = (self.version(), content.rows, content.hex());
        Ok(Published { version, rows, bytes, schema, content, is_new })
    }

    fn version(&self) -> u64 {
        self.dataset.as_ref().map_or(0, |dataset| dataset.version().version)
    }

    /// Writes down what is said about the table, where that has changed.
    pub(crate) async fn describe(&mut self, card: &Card) -> Result<(), Error> {
        let Some(dataset) = &mut self.dataset else { return Ok(()) };
        let said = card.metadata(self.name.layer().as_str());
        let known = dataset.metadata();
        let news: BTreeMap<_, _> =
            said.into_iter().filter(|(name, value)| known.get(name) != Some(value)).collect();
        if !news.is_empty() {
            let updated = dataset.update_metadata(news).await;
            updated.map_err(|error| failed(&self.name, "described", error))?;
        }
        Ok(())
    }

    async fn write_rows(
        &self,
        rows: SendableRecordBatchStream,
        mode: WriteMode,
    ) -> Result<Transaction, LanceError> {
        let params = WriteParams {
            mode,
            enable_stable_row_ids: self.has_stable_row_ids(),
            data_storage_version: Some(VERSION),
            session: Some(Arc::clone(&self.session)),
            ..WriteParams::default()
        };
        let insert = match &self.dataset {
            Some(dataset) => InsertBuilder::new(Arc::new(dataset.clone())),
            None => InsertBuilder::new(self.uri.as_str()),
        };
        insert.with_params(&params).execute_uncommitted_stream(rows).await
    }

    /// A change feed is offered of what grows or changes in parts; vectors are made anew as a whole.
    pub(super) fn has_stable_row_ids(&self) -> bool {
        matches!(self.name.layer(), Layer::Bronze | Layer::Silver | Layer::Gold | Layer::Features)
    }

    /// Removes the files of what will not be committed; those that cannot be removed are found by the next clean-up.
    async fn discard(&self, transaction: &Transaction) {
        let registry = self.session.store_registry();
        let table =
            ObjectStore::from_uri_and_params(registry, &self.uri, &ObjectStoreParams::default()).await;
        let Ok((objects, table)) = table else { return };
        for file in fragments(transaction).iter().flat_map(|fragment| &fragment.files) {
            let path = table.clone().join("data").join(file.path.as_str());
            if let Err(error) = objects.delete(&path).await {
                tracing::debug!(%path, %error, "an unused file stays");
            }
        }
    }
}

/// What a table's rows add up to.
pub(crate) async fn digest(name: &TableName, dataset: &Dataset) -> Result<Digest, Error> {
    let failed = |error| failed(name, "read", error);
    let mut rows = dataset.scan().try_into_stream().await.map_err(failed)?;
    let mut digest = Digest::default();
    while let Some(batch) = rows.try_next().await.map_err(failed)? {
        digest.add(&batch)?;
    }
    Ok(digest)
}

/// Rows that are on disk and that no version names yet.
struct Staged {
    transaction: Transaction,
    schema: String,
    content: Digest,
}

/// What tells whether a table's rows are the same.
pub(crate) fn identity(schema: &str, content: &str) -> String {
    format!("{schema}:{content}")
}

fn fragments(transaction: &Transaction) -> &[Fragment] {
    match &transaction.operation {
        Operation::Overwrite { fragments, .. }
        | Operation::Append { fragments }
        | Operation::Update { new_fragments: fragments, .. } => fragments,
        _ => &[],
    }
}

pub(super) fn bytes(transaction: &Transaction) -> u64 {
    let files = fragments(transaction).iter().flat_map(|fragment| &fragment.files);
    files.filter_map(|file| file.file_size_bytes.get()).map(std::num::NonZero::get).sum()
}

/// Passes rows on in the types that the table keeps, without those that are denied, and shows them to who checks them
/// beside their writing.
fn showing(
    rows: SendableRecordBatchStream,
    schema: SchemaRef,
    denied: Arc<Denied>,
    shown: mpsc::Sender<RecordBatch>,
) -> SendableRecordBatchStream {
    let target = Arc::clone(&schema);
    let rows = rows.map_ok(move |batch| {
        let (target, denied) = (Arc::clone(&target), Arc::clone(&denied));
        let kept = tokio::task::spawn_blocking(move || denied.without(conform(&batch, &target)?));
        async { Ok(kept.await.map_err(|error| DataFusionError::External(Box::new(error)))??.0) }
    });
    let rows = rows.try_buffered(AHEAD);
    let rows = stream::try_unfold((rows, shown), async |(mut rows, shown)| {
        let Some(batch) = rows.try_next().await? else { return Ok(None) };
        // Who checks ends before that only of a fault, which is told at the end.
        shown.send(batch.clone()).await.ok();
        Ok(Some((batch, (rows, shown))))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// Whether rows may be published: every key is there, and once.
pub(super) struct Check {
    table: String,
    key: Vec<usize>,
    names: String,
    converter: RowConverter,
    /// Digests of the keys of the rows so far.
    keys: Vec<u128>,
    digest: Digest,
}

impl Check {
    pub(super) fn new(table: &str, schema: &Schema, card: &Card) -> Result<Self, Error> {
        let definition = |reason| Error::Definition { table: table.to_owned(), reason };
        let position = |column: &String| {
            schema
                .index_of(column)
                .map_err(|_| definition(format!("its key `{column}` is not among its columns")))
        };
        let key = card.key.iter().map(position).collect::<Result<Vec<_>, _>>()?;
        if key.is_empty() {
            return Err(definition("its card names no key; add a line `key: <columns>`".to_owned()));
        }
        let fields = key.iter().map(|index| SortField::new(schema.field(*index).data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let names = card.key.join(", ");
        let table = table.to_owned();
        Ok(Self { table, key, names, converter, keys: Vec::new(), digest: Digest::default() })
    }

    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let columns: Vec<_> = self.key.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        let keys = self.converter.convert_columns(&columns)?;
        self.keys.extend(keys.iter().map(|key| digest::of_row(key.as_ref())));
        self.digest.add(batch)
    }

    fn all(mut self, mut batches: mpsc::Receiver<RecordBatch>) -> Result<Digest, Error> {
        while let Some(batch) = batches.blocking_recv() {
            self.add(&batch)?;
        }
        self.outcome()
    }

    pub(super) fn outcome(mut self) -> Result<Digest, Error> {
        self.keys.sort_unstable();
        let rows = self.keys.len();
        self.keys.dedup();
        match rows - self.keys.len() {
            0 => Ok(self.digest),
            rows => Err(Error::Definition {
                table: self.table,
                reason: format!("{rows} rows repeat a key ({}); the version before it stays", self.names),
            }),
        }
    }
}

/// Puts a tag on a version, or moves it there.
pub(super) async fn tag(dataset: &Dataset, tag: &str, version: u64) -> Result<(), LanceError> {
    let tags = dataset.tags();
    match tags.get_version(tag).await {
        Ok(known) if known == version => Ok(()),
        Ok(_) => tags.update(tag, version).await,
        Err(LanceError::RefNotFound { .. }) => tags.create(tag, version).await,
        Err(error) => Err(error),
    }
}

/// Takes the tags away that `is_forgotten` is true of.
pub(super) async fn untag(dataset: &Dataset, is_forgotten: impl Fn(&str) -> bool) -> Result<(), LanceError> {
    let known = dataset.tags().list().await?;
    for tag in known.keys().filter(|tag| is_forgotten(tag)) {
        dataset.tags().delete(tag).await?;
    }
    Ok(())
}
