//! API keys: `omk_<id>_<secret>`. The id finds the key, the secret proves it; only the secret's SHA-256 is stored.
//!
//! A secret has 256 bits of chance in it, so a plain digest cannot be guessed back.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rand::Rng;
use rand::distr::Alphanumeric;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Consumers, ConsumersError, store};

/// By which a leaked key is recognised.
const PREFIX: &str = "omk_";
/// Letters and digits in a key's id.
const ID_LENGTH: usize = 12;
/// Letters and digits in a secret: 43 of 62 are 256 bits.
const SECRET_LENGTH: usize = 43;
/// The holder of the key in a data directory.
const ADMIN: &str = "admin";
const ADMIN_FILE: &str = "admin.key";
/// The data directories' own keys, and whoever uses a data directory's socket, go by these names.
const RESERVED: [&str; 2] = [ADMIN, "operator"];
const NAME_LENGTH: usize = 63;

/// What the holder of a new key may do. Times are microseconds since 1970, UTC.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Whom services will see as the caller.
    pub consumer: String,
    /// Patterns such as `order.read`, `catalog.*` or `*`.
    pub permissions: Vec<String>,
    /// From when on the key is refused; none never is.
    pub expires_at: Option<i64>,
}

/// A key as it is stored: not what its holder presents, which cannot be known from it.
#[derive(Clone)]
pub struct ApiKey {
    pub(crate) id: String,
    pub(crate) secret_sha256: [u8; 32],
    pub grant: Grant,
    pub created_at: i64,
}

impl Consumers {
    /// Makes a key and returns it with the text that its holder presents: the only moment at which that is known.
    /// With a plan, the consumer is put on that, whatever keys it has besides.
    pub async fn issue(&self, grant: Grant, plan: Option<&str>) -> Result<(ApiKey, String), ConsumersError> {
        if RESERVED.contains(&&*grant.consumer) || !is_name(&grant.consumer) {
            return Err(ConsumersError::Consumer(grant.consumer));
        }
        if let Some(plan) = plan {
            self.check_plan(plan).await?;
        }
        let (key, text) = ApiKey::generate(grant);
        let mut tx = self.database.begin().await?;
        store::insert_key(&mut tx, &key).await?;
        if plan.is_some() {
            store::assign_plan(&mut tx, &key.grant.consumer, plan).await?;
        }
        tx.commit().await?;
        Ok((key, text))
    }

    /// Every key, expired ones included, by consumer and age.
    pub async fn list(&self) -> Result<Vec<ApiKey>, ConsumersError> {
        store::list_keys(&self.database).await
    }

    /// Forgets every key of a consumer, or the one key `omk_<id>`, and says how many those were. What follows the id
    /// in a key that leaked need not be cut off.
    pub async fn revoke(&self, consumer_or_key: &str) -> Result<u64, ConsumersError> {
        let mut tx = self.database.begin().await?;
        let revoked = match consumer_or_key.strip_prefix(PREFIX) {
            Some(key) => store::delete_key(&mut tx, key.split('_').next().unwrap_or(key)).await?,
            None => store::delete_keys_of(&mut tx, consumer_or_key).await?,
        };
        tx.commit().await?;
        Ok(revoked)
    }

    /// Makes sure that `<data_dir>/admin.key` holds a key that may do everything. That key is the data directory's:
    /// those of other directories on the same database stay as they are.
    pub async fn ensure_admin(&self, data_dir: &Path) -> Result<(), ConsumersError> {
        let file = data_dir.join(ADMIN_FILE);
        let kept = fs::read_to_string(&file).unwrap_or_default();
        let proves = |key: &ApiKey| key.grant.consumer == ADMIN && key.is_proven_by(kept.trim().as_bytes());
        if self.list().await?.iter().any(proves) {
            return Ok(());
        }
        let (key, text) = ApiKey::generate(Grant {
            consumer: ADMIN.to_owned(),
            permissions: vec!["*".to_owned()],
            expires_at: None,
        });
        // The file comes first: a crash between the two leaves a key that nobody honours, and the next start makes
        // another, instead of a stored key that nobody knows.
        write_secret(&file, &text).map_err(|reason| ConsumersError::AdminKey { path: file, reason })?;
        let mut tx = self.database.begin().await?;
        store::insert_key(&mut tx, &key).await?;
        Ok(tx.commit().await?)
    }
}

impl ApiKey {
    /// A new key and the text that its holder presents.
    fn generate(grant: Grant) -> (Self, String) {
        let (id, secret) = (random_text(ID_LENGTH), random_text(SECRET_LENGTH));
        let text = format!("{PREFIX}{id}_{secret}");
        (Self { id, secret_sha256: Sha256::digest(secret).into(), grant, created_at: now() }, text)
    }

    /// The part of it that is no secret: how it is named in lists and revoked.
    pub fn name(&self) -> String {
        format!("{PREFIX}{}", self.id)
    }

    /// Whether what somebody presents is this key, and it may still be used.
    pub(super) fn is_proven_by(&self, presented: &[u8]) -> bool {
        let Some((id, secret)) = split(presented) else { return false };
        let proven: bool = Sha256::digest(secret).ct_eq(&self.secret_sha256).into();
        id == self.id && proven && !self.is_expired()
    }

    /// Whether its time is over.
    pub fn is_expired(&self) -> bool {
        self.grant.expires_at.is_some_and(|expires_at| expires_at <= now())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).field("grant", &self.grant).finish_non_exhaustive()
    }
}

/// Id and secret of a presented key.
pub(super) fn split(presented: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(presented).ok()?.strip_prefix(PREFIX)?.split_once('_')
}

/// Whether it can be a consumer's name: in a header, on a command line, and never mistaken for a key.
pub(super) fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    (1..=NAME_LENGTH).contains(&text.len())
        && text.bytes().all(is_plain)
        && !text.starts_with('-')
        && !text.starts_with(PREFIX)
}

fn random_text(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

fn now() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
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
