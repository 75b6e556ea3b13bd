//! Who calls: the API key in `x-api-key` becomes the consumer headers that services believe.
//!
//! Services believe `x-omnimesh-*` because the edge lets no such header in.

use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use http::{HeaderMap, HeaderName, StatusCode};
use omnimesh_proto::edge::v1::Consumers as Config;
use omnimesh_proto::edge::v1::consumers::Database;

use crate::bootstrap::unpack;
use crate::call::Call;
use crate::consumers::{Caller, Refused, Roster};
use crate::filter::{Context, Filter, Flow};
use crate::problem::{Path, Problem};
use crate::reply::LocalReply;
use crate::stats::{Counter, Scope};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const CONSUMER: HeaderName = HeaderName::from_static("x-omnimesh-consumer");
const PERMISSIONS: HeaderName = HeaderName::from_static("x-omnimesh-permissions");
const RESERVED_PREFIX: &str = "x-omnimesh-";
/// Load balancers ask without a key.
const OPEN_PREFIX: &str = "/grpc.health.v1.Health/";
/// Schemes of the databases that there are.
const SCHEMES: [&str; 3] = ["sqlite:", "postgres://", "postgresql://"];

/// Lets consumers through, and says who they are.
#[derive(Debug)]
pub(crate) struct Consumers {
    roster: Arc<Roster>,
    stats: Stats,
}

#[derive(Debug)]
struct Stats {
    allowed: Counter,
    denied: Counter,
    unavailable: Counter,
}

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    let url = database_url(&unpack(config, at)?, at)?;
    Ok(Arc::new(Consumers { roster: context.rosters.of(&url), stats: Stats::new(context.stats) }))
}

fn database_url(config: &Config, at: &Path<'_>) -> Result<String, Problem> {
    let (url, at) = match &config.database {
        Some(Database::DatabaseUrl(url)) => (url.clone(), at.field("database_url")),
        Some(Database::DatabaseUrlVariable(name)) => {
            let at = at.field("database_url_variable");
            let url = std::env::var(name).map_err(|error| {
                at.problem(format!("{name}: {error}; set it to the URL of the consumers' database"))
            })?;
            (url, at)
        }
        None => return Err(at.problem("needs one of database_url, database_url_variable")),
    };
    if SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(url);
    }
    let shown = storage::redacted(&url);
    Err(at.problem(format!("{shown} is not sqlite:<directory> or postgres://user@host/database")))
}

impl Filter for Consumers {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        let key = call.request.headers.remove(API_KEY);
        withhold(&mut call.request.headers);
        let caller = match key {
            Some(key) => self.roster.authenticate(key.as_bytes()),
            None if call.request.path.path().starts_with(OPEN_PREFIX) => return Flow::Continue,
            None => {
                self.stats.denied.inc();
                return Flow::Reply(unauthenticated("an API key is needed in the header x-api-key"));
            }
        };
        match caller {
            Ok(Caller { consumer, permissions }) => {
                self.stats.allowed.inc();
                call.request.headers.insert(CONSUMER, consumer);
                call.request.headers.insert(PERMISSIONS, permissions);
                Flow::Continue
            }
            Err(Refused::Unknown) => {
                self.stats.denied.inc();
                Flow::Reply(unauthenticated("the API key in x-api-key is unknown or expired"))
            }
            Err(Refused::Unasked) => {
                self.stats.unavailable.inc();
                Flow::Reply(LocalReply::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "API keys cannot be checked yet",
                    "consumers_unknown",
                ))
            }
        }
    }
}

fn unauthenticated(message: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::UNAUTHORIZED, message, "consumer_unauthenticated")
}

/// Takes out what only the edge may say.
fn withhold(headers: &mut HeaderMap) {
    let reserved: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with(RESERVED_PREFIX)).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

impl Stats {
    fn new(scope: &Scope) -> Self {
        let scope = scope.scope("consumers");
        Self {
            allowed: scope.counter("allowed"),
            denied: scope.counter("denied"),
            unavailable: scope.counter("unavailable"),
        }
    }
}
