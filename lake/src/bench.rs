//! What `make bench-lake` measures in a process of its own: the mechanisms themselves, without the services around them.

use std::{collections::HashMap, sync::Arc};

use arrow::array::{RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array};
use datafusion::{error::DataFusionError, physical_plan::stream::RecordBatchStreamAdapter};
use futures::{TryStreamExt, future, stream};

use crate::{
    Error, Root, TableName,
    card::Card,
    dataset::{self, Progress, Store},
    feature::asof::Timelines,
    table::Change,
    vector::{
        embedder::HashEmbedder,
        serve::{Query, Search, Vectors},
    },
};

/// A lake whose tables are written and read by hand.
#[derive(Debug)]
pub struct Lake(Store);

impl Lake {
    /// The lake in `root`, made where it is missing.
    pub fn create(root: impl Into<Root>) -> Result<Self, Error> {
        Store::create(&root.into()).map(Self)
    }

    /// Makes `rows` all that a table holds, as a run does: checked, and on disk.
    pub async fn publish(&self, name: &TableName, key: &[&str], rows: Vec<RecordBatch>) -> Result<(), Error> {
        let schema = rows.first().ok_or_else(|| missing(name))?.schema();
        let rows = RecordBatchStreamAdapter::new(
            schema,
            stream::iter(rows.into_iter().map(Ok::<_, DataFusionError>)),
        );
        let turn = self.0.turn().await?;
        let mut table = turn.open(name.clone()).await?;
        table.replace(&turn, Box::pin(rows), &card(key), HashMap::new(), None).await?;
        Ok(())
    }

    /// Adds rows to a table, a commit for each batch, as an exporter does.
    pub async fn append(&self, name: &TableName, key: &[&str], rows: Vec<RecordBatch>) -> Result<(), Error> {
        let card = card(key);
        let mut table = self.0.open(name.clone()).await?;
        for batch in rows {
            let turn = self.0.turn().await?;
            let properties = Progress::default().properties("bench");
            table.commit(&turn, Change::Append(vec![batch]), properties, &card).await?;
        }
        Ok(())
    }

    /// How many rows a table has, and a digest of them in any order.
    pub async fn digest(&self, name: &TableName) -> Result<(u64, String), Error> {
        let dataset = self.0.load(name).await?.ok_or_else(|| missing(name))?;
        let digest = dataset::digest(name, &dataset).await?;
        Ok((digest.rows, digest.hex()))
    }

    /// Opens a table anew and reads all of it; returns how many rows it has.
    pub async fn scan(&self, name: &TableName) -> Result<usize, Error> {
        let batches = self.0.scan(name, |_| true).await?.ok_or_else(|| missing(name))?;
        batches.try_fold(0, |rows, batch| future::ok(rows + batch.num_rows())).await
    }
}

/// A point-in-time join.
#[derive(Debug)]
pub struct Join(Timelines);

impl Join {
    /// Over rows whose first columns are the entity, the event time and the time from which the row was known.
    pub fn new(rows: RecordBatch) -> Result<Self, Error> {
        Ok(Self(Timelines::new(rows)?))
    }

    /// For each entity and time the row that was current, however old.
    pub fn find(&self, entities: &StringArray, times: &TimestampMicrosecondArray) -> UInt32Array {
        self.0.join(entities, times, i64::MAX)
    }
}

/// The tables of vectors that a lake has published, in memory.
#[derive(Debug)]
pub struct Served(Vectors);

impl Served {
    /// Loads those of the lake in `root`.
    pub async fn open(root: impl Into<Root>) -> Result<Self, Error> {
        let vectors = Vectors::new(Arc::new(Store::existing(&root.into())), Arc::new(HashEmbedder));
        vectors.refresh().await?;
        Ok(Self(vectors))
    }

    /// The entities of a table whose vectors are nearest.
    pub fn nearest(&self, table: &str, vector: &[f32], k: usize) -> Result<Vec<String>, Error> {
        let query = Query::Vector(vector.to_vec());
        let search = Search { table: table.to_owned(), query, k, filter: String::new() };
        Ok(self.0.search_vectors(&search)?.hits.into_iter().map(|hit| hit.entity).collect())
    }
}

fn card(key: &[&str]) -> Card {
    Card { key: key.iter().map(|column| (*column).to_owned()).collect(), ..Card::default() }
}

fn missing(table: &TableName) -> Error {
    Error::Missing { table: table.clone() }
}
