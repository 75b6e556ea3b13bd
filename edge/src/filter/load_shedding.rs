//! Keeps the services behind the edge from more calls than they can answer: the least important ones are refused
//! first, at once, and told when to come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::google::protobuf::Any;
use http::{HeaderName, StatusCode};
use omnimesh_proto::edge::v1 as pb;

use crate::bootstrap::unpack;
use crate::call::{Call, Protocol};
use crate::filter::gradient::{Gradient, MinRtt, Permit, Settings};
use crate::filter::{Context, Filter, Flow};
use crate::flag::Flag;
use crate::head::Head;
use crate::problem::{Path, Problem};
use crate::reply::{LocalReply, Reply};
use crate::stats::{Counter, Scope};

const RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// What calls of no class may take of the limit.
const DEFAULT_SHARE: f64 = 0.8;
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
const MEASURE_INTERVAL: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct LoadShedding {
    gradient: Arc<Gradient>,
    classes: Vec<Class>,
    others: Class,
    retry_after: Duration,
}

/// Calls that are equally important.
#[derive(Debug)]
struct Class {
    prefixes: Vec<String>,
    headers: Vec<(HeaderName, String)>,
    share: f64,
    shed: Counter,
}

/// What a call that was let through keeps until its answer begins.
#[derive(Clone)]
struct Admitted(Arc<Permit>);

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    let scope = context.stats.scope("load_shedding");
    Ok(Arc::new(LoadShedding::compile(&unpack(config, at)?, at, &scope)?))
}

impl LoadShedding {
    fn compile(config: &pb::LoadShedding, at: &Path<'_>, scope: &Scope) -> Result<Self, Problem> {
        let or = |value: u32, default| if value == 0 { default } else { value };
        let min_concurrency = or(config.min_concurrency, 3);
        let settings = Settings {
            sample_aggregate_percentile: 0.5,
            max_concurrency_limit: or(config.max_concurrency, 1000).max(min_concurrency),
            min_concurrency_limit: min_concurrency,
            concurrency_update_interval: UPDATE_INTERVAL,
            min_rtt: MinRtt::Measured {
                interval: duration(config.measure_interval.as_ref(), MEASURE_INTERVAL),
                jitter: 0.15,
                request_count: 50,
                min_concurrency,
            },
            buffer: 0.25,
        };
        let classes_at = at.field("classes");
        let classes = config.classes.iter().enumerate();
        Ok(Self {
            gradient: Arc::new(Gradient::new(settings, scope, Instant::now())),
            classes: classes
                .map(|(i, class)| Class::compile(class, &classes_at.index(i), scope))
                .collect::<Result<_, _>>()?,
            others: Class {
                prefixes: Vec::new(),
                headers: Vec::new(),
                share: DEFAULT_SHARE,
                shed: scope.counter("other.rq_shed"),
            },
            retry_after: duration(config.retry_after.as_ref(), RETRY),
        })
    }

    fn class(&self, request: &Head) -> &Class {
        self.classes.iter().find(|class| class.matches(request)).unwrap_or(&self.others)
    }

    fn refusal(&self, call: &Call) -> LocalReply {
        let refused =
            LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, "too many calls are under way", "overload")
                .with_flag(Flag::OverloadManager)
                .with_wait(call, self.retry_after, Vec::new());
        match call.protocol {
            Protocol::Http => refused,
            _ => refused.with_header(RETRY_PUSHBACK, (self.retry_after.as_millis() as u64).into()),
        }
    }
}

fn duration(value: Option<&prost_types::Duration>, default: Duration) -> Duration {
    value.and_then(|value| Duration::try_from(*value).ok()).unwrap_or(default)
}

impl Class {
    fn compile(config: &pb::load_shedding::Class, at: &Path<'_>, scope: &Scope) -> Result<Self, Problem> {
        if config.name.is_empty() {
            return Err(at.field("name").problem("a class needs a name"));
        }
        if !(1..=100).contains(&config.share_percent) {
            return Err(at.field("share_percent").problem("must be 1 to 100"));
        }
        let header = |(name, value): (&String, &String)| match HeaderName::try_from(name) {
            Ok(name) => Ok((name, value.clone())),
            Err(_) => Err(at.field("headers").problem(format!("{name} is not a header's name"))),
        };
        Ok(Self {
            prefixes: config.path_prefixes.clone(),
            headers: config.headers.iter().map(header).collect::<Result<_, _>>()?,
            share: f64::from(config.share_percent) / 100.0,
            shed: scope.counter(&format!("{}.rq_shed", config.name)),
        })
    }

    fn matches(&self, request: &Head) -> bool {
        let path = request.path.path();
        (self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| path.starts_with(prefix)))
            && self.headers.iter().all(|(name, value)| {
                request.headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes())
            })
    }
}

impl Filter for LoadShedding {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        let class = self.class(&call.request);
        let Some(permit) = self.gradient.admit(class.share, Instant::now()) else {
            class.shed.inc();
            return Flow::Reply(self.refusal(call));
        };
        call.kept.insert(Admitted(Arc::new(permit)));
        Flow::Continue
    }

    /// What a stream does after its answer has begun says nothing of how busy its service is.
    fn response(&self, call: &mut Call, reply: &mut Reply) {
        if let Some(Admitted(permit)) = call.kept.remove::<Admitted>()
            && (!reply.local || call.flags.contains(Flag::UpstreamRequestTimeout))
        {
            permit.sample(Instant::now());
        }
    }

    fn ended(&self, call: &mut Call) {
        call.kept.remove::<Admitted>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stats;

    fn shedding() -> LoadShedding {
        let class =
            |name: &str, prefix: &str, header: &[(&str, &str)], share_percent| pb::load_shedding::Class {
                name: name.to_owned(),
                path_prefixes: vec![prefix.to_owned()],
                headers: header
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                share_percent,
            };
        let config = pb::LoadShedding {
            classes: vec![
                class("checkout", "/shop.Checkout/", &[], 100),
                class("robots", "/", &[("x-client", "robot")], 20),
                class("analytics", "/shop.Analytics/", &[], 50),
            ],
            min_concurrency: 10,
            ..pb::LoadShedding::default()
        };
        LoadShedding::compile(&config, &Path::root(), &Stats::default().scope("load_shedding")).unwrap()
    }

    fn call(path: &str, headers: &[(&str, &str)]) -> Call {
        Call::sample("POST", "shop.example", path, headers)
    }

    #[test]
    fn the_first_class_that_matches_is_a_calls_own() {
        let shedding = shedding();
        for (path, headers, share) in [
            ("/shop.Checkout/Pay", &[][..], 1.0),
            ("/shop.Checkout/Pay", &[("x-client", "robot")], 1.0),
            ("/shop.Analytics/Track", &[("x-client", "robot")], 0.2),
            ("/shop.Analytics/Track", &[("x-client", "shopper")], 0.5),
            ("/shop.Catalog/Search", &[], DEFAULT_SHARE),
        ] {
            assert_eq!(shedding.class(&call(path, headers).request).share, share, "{path} {headers:?}");
        }
    }

    #[test]
    fn checkout_passes_where_browsing_waits_and_analytics_is_refused() {
        let shedding = shedding();
        let mut calls = Vec::new();
        let mut pass = |path: &str| {
            let mut call = call(path, &[("content-type", "application/grpc")]);
            let refused = match shedding.request(&mut call) {
                Flow::Reply(refused) => Some(refused),
                _ => None,
            };
            calls.push(call);
            refused
        };
        assert!((0..5).all(|_| pass("/shop.Analytics/Track").is_none()));
        assert!(pass("/shop.Analytics/Track").is_some());
        assert!((0..3).all(|_| pass("/shop.Catalog/Search").is_none()));
        assert!(pass("/shop.Catalog/Search").is_some());
        assert!((0..2).all(|_| pass("/shop.Checkout/Pay").is_none()));
        let refused = pass("/shop.Checkout/Pay").unwrap();
        assert_eq!((refused.code(), refused.status), (14, StatusCode::SERVICE_UNAVAILABLE));
        let header = |name: &str| refused.headers.iter().find(|(known, _)| known == name).unwrap().1.clone();
        assert_eq!(header("grpc-retry-pushback-ms"), "1000");
        assert!(!header("grpc-status-details-bin").is_empty());
        // A call gives its place back when its answer begins, or when it ends without one.
        shedding.ended(&mut calls[0]);
        assert!(matches!(shedding.request(&mut call("/shop.Checkout/Pay", &[])), Flow::Continue));
    }
}
