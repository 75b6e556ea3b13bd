//! Who may call what: permissions, the table of workloads, and the check that every call passes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use tonic::Status;

use crate::connection::Workload;
use crate::method::{Access, Method};
use crate::status::Refusal;

/// The workload that authenticates consumers and may speak for them.
pub const FORWARDING_WORKLOAD: &str = "edge";
/// Header by which that workload names the consumer it speaks for.
pub const CONSUMER_HEADER: &str = "x-omnimesh-consumer";
/// Header by which it lists the consumer's permissions, separated by commas.
pub const PERMISSIONS_HEADER: &str = "x-omnimesh-permissions";

/// A set of permission patterns: `*` (all), `order.*` (all of a domain), `order.read` (one).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions(Vec<String>);

impl Permissions {
    /// Reads a comma-separated list, such as `event.read,health.*`.
    pub fn parse(list: &str) -> Self {
        list.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()).collect()
    }

    /// True if one of the patterns covers the permission.
    pub fn allow(&self, permission: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some("") => true,
            // The pattern must end at a whole segment: `order*` covers nothing.
            Some(prefix) => prefix.ends_with('.') && permission.starts_with(prefix),
            None => pattern == permission,
        })
    }
}

impl<'a> FromIterator<&'a str> for Permissions {
    fn from_iter<I: IntoIterator<Item = &'a str>>(patterns: I) -> Self {
        Self(patterns.into_iter().map(str::to_owned).collect())
    }
}

/// Who makes a call, as found in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The holder of an API key, for whom the edge speaks.
    Consumer {
        /// The consumer's id.
        id: String,
        /// What it may do.
        permissions: Permissions,
    },
    /// Another role of the mesh.
    Workload(Arc<str>),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Consumer { id, .. } => write!(f, "consumer {id}"),
            Caller::Workload(role) => write!(f, "workload {role}"),
        }
    }
}

/// What each workload may do. A workload that is not in the table may do nothing.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    workloads: HashMap<&'static str, Permissions>,
}

impl Policy {
    /// A policy from its table: workload, permission patterns.
    pub fn new<'a>(table: impl IntoIterator<Item = (&'static str, &'a [&'a str])>) -> Self {
        let workloads = table
            .into_iter()
            .map(|(workload, patterns)| (workload, patterns.iter().copied().collect()))
            .collect();
        Self { workloads }
    }

    fn allows(&self, caller: &Caller, permission: &str) -> bool {
        match caller {
            Caller::Consumer { permissions, .. } => permissions.allow(permission),
            Caller::Workload(role) => {
                self.workloads.get(&**role).is_some_and(|permissions| permissions.allow(permission))
            }
        }
    }

    /// Decides about one call; the caller is known only where it identified itself.
    fn admit(&self, method: &Method, path: &str, caller: Option<Caller>) -> Result<Option<Caller>, Refusal> {
        let permission = match &method.access {
            Access::Open => return Ok(caller),
            Access::Unknown => return Err(Refusal::UnknownMethod(path.to_owned())),
            Access::Undeclared => None,
            Access::Permission(permission) => Some(permission),
        };
        let caller = caller.ok_or(Refusal::Unauthenticated)?;
        match permission {
            Some(permission) if self.allows(&caller, permission) => Ok(Some(caller)),
            permission => Err(Refusal::PermissionDenied {
                caller: caller.to_string(),
                permission: permission.cloned().unwrap_or_else(|| "(none is declared)".to_owned()),
            }),
        }
    }
}

/// The identity behind a call. The headers count only on the forwarding workload's own connection, and only
/// once each: a second value could only come from a caller who got it past the edge.
fn caller(workload: &Workload, headers: &HeaderMap) -> Option<Caller> {
    let workload = workload.0.clone()?;
    if &*workload != FORWARDING_WORKLOAD || !headers.contains_key(CONSUMER_HEADER) {
        return Some(Caller::Workload(workload));
    }
    let id = only(headers, CONSUMER_HEADER).filter(|id| !id.is_empty())?;
    let permissions = Permissions::parse(only(headers, PERMISSIONS_HEADER).unwrap_or_default());
    Some(Caller::Consumer { id: id.to_owned(), permissions })
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Layer: answers calls that are not allowed, and puts the [`Caller`] of the others into their extensions.
pub(crate) async fn authorise(
    State(policy): State<Arc<Policy>>,
    mut request: Request,
    next: Next,
) -> Response {
    let known = request.extensions().get::<Workload>().and_then(|from| caller(from, request.headers()));
    let admitted = match request.extensions().get::<Arc<Method>>() {
        Some(method) => policy.admit(method, request.uri().path(), known),
        None => Err(Refusal::UnknownMethod(request.uri().path().to_owned())),
    };
    match admitted {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(refusal) => Status::from(refusal).into_http(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_cover_whole_segments() {
        let check = |list: &str, permission: &str| Permissions::parse(list).allow(permission);
        assert!(check("*", "order.read"));
        assert!(check("order.*", "order.read"));
        assert!(check("catalog.read, order.read", "order.read"));
        assert!(!check("", "order.read"));
        assert!(!check("order.read", "order.write"));
        assert!(!check("order.*", "orders.read"));
        assert!(!check("order*", "order.read"));
        assert!(!check("ord*", "order.read"));
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        headers
    }

    fn workload(role: &str) -> Workload {
        Workload(Some(role.into()))
    }

    #[test]
    fn consumer_headers_count_only_from_the_edge() {
        let forwarded = headers(&[(CONSUMER_HEADER, "c1"), (PERMISSIONS_HEADER, "order.read")]);
        let consumer =
            Caller::Consumer { id: "c1".to_owned(), permissions: Permissions::parse("order.read") };
        assert_eq!(caller(&workload("edge"), &forwarded), Some(consumer));
        assert_eq!(caller(&workload("lake"), &forwarded), Some(Caller::Workload("lake".into())));
        assert_eq!(caller(&Workload(None), &forwarded), None);
        assert_eq!(caller(&workload("edge"), &HeaderMap::new()), Some(Caller::Workload("edge".into())));
    }

    #[test]
    fn a_repeated_consumer_header_is_no_identity() {
        let twice = headers(&[(CONSUMER_HEADER, "c1"), (CONSUMER_HEADER, "c2")]);
        assert_eq!(caller(&workload("edge"), &twice), None);
        let empty = headers(&[(CONSUMER_HEADER, "")]);
        assert_eq!(caller(&workload("edge"), &empty), None);
    }
}
