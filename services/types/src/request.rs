//! What makes a mutation repeatable (AIP-155), and what detects a concurrent one (AIP-154).

use prost::Message;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{InvalidRequest, Violations};

/// A mutation as its caller named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Full name of the method.
    pub method: &'static str,
    /// The caller's `request_id`; without one the mutation is not remembered.
    pub id: Option<Uuid>,
    /// Digest of the whole request: the same id with another payload is refused.
    pub digest: [u8; 32],
}

impl Request {
    /// Reads the `request_id` of `message`, the request of `method`.
    pub fn new(
        method: &'static str,
        request_id: &str,
        message: &impl Message,
    ) -> Result<Self, InvalidRequest> {
        let mut violations = Violations::default();
        let id = match request_id {
            "" => Some(None),
            text => {
                violations.check("request_id", Uuid::parse_str(text).map_err(|_| "is not a UUID")).map(Some)
            }
        };
        let digest = Sha256::digest(message.encode_to_vec()).into();
        violations.finish(id.map(|id| Self { method, id, digest }))
    }
}

/// The etag of a resource: a digest of what a change would change.
pub fn etag(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    hex::encode(&digest.finalize()[..8])
}
