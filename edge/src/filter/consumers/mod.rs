//! Who calls, and whether they may call once more: the API key in `x-api-key` becomes the consumer headers that services
//! believe, and the consumer's plan is kept.
//!
//! Services believe `x-omnimesh-*` because the edge lets no such header in.

mod limit;

use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use http::{HeaderMap, HeaderName, StatusCode};
use omnimesh_proto::edge::v1::Consumers as Config;
use omnimesh_proto::edge::v1::consumers::Database;

use crate::bootstrap::unpack;
use crate::call::Call;
use crate::consumers::{Account, Caller, Refused, Roster, Rosters, Verdict};
use crate::filter::{Context, Filter, Flow};
use crate::problem::{Path, Problem};
use crate::reply::{LocalReply, Reply};
use crate::stats::{Counter, Scope};
use limit::Told;

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
    /// What becomes of calls whose quota is not known.
    deny_unknown: bool,
    stats: Stats,
}

#[derive(Debug)]
struct Stats {
    allowed: Counter,
    denied: Counter,
    rate_limited: Counter,
    quota_exhausted: Counter,
    unavailable: Counter,
}

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    let config = unpack(config, at)?;
    Ok(Arc::new(Consumers {
        roster: roster(&config, at, context.rosters)?,
        deny_unknown: config.failure_mode_deny,
        stats: Stats::new(context.stats),
    }))
}

fn roster(config: &Config, at: &Path<'_>, rosters: &Rosters) -> Result<Arc<Roster>, Problem> {
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
        return Ok(rosters.of(&url));
    }
    Err(at.problem(storage::Error::Url(storage::redacted(&url)).to_string()))
}

impl Filter for Consumers {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        let key = call.request.headers.remove(API_KEY);
        withhold(&mut call.request.headers);
        let caller = match key {
            Some(key) => self.roster.authenticate(key.as_bytes()),
            None if call.request.path_only().starts_with(OPEN_PREFIX) => return Flow::Continue,
            None => {
                self.stats.denied.inc();
                return Flow::Reply(unauthenticated("an API key is needed in the header x-api-key"));
            }
        };
        let Caller { consumer, permissions, account } = match caller {
            Ok(caller) => caller,
            Err(Refused::Unknown) => {
                self.stats.denied.inc();
                return Flow::Reply(unauthenticated("the API key in x-api-key is unknown or expired"));
            }
            Err(Refused::Unasked) => {
                self.stats.unavailable.inc();
                return Flow::Reply(unavailable("API keys cannot be checked yet"));
            }
        };
        call.request.headers.insert(CONSUMER, consumer);
        call.request.headers.insert(PERMISSIONS, permissions);
        match account.admit() {
            Verdict::Wait => Flow::Wait(Box::pin(async move {
                let verdict = account.wait().await;
                self.decide(call, account, verdict)
            })),
            verdict => match self.decide(call, account, verdict) {
                Ok(()) => Flow::Continue,
                Err(refused) => Flow::Reply(refused),
            },
        }
    }

    fn response(&self, call: &mut Call, reply: &mut Reply) {
        if let Some(told) = call.kept.get::<Told>() {
            told.write(&mut reply.headers);
        }
    }
}

impl Consumers {
    /// What a verdict means for its call.
    fn decide(&self, call: &mut Call, account: Arc<Account>, verdict: Verdict) -> Result<(), LocalReply> {
        let (counter, refused, told) = match verdict {
            Verdict::Passes { left } => {
                (&self.stats.allowed, None, account.month(left).or_else(|| account.rate()))
            }
            Verdict::TooFast => {
                let standing = account.rate();
                (&self.stats.rate_limited, limit::too_fast(call, &account), standing)
            }
            Verdict::Exhausted => {
                let standing = account.month(0);
                (&self.stats.quota_exhausted, limit::exhausted(call, &account), standing)
            }
            Verdict::Unknown | Verdict::Wait if self.deny_unknown => {
                let refused = unavailable("the quota cannot be checked: its database does not answer");
                (&self.stats.unavailable, Some(refused), None)
            }
            Verdict::Unknown | Verdict::Wait => {
                account.pass_uncovered();
                (&self.stats.allowed, None, None)
            }
        };
        counter.inc();
        if let Some(told) = told.and_then(|standing| Told::new(standing, &account)) {
            call.kept.insert(told);
        }
        refused.map_or(Ok(()), Err)
    }
}

fn unauthenticated(message: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::UNAUTHORIZED, message, "consumer_unauthenticated")
}

fn unavailable(message: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, message, "consumer_unknown")
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
            rate_limited: scope.counter("rate_limited"),
            quota_exhausted: scope.counter("quota_exhausted"),
            unavailable: scope.counter("unavailable"),
        }
    }
}
