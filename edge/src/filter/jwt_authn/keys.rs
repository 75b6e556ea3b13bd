//! The keys of an issuer (JWKS), and the tokens that they have proved already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;

use super::token::{BASE64, Failure, Token};

/// Proved tokens that are remembered, twice; a longer one is proved each time.
const REMEMBERED: usize = 1024;
const LONGEST_REMEMBERED: usize = 4096;

/// A key set. Tokens are remembered with the keys that proved them, so that new keys prove them anew.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<Key>,
    proved: Mutex<Proved>,
}

#[derive(Debug)]
struct Key {
    id: String,
    /// The only algorithm that the key may be used with; empty: any of its kind.
    algorithm: String,
    key: DecodingKey,
}

/// Tokens of the present, and of the past: those that nobody shows again are forgotten with it.
#[derive(Debug, Default)]
struct Proved {
    present: HashMap<Box<str>, Arc<Token>>,
    past: HashMap<Box<str>, Arc<Token>>,
}

impl Keys {
    /// Reads a key set; keys that cannot be used are passed over.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let set: Value = serde_json::from_slice(text).ok()?;
        let keys: Vec<_> = set.get("keys")?.as_array()?.iter().filter_map(Key::parse).collect();
        (!keys.is_empty()).then(|| Self { keys, proved: Mutex::default() })
    }

    /// Whether there is a key that the token may be signed with.
    pub(super) fn knows(&self, token: &Token) -> bool {
        self.keys.iter().any(|key| key.fits(token))
    }

    /// The token, if it was proved before.
    pub(super) fn proved(&self, text: &str) -> Option<Arc<Token>> {
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = proved.present.get(text) {
            return Some(Arc::clone(token));
        }
        let (text, token) = proved.past.remove_entry(text)?;
        proved.remember(text, Arc::clone(&token));
        Some(token)
    }

    pub(super) fn prove(&self, text: &str, token: &Arc<Token>) -> Result<(), Failure> {
        let mut fitting = self.keys.iter().filter(|key| key.fits(token)).peekable();
        if fitting.peek().is_none() {
            return Err(Failure::NO_MATCHING_KEY);
        }
        if !fitting.any(|key| key.proves(token)) {
            return Err(Failure::VERIFICATION);
        }
        if text.len() <= LONGEST_REMEMBERED {
            let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
            proved.remember(text.into(), Arc::clone(token));
        }
        Ok(())
    }
}

impl Proved {
    fn remember(&mut self, text: Box<str>, token: Arc<Token>) {
        if self.present.len() >= REMEMBERED {
            self.past = std::mem::take(&mut self.present);
        }
        self.present.insert(text, token);
    }
}

impl Key {
    fn parse(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let algorithm = text("alg").unwrap_or_default();
        let (prefix, decoded) = match text("kty")? {
            "RSA" => (&["RS", "PS"][..], DecodingKey::from_rsa_components(text("n")?, text("e")?).ok()?),
            "EC" => (&["ES"][..], DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?),
            "oct" => (&["HS"][..], DecodingKey::from_secret(&BASE64.decode(text("k")?).ok()?)),
            "OKP" if text("crv")? == "Ed25519" => {
                (&["EdDSA"][..], DecodingKey::from_ed_components(text("x")?).ok()?)
            }
            _ => return None,
        };
        let fits = algorithm.is_empty() || prefix.iter().any(|prefix| algorithm.starts_with(prefix));
        let id = text("kid").unwrap_or_default().to_owned();
        fits.then(|| Self { id, algorithm: algorithm.to_owned(), key: decoded })
    }

    /// A key or a token that has no id is tried with all.
    fn fits(&self, token: &Token) -> bool {
        let id = token.key_id.is_empty() || self.id.is_empty() || self.id == token.key_id;
        let algorithm = self.algorithm.parse::<Algorithm>();
        id && (self.algorithm.is_empty() || algorithm.is_ok_and(|algorithm| algorithm == token.algorithm))
    }

    fn proves(&self, token: &Token) -> bool {
        let (signature, signed) = (token.signature(), token.signed());
        // A public key must not serve as the secret of a MAC.
        self.key.family() == family(token.algorithm)
            && jsonwebtoken::crypto::verify(signature, signed, &self.key, token.algorithm).unwrap_or(false)
    }
}

fn family(algorithm: Algorithm) -> AlgorithmFamily {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => AlgorithmFamily::Hmac,
        Algorithm::ES256 | Algorithm::ES384 => AlgorithmFamily::Ec,
        Algorithm::EdDSA => AlgorithmFamily::Ed,
        _ => AlgorithmFamily::Rsa,
    }
}
