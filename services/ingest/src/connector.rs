//! How sources are read: each connector hands over portions of records that it has not handed over before.

mod files;
mod lines;
mod parquet;
mod sql;

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{mpsc, watch};

use crate::{
    Error,
    domain::Progress,
    landing::Portion,
    source::{Connector, Source},
};

/// Reads what is new in a source.
pub(crate) async fn read(source: Arc<Source>, known: KnownObjects, sink: Sink) -> Result<(), End> {
    match &source.connector {
        Connector::Files { root, format } => {
            let (root, format) = (root.clone(), *format);
            tokio::task::spawn_blocking(move || files::read(&source, &root, format, known, &sink)).await?
        }
        Connector::Sql { url } => sql::read(&source, url, known, &sink).await,
    }
}

/// What is known of an object that was read before.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) size: i64,
    pub(crate) mtime: i64,
    pub(crate) position: String,
    pub(crate) digest: String,
    pub(crate) complete: bool,
    pub(crate) landed: i64,
    pub(crate) revision: i64,
}

/// Objects that were read before, for each entity.
pub(crate) type KnownObjects = Vec<HashMap<String, Known>>;

/// Where a connector puts what it reads. Portions wait here to be landed; few, so that memory stays bounded.
#[derive(Debug)]
pub(crate) struct Sink {
    portions: mpsc::Sender<Portion>,
    progress: watch::Sender<Progress>,
}

/// Nobody wants the rest.
#[derive(Debug)]
pub(crate) struct Stopped;

impl Sink {
    pub(crate) fn new(portions: mpsc::Sender<Portion>, progress: watch::Sender<Progress>) -> Self {
        Self { portions, progress }
    }

    pub(crate) fn expect(&self, objects: usize) {
        self.progress.send_modify(|progress| progress.object_total += objects as i64);
    }

    fn blocking_send(&self, portion: Portion) -> Result<(), Stopped> {
        self.portions.blocking_send(portion).map_err(|_| Stopped)
    }

    async fn send(&self, portion: Portion) -> Result<(), Stopped> {
        self.portions.send(portion).await.map_err(|_| Stopped)
    }
}

/// How reading can end early.
#[derive(Debug)]
pub(crate) enum End {
    Stopped,
    Failed(Error),
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl<E: Into<Error>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
