//! Seeded chance. Every subject has a stream of its own per purpose, so a draw more in one place moves nothing elsewhere.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// `purpose` counts up to its 16th byte.
pub(crate) fn dice(seed: u64, purpose: &str, subject: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&subject.to_le_bytes());
    for (slot, byte) in key[16..].iter_mut().zip(purpose.bytes()) {
        *slot = byte;
    }
    ChaCha8Rng::from_seed(key)
}
