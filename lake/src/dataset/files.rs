//! The lake's files beside those of tables, and which tables there are.

use std::sync::Arc;

use futures::future::try_join_all;
use lance::Error as LanceError;
use lance_io::object_store::{ObjectStore, ObjectStoreParams};
use object_store::path::Path;

use super::{Store, durable};
use crate::{Error, Layer, TableName};

impl Store {
    /// The lake as a URI.
    pub(crate) fn uri(&self) -> String {
        self.root.uri()
    }

    /// Names of what is in a directory of the lake; none if it is not there.
    pub(crate) async fn files(&self, directory: &str) -> Result<Vec<String>, Error> {
        let (objects, root) = self.objects().await?;
        match objects.read_dir(below(root, directory)).await {
            Ok(names) => Ok(names),
            Err(LanceError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(self.unusable(directory, error)),
        }
    }

    /// A file of the lake.
    pub(crate) async fn read_file(&self, path: &str) -> Result<Vec<u8>, Error> {
        let (objects, root) = self.objects().await?;
        let content = objects.read_one_all(&below(root, path)).await;
        Ok(content.map_err(|error| self.unusable(path, error))?.to_vec())
    }

    /// A file of the lake, if it is there.
    pub(crate) async fn find_file(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let (objects, root) = self.objects().await?;
        match objects.read_one_all(&below(root, path)).await {
            Ok(content) => Ok(Some(content.to_vec())),
            Err(LanceError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.unusable(path, error)),
        }
    }

    /// Writes a file of the lake as a whole, and durably.
    pub(crate) async fn write_file(&self, path: &str, content: Vec<u8>) -> Result<(), Error> {
        let Some(directory) = self.root.directory() else {
            let (objects, root) = self.objects().await?;
            let written = objects.put(&below(root, path), &content).await;
            return written.map(drop).map_err(|error| self.unusable(path, error));
        };
        let path = directory.join(path);
        let written = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || durable::write(&path, &content)).await?
        };
        written.map_err(|source| Error::Files { path, source })
    }

    /// Removes a file of the lake, if it is there.
    pub(crate) async fn remove_file(&self, path: &str) -> Result<(), Error> {
        let (objects, root) = self.objects().await?;
        match objects.delete(&below(root, path)).await {
            Ok(()) | Err(LanceError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.unusable(path, error)),
        }
    }

    /// Removes a directory of the lake with all that is in it, if it is there.
    pub(super) async fn remove_directory(&self, path: &str) -> Result<(), Error> {
        let (objects, root) = self.objects().await?;
        match objects.remove_dir_all(below(root, path)).await {
            Ok(()) | Err(LanceError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.unusable(path, error)),
        }
    }

    /// Every table that has a directory.
    pub(crate) async fn names(&self) -> Result<Vec<TableName>, Error> {
        self.named("", ".lance").await
    }

    /// Every table after which something is named, but for its suffix, in the layers' directories below `parent`.
    pub(crate) async fn named(&self, parent: &str, suffix: &str) -> Result<Vec<TableName>, Error> {
        let layers =
            Layer::ALL.map(|layer| async move { self.files(&format!("{parent}{}", layer.as_str())).await });
        let layers = try_join_all(layers).await?;
        let files = Layer::ALL.into_iter().zip(&layers).flat_map(|(layer, files)| {
            // Whatever keeps no rule of ours is not our table.
            files.iter().filter_map(move |file| TableName::new(layer, file.strip_suffix(suffix)?).ok())
        });
        let mut names: Vec<_> = files.collect();
        names.sort();
        Ok(names)
    }

    pub(super) async fn objects(&self) -> Result<&(Arc<ObjectStore>, Path), Error> {
        let open = async || {
            let (registry, root) = (self.session.store_registry(), self.root.to_string());
            ObjectStore::from_uri_and_params(registry, &root, &ObjectStoreParams::default()).await
        };
        self.objects.get_or_try_init(open).await.map_err(|error| self.unusable("", error))
    }

    pub(super) fn unusable(&self, path: &str, error: LanceError) -> Error {
        Error::Place { place: self.root.at(path), cause: Box::new(error) }
    }
}

pub(super) fn below(root: &Path, path: &str) -> Path {
    path.split('/').filter(|part| !part.is_empty()).fold(root.clone(), |path, part| path.join(part))
}
