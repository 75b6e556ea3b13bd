//! Locks of a lake that several processes write. In a directory they are the system's, which takes them back from a
//! process that is killed; a bucket has none, so there they are claims, which run out.

mod claim;

use std::{
    fs::{self, File, TryLockError},
    path::Path,
    time::Duration,
};

use super::{Store, files::below};
use crate::Error;
use claim::Claim;

/// How often a file's lock that somebody else holds is asked for.
const AGAIN: Duration = Duration::from_millis(20);

/// Who else may have the lock meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Whoever wants it shared as well.
    Shared,
    /// Nobody.
    Alone,
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) enum Lock {
    File(File),
    Claim(Claim),
}

impl Store {
    /// Waits for the lock of that name.
    pub(super) async fn lock(&self, name: &str, kind: Kind) -> Result<Lock, Error> {
        if let Some(root) = self.root.directory() {
            return file(&root.join(name), kind).await.map(Lock::File);
        }
        let (objects, root) = self.objects().await?;
        // Not the file's name: a directory that is copied to a bucket brings it along.
        let claim = Claim::of(objects, &below(root, &format!("{name}.claims")), kind).await;
        claim.map(Lock::Claim).map_err(|error| self.unusable(name, error))
    }
}

impl Lock {
    /// Whether nobody has taken it from a holder who seemed to be gone.
    pub(crate) async fn is_held(&self) -> Result<bool, Error> {
        match self {
            Self::File(_) => Ok(true),
            Self::Claim(claim) => claim.is_held().await,
        }
    }

    /// Whether what is removed from the bucket that it is in stays there as an old version.
    pub(super) fn keeps_versions(&self) -> bool {
        matches!(self, Self::Claim(claim) if claim.keeps_versions())
    }

    /// Gives it up for certain: a process that ends at once might leave a claim that is only dropped.
    pub(crate) async fn release(self) {
        match self {
            Self::File(file) => drop(file),
            Self::Claim(claim) => claim.release().await,
        }
    }
}

async fn file(path: &Path, kind: Kind) -> Result<File, Error> {
    let failed = |source| Error::Files { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let file = File::options().create(true).append(true).open(path).map_err(failed)?;
    loop {
        let locked = match kind {
            Kind::Shared => file.try_lock_shared(),
            Kind::Alone => file.try_lock(),
        };
        match locked {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(AGAIN).await,
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}
