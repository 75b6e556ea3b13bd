//! The keys of an issuer (JWKS), and the tokens that they have proved already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use ring::hmac;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;

use super::token::{Algorithm, BASE64, Failure, Token};

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
    key: Material,
}

/// What a key is made of.
#[derive(Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point as it is written: 4, x, y.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
}

impl Material {
    fn parse(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| BASE64.decode(text(name)?).ok();
        let point = || Some([vec![4], bytes("x")?, bytes("y")?].concat());
        Some(match (text("kty")?, text("crv").unwrap_or_default()) {
            ("RSA", _) => Self::Rsa { n: bytes("n")?, e: bytes("e")? },
            ("EC", "P-384") => Self::P384(point()?),
            ("EC", "P-256" | "") => Self::P256(point()?),
            ("OKP", "Ed25519") => Self::Ed25519(bytes("x")?),
            ("oct", _) => Self::Secret(bytes("k")?),
            _ => return None,
        })
    }

    /// What the names of algorithms that use such a key begin with.
    fn prefixes(&self) -> &'static [&'static str] {
        match self {
            Self::Rsa { .. } => &["RS", "PS"],
            Self::P256(_) | Self::P384(_) => &["ES"],
            Self::Ed25519(_) => &["EdDSA"],
            Self::Secret(_) => &["HS"],
        }
    }

    /// Whether the key made the signature; a public key never serves as the secret of a MAC.
    fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        use Algorithm as A;
        let rsa: &signature::RsaParameters = match algorithm {
            A::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            A::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            A::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
            A::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
            A::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
            _ => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        let mac = match algorithm {
            A::HS384 => hmac::HMAC_SHA384,
            A::HS512 => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        let of = |kind: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(kind, key).verify(signed, signature).is_ok()
        };
        match (self, algorithm) {
            (Self::Rsa { n, e }, A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512) => {
                RsaPublicKeyComponents { n, e }.verify(rsa, signed, signature).is_ok()
            }
            (Self::P256(point), A::ES256) => of(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Self::P384(point), A::ES384) => of(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Self::Ed25519(point), A::EdDSA) => of(&signature::ED25519, point),
            (Self::Secret(secret), A::HS256 | A::HS384 | A::HS512) => {
                hmac::verify(&hmac::Key::new(mac, secret), signed, signature).is_ok()
            }
            _ => false,
        }
    }
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
        let material = Material::parse(key)?;
        let fits =
            algorithm.is_empty() || material.prefixes().iter().any(|prefix| algorithm.starts_with(prefix));
        let id = text("kid").unwrap_or_default().to_owned();
        fits.then(|| Self { id, algorithm: algorithm.to_owned(), key: material })
    }

    /// A key or a token that has no id is tried with all.
    fn fits(&self, token: &Token) -> bool {
        let id = token.key_id.is_empty() || self.id.is_empty() || self.id == token.key_id;
        let algorithm = self.algorithm.parse::<Algorithm>();
        id && (self.algorithm.is_empty() || algorithm.is_ok_and(|algorithm| algorithm == token.algorithm))
    }

    fn proves(&self, token: &Token) -> bool {
        self.key.verifies(token.algorithm, token.signed(), token.signature())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signed by another implementation.
    const TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
        -oqjY_jk0JqnRIUwm4deQ605KhaJQ6x_pQebvdljiCU";
    const SECRET: &str =
        "AyM1SysPpbyUfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

    fn keys(more: &str, secret: &str) -> Keys {
        let set = format!(r#"{{"keys":[{{"kty":"oct","k":"{secret}"{more}}},{{"kty":"unknown"}}]}}"#);
        Keys::parse(set.as_bytes()).expect("a key")
    }

    #[test]
    fn a_key_proves_what_it_signed() {
        let token = Arc::new(Token::parse(TOKEN).expect("a token"));
        assert_eq!((token.issuer.as_str(), token.expires), ("joe", 1_300_819_380));
        for (more, secret, expected) in [
            ("", SECRET, Ok(())),
            (r#","alg":"HS256","kid":"one""#, SECRET, Ok(())),
            (r#","alg":"HS512""#, SECRET, Err(Failure::NO_MATCHING_KEY)),
            ("", "c2VjcmV0", Err(Failure::VERIFICATION)),
        ] {
            let keys = keys(more, secret);
            assert_eq!(keys.prove(TOKEN, &token), expected, "{more} {secret}");
            assert_eq!(keys.proved(TOKEN).is_some(), expected.is_ok(), "{more} {secret}");
        }
    }

    #[test]
    fn a_set_without_a_usable_key_is_none() {
        for set in
            ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[{"kty":"RSA","n":"AQ"}]}"#]
        {
            assert!(Keys::parse(set.as_bytes()).is_none(), "{set}");
        }
    }

    #[test]
    fn tokens_that_nobody_shows_again_are_forgotten() {
        let (keys, token) = (keys("", SECRET), Arc::new(Token::parse(TOKEN).expect("a token")));
        let mut proved = keys.proved.lock().expect("no panic before");
        proved.remember("again".into(), Arc::clone(&token));
        for number in 0..3 * REMEMBERED {
            proved.remember(number.to_string().into(), Arc::clone(&token));
            if number % 100 == 0
                && let Some((text, token)) = proved.past.remove_entry("again")
            {
                proved.remember(text, token);
            }
        }
        assert!(proved.present.len() + proved.past.len() <= 2 * REMEMBERED);
        assert!(!proved.present.contains_key("0") && !proved.past.contains_key("0"));
    }
}
