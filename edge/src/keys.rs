//! API keys: `om_<id>_<secret>`. The id finds the key, the secret proves it; only the secret's SHA-256 is stored.
//!
//! A secret has 256 bits of chance in it, so a plain digest cannot be guessed back. Callers are checked against a
//! snapshot in memory, which every change replaces.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use rand::Rng;
use rand::distr::Alphanumeric;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::first::call::Consumer;
use crate::first::error::KeysError;
use crate::store;

const PREFIX: &str = "om";
/// Letters and digits in a key's id.
const ID_LENGTH: usize = 12;
/// Letters and digits in a secret: 43 of 62 are 256 bits.
const SECRET_LENGTH: usize = 43;
const ADMIN: &str = "admin";
const ADMIN_FILE: &str = "admin.key";

/// What the holder of a new key may do.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Whom services will see as the caller.
    pub consumer: String,
    /// Patterns such as `order.read`, `catalog.*` or `*`.
    pub permissions: Vec<String>,
    /// From now; none never ends.
    pub lifetime: Option<Duration>,
}

/// A key as it is stored. Times are microseconds since 1970, UTC.
#[derive(Clone, Debug)]
pub(crate) struct ApiKey {
    pub(crate) id: String,
    pub(crate) secret_sha256: [u8; 32],
    pub(crate) consumer: String,
    pub(crate) permissions: Vec<String>,
    pub(crate) created_at: i64,
    pub(crate) expires_at: Option<i64>,
}

/// The API keys of one deployment.
#[derive(Debug)]
pub struct Keys {
    database: storage::Database,
    snapshot: RwLock<Arc<HashMap<String, ApiKey>>>,
}

impl Keys {
    /// Opens the store and makes sure that `<data_dir>/admin.key` holds a key that may do everything:
    /// in an empty store, and where the file of the stored admin key was lost.
    pub async fn open(config: &storage::Config, data_dir: &Path) -> Result<Self, KeysError> {
        let database = storage::Database::open(config, "edge", &store::MIGRATIONS).await?;
        let keys = Self { database, snapshot: RwLock::default() };
        keys.refresh().await?;
        keys.ensure_admin(&data_dir.join(ADMIN_FILE)).await?;
        Ok(keys)
    }

    /// Makes a key and returns it: the only moment at which its secret is known.
    pub async fn issue(&self, grant: Grant) -> Result<String, KeysError> {
        let (key, text) = ApiKey::generate(grant);
        let mut tx = self.database.begin().await?;
        store::insert_key(&mut tx, &key).await?;
        tx.commit().await?;
        self.refresh().await?;
        Ok(text)
    }

    /// The consumer that holds the presented key, if it is known and has not expired.
    pub(crate) fn authenticate(&self, presented: &[u8]) -> Option<Consumer> {
        let (id, secret) = split(std::str::from_utf8(presented).ok()?)?;
        let snapshot = self.snapshot();
        let key = snapshot.get(id)?;
        let proven: bool = Sha256::digest(secret).ct_eq(&key.secret_sha256).into();
        let alive = key.expires_at.is_none_or(|expires_at| now() < expires_at);
        if !(proven && alive) {
            return None;
        }
        Some(Consumer {
            id: HeaderValue::from_str(&key.consumer).ok()?,
            permissions: HeaderValue::from_str(&key.permissions.join(",")).ok()?,
        })
    }

    async fn ensure_admin(&self, file: &Path) -> Result<(), KeysError> {
        let snapshot = self.snapshot();
        let has_admin = snapshot.values().any(|key| key.consumer == ADMIN);
        let file_is_valid = || {
            let text = fs::read_to_string(file).unwrap_or_default();
            self.authenticate(text.trim().as_bytes()).is_some_and(|consumer| consumer.id == ADMIN)
        };
        if !snapshot.is_empty() && (!has_admin || file_is_valid()) {
            return Ok(());
        }
        let (key, text) = ApiKey::generate(Grant {
            consumer: ADMIN.to_owned(),
            permissions: vec!["*".to_owned()],
            lifetime: None,
        });
        // The file comes first: a crash between the two leaves a key that nobody honours, and the next start makes
        // another, instead of a stored key that nobody knows.
        write_secret(file, &text).map_err(|reason| KeysError::AdminKey { path: file.to_owned(), reason })?;
        let mut tx = self.database.begin().await?;
        store::delete_keys_of(&mut tx, ADMIN).await?;
        store::insert_key(&mut tx, &key).await?;
        tx.commit().await?;
        self.refresh().await
    }

    async fn refresh(&self) -> Result<(), KeysError> {
        let keys = store::list_keys(&self.database).await?;
        let keys = keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(())
    }

    fn snapshot(&self) -> Arc<HashMap<String, ApiKey>> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ApiKey {
    /// A new key and the text that its holder presents.
    fn generate(grant: Grant) -> (Self, String) {
        let (id, secret) = (random_text(ID_LENGTH), random_text(SECRET_LENGTH));
        let text = format!("{PREFIX}_{id}_{secret}");
        let created_at = now();
        let key = Self {
            id,
            secret_sha256: Sha256::digest(secret).into(),
            consumer: grant.consumer,
            permissions: grant.permissions,
            created_at,
            expires_at: grant.lifetime.map(|lifetime| created_at.saturating_add(micros(lifetime))),
        };
        (key, text)
    }
}

/// Id and secret of a presented key.
fn split(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')
}

fn random_text(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

fn now() -> i64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Writes a file that only its owner may read, whole or not at all, and durably.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let partial: PathBuf = path.with_extension("key.partial");
    // Left over from a crash, perhaps with another mode.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    File::open(directory)?.sync_all()
}
