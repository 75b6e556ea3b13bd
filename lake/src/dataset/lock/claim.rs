//! A lock in a bucket. Whoever wants it puts a claim there, an object without content, and only then looks who else has:
//! of two who must not have it at once, at least one sees the other. A claim is renewed for as long as it is held. One
//! that was not for [`VOID`], by the store's clock, is removed by the next who wants the lock, and by that its holder
//! knows, should it be alive after all.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use lance::Error as LanceError;
use lance_io::object_store::ObjectStore;
use object_store::{ObjectMeta, ObjectStoreExt, PutPayload, PutResult, path::Path};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::Kind;
use crate::Error;

/// When a claim that was not renewed is void.
const VOID: Duration = Duration::from_secs(60);
/// How often a claim is renewed: so that a store may stall for half a minute.
const RENEW: Duration = Duration::from_secs(10);
/// How long to wait, at least, before looking again.
const AGAIN: Duration = Duration::from_millis(200);
/// The version of every object in a bucket that keeps none any more.
const NO_VERSION: &str = "null";

/// A lock that is held, or still waited for.
#[derive(Debug)]
pub(crate) struct Claim {
    objects: Arc<ObjectStore>,
    path: Path,
    keeps_versions: bool,
    kept: JoinHandle<()>,
    held: DropGuard,
}

/// What a claim is worth beside the others that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Holds,
    /// Once those are gone who are there already; nobody comes after them.
    Waits,
    /// It is in the way of somebody who must have the lock alone.
    Yields,
}

impl Claim {
    /// Waits until nobody has the lock who must not have it as well.
    pub(super) async fn of(
        objects: &Arc<ObjectStore>,
        directory: &Path,
        kind: Kind,
    ) -> Result<Self, LanceError> {
        loop {
            let claim = Self::make(objects, directory, kind).await?;
            loop {
                match claim.standing(directory).await? {
                    Standing::Holds => return Ok(claim),
                    Standing::Waits => pause().await,
                    Standing::Yields => break,
                }
            }
            claim.release().await;
            pause().await;
        }
    }

    async fn make(objects: &Arc<ObjectStore>, directory: &Path, kind: Kind) -> Result<Self, LanceError> {
        let path = directory.clone().join(format!("{}.{}", Uuid::now_v7(), kind.as_str()));
        let made = put(objects, &path).await?;
        let held = CancellationToken::new();
        let kept = tokio::spawn(keep(Arc::clone(objects), path.clone(), held.clone()));
        Ok(Self {
            objects: Arc::clone(objects),
            path,
            keeps_versions: made.version.is_some_and(|version| version != NO_VERSION),
            kept,
            held: held.drop_guard(),
        })
    }

    async fn standing(&self, directory: &Path) -> Result<Standing, LanceError> {
        let claims: Vec<_> = self.objects.list(Some(directory.clone())).try_collect().await?;
        let is_own = |claim: &&ObjectMeta| claim.location == self.path;
        // Somebody has found it void.
        let Some(own) = claims.iter().find(is_own) else { return Ok(Standing::Yields) };
        let mut standing = Standing::Holds;
        for other in claims.iter().filter(|claim| !is_own(claim)) {
            if (own.last_modified - other.last_modified).num_seconds() > VOID.as_secs().cast_signed() {
                remove(&self.objects, &other.location).await?;
            } else {
                standing = standing.max(match (Kind::of(&self.path), Kind::of(&other.location)) {
                    (Kind::Shared, Kind::Shared) => Standing::Holds,
                    (Kind::Alone, Kind::Shared) => Standing::Waits,
                    (_, Kind::Alone) => Standing::Yields,
                });
            }
        }
        Ok(standing)
    }

    pub(super) async fn is_held(&self) -> Result<bool, Error> {
        let is_there = self.objects.exists(&self.path).await;
        is_there.map_err(|error| Error::Place { place: self.path.to_string(), cause: Box::new(error) })
    }

    pub(super) fn keeps_versions(&self) -> bool {
        self.keeps_versions
    }

    /// Gives it up. One that is dropped is given up as well, but nobody knows when.
    pub(super) async fn release(self) {
        drop(self.held);
        self.kept.await.ok();
    }
}

impl Kind {
    /// What a claim's name ends with.
    fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Alone => "alone",
        }
    }

    fn of(claim: &Path) -> Self {
        match claim.extension() == Some(Self::Shared.as_str()) {
            true => Self::Shared,
            false => Self::Alone,
        }
    }
}

/// Renews a claim until it is given up; not if somebody has found it void.
async fn keep(objects: Arc<ObjectStore>, claim: Path, held: CancellationToken) {
    while held.run_until_cancelled(tokio::time::sleep(RENEW)).await.is_some() {
        let looked = Instant::now();
        let renewed = match objects.exists(&claim).await {
            Ok(true) => put(&objects, &claim).await.map(drop),
            Ok(false) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = renewed {
            tracing::warn!(%claim, %error, "a lock of the lake could not be renewed; trying again");
        }
        // What was void by then may have been put there again.
        if looked.elapsed() > VOID {
            break;
        }
    }
    if let Err(error) = remove(&objects, &claim).await {
        tracing::warn!(%claim, %error, "a lock of the lake could not be given up; it runs out in a minute");
    }
}

async fn put(objects: &ObjectStore, claim: &Path) -> Result<PutResult, LanceError> {
    Ok(objects.inner.put(claim, PutPayload::default()).await?)
}

async fn remove(objects: &ObjectStore, claim: &Path) -> Result<(), LanceError> {
    match objects.delete(claim).await {
        Err(LanceError::NotFound { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// Those who yield to each other must not come again together.
async fn pause() {
    tokio::time::sleep(AGAIN.mul_f64(rand::random_range(1.0..2.0))).await;
}

#[cfg(test)]
mod tests;
