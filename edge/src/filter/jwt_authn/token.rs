//! A JSON web token, read but not yet believed.

use std::str::FromStr;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde_json::{Map, Value};

/// As tolerant as Envoy: with padding or without, whatever the last bits are.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a token, or its absence, is not accepted; in Envoy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure(pub(super) &'static str);

impl Failure {
    pub(super) const MISSING: Self = Self("Jwt is missing");
    pub(super) const NOT_YET_VALID: Self = Self("Jwt not yet valid");
    pub(super) const EXPIRED: Self = Self("Jwt is expired");
    pub(super) const UNKNOWN_ISSUER: Self = Self("Jwt issuer is not configured");
    pub(super) const AUDIENCE: Self = Self("Audiences in Jwt are not allowed");
    pub(super) const VERIFICATION: Self = Self("Jwt verification fails");
    pub(super) const NO_VALID_KEYS: Self = Self("Jwks doesn't have any valid public key");
    pub(super) const NO_MATCHING_KEY: Self = Self("Jwks doesn't have key to match kid or alg from Jwt");
    pub(super) const FETCH: Self = Self("Jwks remote fetch is failed");
    pub(super) const ED25519_LENGTH: Self = Self("Jwt ED25519 signature is wrong length");
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl FromStr for Algorithm {
    type Err = serde::de::value::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::deserialize(name.into_deserializer())
    }
}

/// What a token says of itself. Times are seconds since 1970; zero: not said.
#[derive(Debug)]
pub(super) struct Token {
    /// What is signed, and the signature, as they were written.
    signed: String,
    signature: Vec<u8>,
    pub(super) header: Map<String, Value>,
    pub(super) payload: Map<String, Value>,
    pub(super) algorithm: Algorithm,
    pub(super) key_id: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) audiences: Vec<String>,
    pub(super) not_before: u64,
    pub(super) expires: u64,
}

impl Token {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let parts: Vec<&str> = text.split('.').collect();
        let [header_text, payload_text, signature] = parts[..] else { return Err(MALFORMED) };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(MALFORMED);
        }
        let header = json(
            header_text,
            Failure("Jwt header is an invalid Base64url encoded"),
            Failure("Jwt header is an invalid JSON"),
        )?;
        let Some(Value::String(algorithm)) = header.get("alg") else {
            return Err(Failure("Jwt header [alg] field is required and must be a string"));
        };
        let algorithm = algorithm.parse().map_err(|_| Failure("Jwt header [alg] is not supported"))?;
        let key_id = string(&header, "kid", Failure("Jwt header [kid] field is not a string"))?;
        let payload = json(
            payload_text,
            Failure("Jwt payload is an invalid Base64url encoded"),
            Failure("Jwt payload is an invalid JSON"),
        )?;
        let claims = &payload;
        let issuer = string(claims, "iss", Failure("Jwt payload [iss] field is not a string"))?;
        let subject = string(claims, "sub", Failure("Jwt payload [sub] field is not a string"))?;
        time(claims, "iat", IAT)?;
        let not_before = time(claims, "nbf", NBF)?;
        let expires = time(claims, "exp", EXP)?;
        string(claims, "jti", Failure("Jwt payload [jti] field is not a string"))?;
        let audiences = audiences(claims.get("aud"))?;
        let bytes = BASE64.decode(signature);
        let bytes = bytes.map_err(|_| Failure("Jwt signature is an invalid Base64url encoded"))?;
        if algorithm == Algorithm::EdDSA && bytes.len() != ED25519_SIGNATURE {
            return Err(Failure::ED25519_LENGTH);
        }
        Ok(Self {
            signed: format!("{header_text}.{payload_text}"),
            signature: bytes,
            algorithm,
            key_id,
            issuer,
            subject,
            audiences,
            not_before,
            expires,
            header,
            payload,
        })
    }

    pub(super) fn signed(&self) -> &[u8] {
        self.signed.as_bytes()
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The payload as it was written.
    pub(super) fn payload_text(&self) -> &str {
        self.signed.split_once('.').map_or("", |(_, payload)| payload)
    }
}

const ED25519_SIGNATURE: usize = 64;
const MALFORMED: Failure =
    Failure("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections");
/// What is said of a time that is no number, and of one that is out of range.
const IAT: [Failure; 2] = [
    Failure("Jwt payload [iat] field is not an integer"),
    Failure("Jwt payload [iat] field is not a positive 64 bit integer"),
];
const NBF: [Failure; 2] = [
    Failure("Jwt payload [nbf] field is not an integer"),
    Failure("Jwt payload [nbf] field is not a positive 64 bit integer"),
];
const EXP: [Failure; 2] = [
    Failure("Jwt payload [exp] field is not an integer"),
    Failure("Jwt payload [exp] field is not a positive 64 bit integer"),
];

fn json(text: &str, no_base64: Failure, no_json: Failure) -> Result<Map<String, Value>, Failure> {
    let bytes = BASE64.decode(text).map_err(|_| no_base64)?;
    serde_json::from_slice(&bytes).map_err(|_| no_json)
}

fn string(of: &Map<String, Value>, name: &str, wrong: Failure) -> Result<String, Failure> {
    match of.get(name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(wrong),
    }
}

fn time(
    of: &Map<String, Value>,
    name: &str,
    [no_number, out_of_range]: [Failure; 2],
) -> Result<u64, Failure> {
    let Some(value) = of.get(name) else { return Ok(0) };
    let seconds = value.as_f64().ok_or(no_number)?;
    if !(0.0..9_223_372_036_854_775_808.0).contains(&seconds) {
        return Err(out_of_range);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    Ok(seconds as u64)
}

fn audiences(value: Option<&Value>) -> Result<Vec<String>, Failure> {
    let texts = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
    };
    let texts = texts.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>();
    texts.ok_or(Failure("Jwt payload [aud] field is not a string or string list"))
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_envoys_words() {
        let good = r#"{"alg":"RS256"}"#;
        for (header, payload, expected) in [
            ("no", "{}", "Jwt header is an invalid JSON"),
            ("{}", "{}", "Jwt header [alg] field is required and must be a string"),
            (r#"{"alg":"none"}"#, "{}", "Jwt header [alg] is not supported"),
            (r#"{"alg":"RS256","kid":1}"#, "{}", "Jwt header [kid] field is not a string"),
            (good, "[]", "Jwt payload is an invalid JSON"),
            (good, r#"{"iss":1}"#, "Jwt payload [iss] field is not a string"),
            (good, r#"{"exp":"1"}"#, "Jwt payload [exp] field is not an integer"),
            (good, r#"{"nbf":-1}"#, "Jwt payload [nbf] field is not a positive 64 bit integer"),
            (good, r#"{"aud":[1]}"#, "Jwt payload [aud] field is not a string or string list"),
            (r#"{"alg":"EdDSA"}"#, "{}", "Jwt ED25519 signature is wrong length"),
        ] {
            let [header, payload] = [header, payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
            let failure = Token::parse(&format!("{header}.{payload}.c2ln")).expect_err("is wrong");
            assert_eq!(failure, Failure(expected));
        }
        for text in ["", "a.b", "a..c", "a.b.c.d"] {
            assert_eq!(Token::parse(text).expect_err("is wrong"), MALFORMED, "{text}");
        }
        let failure = Token::parse("!.e30.c2ln").expect_err("is wrong");
        assert_eq!(failure, Failure("Jwt header is an invalid Base64url encoded"));
    }
}
