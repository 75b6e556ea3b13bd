//! The number by which a call meets the same host again.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy as Config;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{Cookie, PolicySpecifier};
use twox_hash::XxHash64;

use super::duration;
use crate::call::Call;
use crate::head::{Field, Fields};
use crate::matcher::{Substitution, decoded_parameter};
use crate::problem::{Path, Problem};

/// One part of a hash.
#[derive(Debug)]
pub(crate) struct HashPolicy {
    of: Of,
    /// No later part counts once this one is known.
    terminal: bool,
}

#[derive(Debug)]
enum Of {
    Header { name: Field, rewrite: Option<Substitution> },
    Cookie { name: String, made: Option<Made> },
    SourceIp,
    Parameter(String),
}

/// How a cookie that is missing is made.
#[derive(Debug)]
struct Made {
    ttl: Duration,
    /// ` path=…` and what more is written behind the value.
    attributes: String,
}

/// Cookies that the client has to be given so that its next calls have the same hash; kept with the call.
#[derive(Clone, Debug)]
pub(super) struct SetCookies(pub(super) Vec<String>);

impl HashPolicy {
    pub(super) fn compile(config: &Config, at: &Path<'_>) -> Result<Self, Problem> {
        let of = match &config.policy_specifier {
            None => {
                return Err(at.problem("needs one of header, cookie, connection_properties, query_parameter"));
            }
            Some(PolicySpecifier::Header(header)) => {
                let at = at.field("header");
                Of::Header {
                    name: Field::parse(&header.header_name, &at.field("header_name"))?,
                    rewrite: match &header.regex_rewrite {
                        Some(rewrite) => Some(Substitution::compile(rewrite, &at.field("regex_rewrite"))?),
                        None => None,
                    },
                }
            }
            Some(PolicySpecifier::Cookie(cookie)) => cookie_of(cookie, &at.field("cookie"))?,
            Some(PolicySpecifier::ConnectionProperties(of)) if of.source_ip => Of::SourceIp,
            Some(PolicySpecifier::ConnectionProperties(_)) => {
                return Err(at.field("connection_properties").problem("needs source_ip: true"));
            }
            Some(PolicySpecifier::QueryParameter(parameter)) => Of::Parameter(parameter.name.clone()),
            Some(PolicySpecifier::FilterState(_)) => {
                return Err(at.field("filter_state").problem("is not supported"));
            }
        };
        Ok(Self { of, terminal: config.terminal })
    }

    fn hash(&self, call: &Call, cookies: &mut Vec<String>) -> Option<u64> {
        match &self.of {
            Of::Header { name, rewrite } => header(call, name, rewrite.as_ref()),
            Of::Cookie { name, made } => match (call.request.cookie(name), made) {
                (Some(value), _) if !value.is_empty() => Some(hash(value.as_bytes())),
                (_, Some(made)) => {
                    let value = connection(call);
                    cookies.push(made.cookie(name, &value));
                    Some(hash(value.as_bytes()))
                }
                (_, None) => None,
            },
            Of::SourceIp => Some(hash(call.remote.ip().to_string().as_bytes())),
            Of::Parameter(name) => {
                let value = decoded_parameter(call.request.path.query()?, name)?;
                Some(hash(value.as_bytes()))
            }
        }
    }
}

/// What all policies of a route make of a call.
pub(super) fn combine(policies: &[HashPolicy], call: &mut Call) -> Option<u64> {
    let (mut all, mut cookies) = (None, Vec::new());
    for policy in policies {
        if let Some(next) = policy.hash(call, &mut cookies) {
            // Rotated, so that the same value twice is not nothing.
            all = Some(all.map_or(next, |hash: u64| hash.rotate_left(1) ^ next));
        }
        if policy.terminal && all.is_some() {
            break;
        }
    }
    if !cookies.is_empty() {
        call.kept.insert(SetCookies(cookies));
    }
    all
}

fn header(call: &Call, name: &Field, rewrite: Option<&Substitution>) -> Option<u64> {
    let Field::Header(name) = name else { return call.request.first(name).map(hash) };
    let mut values: Vec<_> = call
        .request
        .headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    if let Some(rewrite) = rewrite {
        for value in &mut values {
            *value = rewrite.replace(value).into_owned().into();
        }
    }
    values.sort();
    let (first, more) = values.split_first()?;
    Some(more.iter().fold(hash(first.as_bytes()), |seed, value| XxHash64::oneshot(seed, value.as_bytes())))
}

fn cookie_of(config: &Cookie, at: &Path<'_>) -> Result<Of, Problem> {
    if config.name.is_empty() {
        return Err(at.field("name").problem("must not be empty"));
    }
    let made = duration(&config.ttl, &at.field("ttl"))?.map(|ttl| {
        let path = Some(("Path", config.path.as_str())).filter(|(_, path)| !path.is_empty());
        let attributes = config.attributes.iter().map(|of| (of.name.as_str(), of.value.as_str()));
        let attributes = path.into_iter().chain(attributes).map(|(name, value)| match value {
            "" => format!("; {name}"),
            value => format!("; {name}={value}"),
        });
        Made { ttl, attributes: attributes.collect() }
    });
    Ok(Of::Cookie { name: config.name.clone(), made })
}

impl Made {
    fn cookie(&self, name: &str, value: &str) -> String {
        let max_age = match self.ttl.as_secs() {
            0 => String::new(),
            seconds => format!("; Max-Age={seconds}"),
        };
        format!("{name}=\"{value}\"{max_age}{}; HttpOnly", self.attributes)
    }
}

/// The same for every call of a connection.
fn connection(call: &Call) -> String {
    let ends = format!("{}{}", call.connection.remote, call.connection.local);
    format!("{:016x}", hash(ends.as_bytes()))
}

fn hash(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}
