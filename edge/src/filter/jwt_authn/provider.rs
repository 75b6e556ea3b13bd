//! An issuer of tokens: what it asks of them, and what becomes of those that are good.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::JwksSourceSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::{JwtClaimToHeader, JwtProvider};
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::keys::Keys;
use super::places::{Place, Places};
use super::remote::Remote;
use super::token::{BASE64, Failure, Token};
use crate::call::Call;
use crate::filter::Context;
use crate::head::header_name;
use crate::matcher::{StringMatcher, each};
use crate::problem::{Path, Problem};
use crate::stats::Scope;
use crate::value;

pub(super) const NAMESPACE: &str = "envoy.filters.http.jwt_authn";
const CLOCK_SKEW: u64 = 60;

#[derive(Debug)]
pub(super) struct Provider {
    pub(super) issuer: String,
    pub(super) places: Places,
    pub(super) source: Source,
    audiences: Audiences,
    subjects: Option<StringMatcher>,
    require_expiration: bool,
    max_lifetime: Option<Duration>,
    clock_skew: u64,
    forward: bool,
    payload_header: Option<HeaderName>,
    pad_payload: bool,
    payload_in_metadata: String,
    header_in_metadata: String,
    claims: Vec<Claim>,
    clear_route_cache: bool,
}

/// Where the keys are.
#[derive(Debug)]
pub(super) enum Source {
    Local(Option<Arc<Keys>>),
    Remote(Arc<Remote>),
}

/// Whom tokens are for; none: for everybody.
#[derive(Debug)]
pub(super) struct Audiences(HashSet<String>);

impl Audiences {
    pub(super) fn new(config: &[String]) -> Self {
        Self(config.iter().map(|audience| bare(audience).to_owned()).collect())
    }

    fn allow(&self, audiences: &[String]) -> bool {
        self.0.is_empty() || audiences.iter().any(|audience| self.0.contains(bare(audience)))
    }
}

/// An audience without scheme and last slash.
fn bare(audience: &str) -> &str {
    let bare = audience.strip_prefix("http://").or_else(|| audience.strip_prefix("https://"));
    let bare = bare.unwrap_or(audience);
    bare.strip_suffix('/').unwrap_or(bare)
}

/// A claim that goes upstream in a header.
#[derive(Debug)]
struct Claim {
    header: HeaderName,
    path: Vec<String>,
}

impl Claim {
    fn compile(config: &JwtClaimToHeader, at: &Path<'_>) -> Result<Self, Problem> {
        let path: Vec<_> = match config.claim_path.as_slice() {
            [] => config.claim_name.split('.').map(str::to_owned).collect(),
            segments => segments.iter().map(|segment| segment.key.clone()).collect(),
        };
        Ok(Self { header: header_name(&config.header_name, &at.field("header_name"))?, path })
    }

    fn of(&self, payload: &Map<String, Value>) -> Option<HeaderValue> {
        let (first, rest) = self.path.split_first()?;
        let value = rest.iter().try_fold(payload.get(first)?, |value, key| value.get(key))?;
        let text = match value {
            Value::Null => return None,
            Value::Bool(is) => is.to_string(),
            Value::String(text) => text.clone(),
            Value::Number(number) => match number.as_f64()? {
                whole if whole >= 0.0 && whole.fract() == 0.0 => format!("{whole:.0}"),
                other => format!("{other:.6}"),
            },
            Value::Array(_) | Value::Object(_) => BASE64_STANDARD.encode(value.to_string()),
        };
        HeaderValue::from_str(&text).ok().filter(|text| !text.is_empty())
    }
}

impl Provider {
    pub(super) fn compile(
        config: &JwtProvider,
        stats: &Scope,
        at: &Path<'_>,
        context: &Context<'_>,
    ) -> Result<Self, Problem> {
        if config.normalize_payload_in_metadata.is_some() {
            return Err(at.field("normalize_payload_in_metadata").problem("is not supported: remove it"));
        }
        if !config.failed_status_in_metadata.is_empty() {
            return Err(at.field("failed_status_in_metadata").problem("is not supported: remove it"));
        }
        let source = match &config.jwks_source_specifier {
            Some(JwksSourceSpecifier::LocalJwks(source)) => {
                let keys = Keys::parse(&value::read(source, &at.field("local_jwks"))?);
                if keys.is_none() {
                    tracing::warn!(
                        issuer = config.issuer,
                        "local_jwks holds no usable key: no token will pass"
                    );
                }
                Source::Local(keys.map(Arc::new))
            }
            Some(JwksSourceSpecifier::RemoteJwks(remote)) => {
                Source::Remote(Arc::new(Remote::compile(remote, stats, &at.field("remote_jwks"), context)?))
            }
            None => return Err(at.problem("needs one of local_jwks, remote_jwks")),
        };
        let subjects = config.subjects.as_ref();
        let payload_header = Some(&config.forward_payload_header).filter(|name| !name.is_empty());
        Ok(Self {
            issuer: config.issuer.clone(),
            places: Places::compile(config, at)?,
            source,
            audiences: Audiences::new(&config.audiences),
            subjects: subjects
                .map(|subjects| StringMatcher::compile(subjects, &at.field("subjects")))
                .transpose()?,
            require_expiration: config.require_expiration,
            max_lifetime: config.max_lifetime.as_ref().map(value::duration),
            clock_skew: if config.clock_skew_seconds == 0 {
                CLOCK_SKEW
            } else {
                config.clock_skew_seconds.into()
            },
            forward: config.forward,
            payload_header: payload_header
                .map(|name| header_name(name, &at.field("forward_payload_header")))
                .transpose()?,
            pad_payload: config.pad_forward_payload_header,
            payload_in_metadata: config.payload_in_metadata.clone(),
            header_in_metadata: config.header_in_metadata.clone(),
            claims: each(&config.claim_to_headers, at, "claim_to_headers", Claim::compile)?,
            clear_route_cache: config.clear_route_cache,
        })
    }

    pub(super) fn keys(&self) -> Result<Arc<Keys>, Failure> {
        match &self.source {
            Source::Local(keys) => keys.clone().ok_or(Failure::NO_VALID_KEYS),
            Source::Remote(remote) => remote.keys().ok_or(Failure::FETCH),
        }
    }

    /// What a token says of itself, against what is asked of it; its signature is another matter.
    pub(super) fn check(
        &self,
        token: &Token,
        audiences: Option<&Audiences>,
        now: SystemTime,
    ) -> Result<(), Failure> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if now + self.clock_skew < token.not_before {
            return Err(Failure::NOT_YET_VALID);
        }
        if token.expires != 0 && now > token.expires.saturating_add(self.clock_skew) {
            return Err(Failure::EXPIRED);
        }
        if !audiences.unwrap_or(&self.audiences).allow(&token.audiences) {
            return Err(Failure::AUDIENCE);
        }
        let subject = self.subjects.as_ref().is_none_or(|subjects| subjects.matches(&token.subject));
        let expires = token.expires != 0 || !self.require_expiration && self.max_lifetime.is_none();
        let left = Duration::from_secs(token.expires.saturating_sub(now));
        let short = self.max_lifetime.is_none_or(|max| left <= max);
        if subject && expires && short { Ok(()) } else { Err(Failure::VERIFICATION) }
    }

    /// Tells the upstream and the filters behind what a good token says.
    pub(super) fn accept(&self, call: &mut Call, token: &Token, place: &Place) {
        if let Some(name) = &self.payload_header {
            let text = token.payload_text();
            let padded = self.pad_payload.then(|| BASE64.decode(text).ok()).flatten();
            let padded = padded.map(|payload| BASE64_URL_SAFE.encode(payload));
            if let Ok(payload) = HeaderValue::try_from(padded.as_deref().unwrap_or(text)) {
                call.request.headers.append(name, payload);
            }
        }
        for claim in &self.claims {
            if let Some(value) = claim.of(&token.payload) {
                call.request.headers.append(&claim.header, value);
            }
        }
        if !self.forward {
            place.clear(&mut call.request);
        }
        for (name, facts) in
            [(&self.header_in_metadata, &token.header), (&self.payload_in_metadata, &token.payload)]
        {
            if !name.is_empty() {
                call.note(NAMESPACE, name, Value::Object(facts.clone()));
            }
        }
        let told = !self.claims.is_empty() || !self.payload_in_metadata.is_empty();
        call.reroute |= self.clear_route_cache && told;
    }
}
