//! The tables of vectors that are published, in memory, and searches in them.

mod loaded;

use std::{collections::BTreeMap, convert::Infallible, fmt, sync::Arc, time::Duration};

use tokio::sync::watch;
use types::{InvalidRequest, filter};

use super::{
    FILTERS,
    embedder::{HashEmbedder, TextEmbedder, normalized, unit},
};
use crate::{Error, Layer, TableName, Version, dataset::Store, run::PROD};
use loaded::Loaded;

/// How long what is published may go unnoticed.
const REFRESH: Duration = Duration::from_secs(2);

/// What to be near to.
#[derive(Debug)]
pub(crate) enum Query {
    Vector(Vec<f32>),
    Entity(String),
    Text(String),
}

/// A search.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) table: String,
    pub(crate) query: Query,
    pub(crate) k: usize,
    pub(crate) filter: String,
}

/// What a search has found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) hits: Vec<Neighbour>,
    pub(crate) version: u64,
    pub(crate) model_id: String,
    pub(crate) recall: f64,
}

/// An entity that is near.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) entity: String,
    pub(crate) similarity: f32,
    pub(crate) text: String,
    pub(crate) attributes: BTreeMap<&'static str, String>,
}

type Tables = BTreeMap<String, Arc<Loaded>>;

/// The tables in memory, each at the version that was published last; a new one takes the old one's place as a whole.
pub(crate) struct Vectors {
    store: Arc<Store>,
    embedders: Vec<Arc<dyn TextEmbedder>>,
    tables: watch::Sender<Tables>,
}

impl Vectors {
    pub(crate) fn new(store: Arc<Store>, embedder: Arc<dyn TextEmbedder>) -> Self {
        let embedders = vec![embedder, Arc::new(HashEmbedder) as Arc<dyn TextEmbedder>];
        Self { store, embedders, tables: watch::Sender::default() }
    }

    /// Follows what is published.
    pub(crate) async fn follow(self: Arc<Self>) -> Infallible {
        loop {
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "vectors stay at the versions before");
            }
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// Loads what was published since, and forgets what is gone. A table that fails keeps no other from being loaded.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let mut tables = Tables::new();
        let mut outcome = Ok(());
        for name in self.store.names().await?.into_iter().filter(|name| name.layer() == Layer::Embeddings) {
            let known = self.tables.borrow().get(name.as_str()).cloned();
            match events::caught(self.load(&name, known.as_ref())).await {
                Ok(loaded) => tables.extend(loaded.map(|loaded| (name.as_str().to_owned(), loaded))),
                Err(error) => {
                    outcome = outcome.and(Err(error.of(&name)));
                    tables.extend(known.map(|known| (name.as_str().to_owned(), known)));
                }
            }
        }
        self.tables.send_replace(tables);
        outcome
    }

    /// A table as it is published, if it is.
    async fn load(
        &self,
        name: &TableName,
        known: Option<&Arc<Loaded>>,
    ) -> Result<Option<Arc<Loaded>>, Error> {
        let Some(dataset) = self.store.at(name, &Version::Tag(PROD.to_owned())).await? else {
            return Ok(None);
        };
        if let Some(known) = known.filter(|known| known.version == dataset.version().version) {
            return Ok(Some(Arc::clone(known)));
        }
        let loaded = Loaded::read(name, &dataset).await?;
        tracing::info!(table = %name, version = loaded.version, rows = loaded.rows(), "vectors are served");
        Ok(Some(Arc::new(loaded)))
    }

    /// Searches a table.
    pub(crate) fn search_vectors(&self, search: &Search) -> Result<Found, Error> {
        let table = self.tables.borrow().get(&search.table).cloned();
        let table = table.ok_or_else(|| Error::NotFound {
            what: format!("published table `{}` in the layer embeddings", search.table),
        })?;
        let fields: Vec<_> = FILTERS.into_iter().filter(|field| table.has(field.name)).collect();
        let conditions = filter::parse(&search.filter, &fields)?;
        let (vector, itself) = match &search.query {
            Query::Vector(vector) => (self.as_vector(&table, vector)?, None),
            Query::Text(text) => (self.as_text(&table, text)?, None),
            Query::Entity(entity) => {
                let (row, vector) = table.entity(entity).ok_or_else(|| Error::EntityNotFound {
                    entity: entity.clone(),
                    table: search.table.clone(),
                })?;
                (vector.to_vec(), Some(row))
            }
        };
        let hits = table.nearest(&vector, search.k, itself, &conditions);
        let hits = hits.into_iter().map(|hit| table.neighbour(hit)).collect();
        let (version, model_id, recall) = (table.version, table.model_id.clone(), table.recall());
        Ok(Found { hits, version, model_id, recall })
    }

    fn as_vector(&self, table: &Loaded, vector: &[f32]) -> Result<Vec<f32>, InvalidRequest> {
        if vector.len() != table.dimension {
            let sizes = format!("has {} values, the table's have {}", vector.len(), table.dimension);
            return Err(InvalidRequest::new("vector.values", sizes));
        }
        unit(vector.to_vec()).ok_or_else(|| {
            InvalidRequest::new("vector.values", "points nowhere: all values are zero, or one is not finite")
        })
    }

    fn as_text(&self, table: &Loaded, text: &str) -> Result<Vec<f32>, Error> {
        if !table.is_of_texts() {
            let reason = "the table's vectors are not those of texts: ask by `entity_id` or `vector`";
            return Err(InvalidRequest::new("text", reason).into());
        }
        let embedder = self.embedders.iter().find(|embedder| embedder.model_id() == table.model_id);
        let embedder =
            embedder.ok_or_else(|| Error::TextModelMissing { model_id: table.model_id.clone() })?;
        let nothing = || InvalidRequest::new("text", "has no word that the model knows");
        Ok(embedder.embed(&normalized(text)).ok_or_else(nothing)?)
    }
}

impl fmt::Debug for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vectors").field("embedders", &self.embedders).finish_non_exhaustive()
    }
}
