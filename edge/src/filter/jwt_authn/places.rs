//! Where in a request tokens stand.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtProvider;
use http::HeaderName;
use http::header::AUTHORIZATION;

use crate::head::{Fields, Head, header_name};
use crate::matcher::decoded_parameter;
use crate::problem::{Path, Problem};

const BEARER: &str = "Bearer ";
const ACCESS_TOKEN: &str = "access_token";

/// The places that some providers look at, in the order in which they are looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    places: BTreeMap<Place, Issuers>,
    /// Headers that only the edge may set.
    own: Vec<HeaderName>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Header { name: String, prefix: String },
    Parameter(String),
    Cookie(String),
}

/// Whose tokens may stand at a place; an empty name stands for anybody.
#[derive(Clone, Debug, Default)]
pub(super) struct Issuers(Vec<String>);

/// A token where it was found.
#[derive(Debug)]
pub(super) struct Found<'p> {
    pub(super) text: String,
    pub(super) place: &'p Place,
    issuers: &'p Issuers,
}

impl Found<'_> {
    pub(super) fn may_be_of(&self, issuer: &str) -> bool {
        self.issuers.0.iter().any(|allowed| allowed.is_empty() || allowed == issuer)
    }
}

impl Places {
    pub(super) fn compile(config: &JwtProvider, at: &Path<'_>) -> Result<Self, Problem> {
        let mut all = Vec::new();
        for header in &config.from_headers {
            let name = header_name(&header.name, &at.field("from_headers"))?.as_str().to_owned();
            all.push(Place::Header { name, prefix: header.value_prefix.clone() });
        }
        all.extend(config.from_params.iter().cloned().map(Place::Parameter));
        all.extend(config.from_cookies.iter().cloned().map(Place::Cookie));
        if all.is_empty() {
            all.push(Place::Header { name: AUTHORIZATION.as_str().to_owned(), prefix: BEARER.to_owned() });
            all.push(Place::Parameter(ACCESS_TOKEN.to_owned()));
        }
        let issuers = || Issuers(vec![config.issuer.clone()]);
        let places = all.into_iter().map(|place| (place, issuers())).collect();
        let payload = Some(&config.forward_payload_header).filter(|name| !name.is_empty());
        let claims = config.claim_to_headers.iter().map(|claim| &claim.header_name);
        let own = payload.into_iter().chain(claims);
        let own = own.map(|name| header_name(name, at)).collect::<Result<_, _>>()?;
        Ok(Self { places, own })
    }

    /// The places of both.
    pub(super) fn join(mut self, other: &Self) -> Self {
        for (place, issuers) in &other.places {
            self.places.entry(place.clone()).or_default().0.extend_from_slice(&issuers.0);
        }
        self.own.extend_from_slice(&other.own);
        self
    }

    /// Takes off what only the edge may say.
    pub(super) fn clean(&self, request: &mut Head) {
        for name in &self.own {
            request.headers.remove(name);
        }
    }

    pub(super) fn find(&self, request: &Head) -> Vec<Found<'_>> {
        let mut found = Vec::new();
        for (place, issuers) in &self.places {
            let mut add = |text: &str| found.push(Found { text: text.to_owned(), place, issuers });
            match place {
                Place::Header { name, prefix } => {
                    for value in request.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
                    {
                        if let Some(at) = value.find(prefix.as_str()) {
                            add(if prefix.is_empty() { value } else { token_in(value, at + prefix.len()) });
                        }
                    }
                }
                Place::Parameter(name) => {
                    if let Some(value) = request.path.query().and_then(|query| decoded_parameter(query, name))
                    {
                        add(&value);
                    }
                }
                Place::Cookie(name) => {
                    if let Some(value) = request.cookie(name) {
                        add(value);
                    }
                }
            }
        }
        found
    }
}

impl Place {
    /// Takes the token off. A cookie stays, as in Envoy.
    pub(super) fn clear(&self, request: &mut Head) {
        match self {
            Self::Header { name, .. } => drop(request.headers.remove(name)),
            Self::Parameter(name) => request.change_query([], [name.as_str()]),
            Self::Cookie(_) => {}
        }
    }
}

/// What follows a prefix, from the first character that can begin a token; the whole value where there is none.
fn token_in(value: &str, after: usize) -> &str {
    let begins = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    value[after..].find(begins).map_or(value, |begin| &value[after + begin..])
}
