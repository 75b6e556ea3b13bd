//! Claims in a directory, whose files can be made old.

use std::{
    fs::File,
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use tempfile::TempDir;
use tokio::task::yield_now;

use super::*;

struct Place {
    directory: TempDir,
    objects: Arc<ObjectStore>,
    path: Path,
}

impl Place {
    async fn new() -> Arc<Self> {
        let directory = TempDir::new().unwrap();
        let (objects, path) = ObjectStore::from_uri(directory.path().to_str().unwrap()).await.unwrap();
        Arc::new(Self { directory, objects, path })
    }

    async fn claim(&self, kind: Kind) -> Claim {
        Claim::of(&self.objects, &self.path, kind).await.unwrap()
    }

    fn claimed(self: &Arc<Self>, kind: Kind) -> JoinHandle<Claim> {
        let place = Arc::clone(self);
        tokio::spawn(async move { place.claim(kind).await })
    }

    async fn names(&self) -> Vec<String> {
        let claims: Vec<_> = self.objects.list(Some(self.path.clone())).try_collect().await.unwrap();
        claims.into_iter().map(|claim| claim.location.filename().unwrap().to_owned()).collect()
    }

    /// Makes a claim one that was not renewed for long.
    fn age(&self, name: &str) {
        let file = File::options().create(true).append(true).open(self.directory.path().join(name)).unwrap();
        file.set_modified(SystemTime::now() - 2 * VOID).unwrap();
    }
}

#[tokio::test]
async fn whoever_wants_it_alone_waits_for_those_before_and_goes_before_those_after() {
    let place = Place::new().await;
    let before = [place.claim(Kind::Shared).await, place.claim(Kind::Shared).await];
    let alone = place.claimed(Kind::Alone);
    while !place.names().await.iter().any(|name| name.ends_with(".alone")) {
        yield_now().await;
    }
    let after = place.claimed(Kind::Shared);
    for claim in before {
        assert!(!alone.is_finished());
        claim.release().await;
    }
    let alone = alone.await.unwrap();
    assert!(alone.is_held().await.unwrap() && !after.is_finished());
    alone.release().await;
    after.await.unwrap().release().await;
    assert_eq!(place.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn no_two_have_it_alone() {
    let place = Place::new().await;
    let holders = Arc::new(AtomicUsize::new(0));
    let take = || {
        let (place, holders) = (Arc::clone(&place), Arc::clone(&holders));
        async move {
            let claim = place.claim(Kind::Alone).await;
            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
            place.names().await;
            holders.fetch_sub(1, Ordering::SeqCst);
            claim.release().await;
        }
    };
    tokio::join!(take(), take(), take());
}

#[tokio::test]
async fn a_claim_that_is_not_renewed_is_void_and_its_holder_knows() {
    let place = Place::new().await;
    place.age("gone.alone");
    let hung = place.claim(Kind::Alone).await;
    assert!(hung.is_held().await.unwrap());
    place.age(hung.path.filename().unwrap());
    let next = place.claim(Kind::Alone).await;
    assert!(next.is_held().await.unwrap() && !hung.is_held().await.unwrap());
    assert_eq!(place.names().await, [next.path.filename().unwrap()]);
}
