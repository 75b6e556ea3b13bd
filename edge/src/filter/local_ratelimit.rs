//! Rate limits that the edge keeps itself: token buckets, for all calls or by what a call counts towards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::{
    LocalRateLimitDescriptor, VhRateLimitsOptions, XRateLimitHeadersRfcVersion,
};
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit as Config;
use envoy_types::pb::google::protobuf::Any;
use http::header::RETRY_AFTER;
use http::{HeaderName, StatusCode};

use crate::bootstrap::unpack;
use crate::bucket::Bucket;
use crate::call::{Call, Connection, Protocol};
use crate::filter::{Context, Filter, Flow};
use crate::flag::Flag;
use crate::matcher::{Fraction, each};
use crate::problem::{Path, Problem};
use crate::reply::{LocalReply, Reply};
use crate::route::{Descriptor, HeaderRules, RateLimitRule};
use crate::stats::{Counter, Scope};
use crate::wait::whole_seconds;

const LIMITED: &str = "local_rate_limited";
const RESOURCE_EXHAUSTED: i32 = 8;
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Refuses calls for which there is no token.
#[derive(Debug)]
pub(crate) struct LocalRateLimit {
    enabled: Fraction,
    enforced: Fraction,
    buckets: Arc<Buckets>,
    /// Each connection has its own buckets.
    by_connection: Option<ByConnection>,
    rules: Vec<RateLimitRule>,
    stage: u32,
    host_limits: VhRateLimitsOptions,
    status: StatusCode,
    resource_exhausted: bool,
    rate_limit_headers: bool,
    retry_after: bool,
    request_headers: HeaderRules,
    response_headers: HeaderRules,
    stats: Stats,
}

#[derive(Debug)]
struct Stats {
    enabled: Counter,
    enforced: Counter,
    limited: Counter,
    ok: Counter,
}

#[derive(Debug, Default)]
struct Buckets {
    general: Option<Arc<Bucket>>,
    by_entries: HashMap<Vec<(String, String)>, Arc<Bucket>>,
    /// Whether calls with a bucket of their own take from the general one too.
    always_general: bool,
}

#[derive(Debug, Default)]
struct ByConnection(Mutex<HashMap<u64, (Weak<Connection>, Arc<Buckets>)>>);

/// What was decided about a call.
#[derive(Clone, Debug)]
struct Judged {
    bucket: Option<Arc<Bucket>>,
    refused: bool,
}

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    Ok(Arc::new(LocalRateLimit::compile(&unpack(config, at)?, at, context.stats)?))
}

impl Filter for LocalRateLimit {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        if !self.enabled.takes(call.random) {
            return Flow::Continue;
        }
        self.stats.enabled.inc();
        let descriptors =
            if self.buckets.by_entries.is_empty() { Vec::new() } else { self.descriptors(call) };
        let judged = match &self.by_connection {
            Some(connections) => connections.of(&call.connection, &self.buckets).take(&descriptors),
            None => self.buckets.take(&descriptors),
        };
        if !judged.refused {
            self.stats.ok.inc();
            call.kept.insert(judged);
            return Flow::Continue;
        }
        self.stats.limited.inc();
        // Another part of the random number: the share of a share.
        if !self.enforced.takes(call.random.rotate_left(32)) {
            call.kept.insert(Judged { refused: false, ..judged });
            self.request_headers.apply_request(call);
            return Flow::Continue;
        }
        self.stats.enforced.inc();
        let refusal = self.refusal(call, judged.bucket.as_deref());
        call.kept.insert(judged);
        Flow::Reply(refusal)
    }

    fn response(&self, call: &mut Call, reply: &mut Reply) {
        let Some(judged) = call.kept.get::<Judged>() else { return };
        if judged.refused {
            self.response_headers.apply_response(call, reply.status, &mut reply.headers);
        }
        if let Some(bucket) = judged.bucket.as_ref().filter(|_| self.rate_limit_headers) {
            let left = bucket.left();
            let reset = if left > 0 { 0 } else { whole_seconds(bucket.wait()) };
            reply.headers.insert(LIMIT, bucket.max.into());
            reply.headers.insert(REMAINING, left.into());
            reply.headers.insert(RESET, reset.into());
        }
    }

    fn on_route(
        &self,
        config: &Any,
        at: &Path<'_>,
        context: &Context<'_>,
    ) -> Result<Arc<dyn Filter>, Problem> {
        let config: Config = unpack(config, at)?;
        if config.token_bucket.is_none() {
            return Err(at.field("token_bucket").problem("is required on a route"));
        }
        Ok(Arc::new(Self::compile(&config, at, context.stats)?))
    }
}

impl LocalRateLimit {
    fn compile(config: &Config, at: &Path<'_>, stats: &Scope) -> Result<Self, Problem> {
        let share = |config: Option<&_>| config.map_or(Fraction::NONE, Fraction::of_runtime);
        let status = config.status.as_ref().and_then(|status| u16::try_from(status.code).ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let general = config.token_bucket.as_ref();
        let general = general.map(|bucket| Bucket::compile(bucket, &at.field("token_bucket")).map(Arc::new));
        let add = |headers, field| HeaderRules::compile(headers, &[], at, [field, ""]);
        Ok(Self {
            enabled: share(config.filter_enabled.as_ref()),
            enforced: share(config.filter_enforced.as_ref()),
            buckets: Arc::new(Buckets {
                general: general.transpose()?,
                by_entries: by_entries(&config.descriptors, at)?,
                always_general: config.always_consume_default_token_bucket.is_none_or(|always| always.value),
            }),
            by_connection: config.local_rate_limit_per_downstream_connection.then(ByConnection::default),
            rules: each(&config.rate_limits, at, "rate_limits", RateLimitRule::compile)?,
            stage: config.stage,
            host_limits: config.vh_rate_limits(),
            status: status.filter(|status| status.as_u16() >= 400).unwrap_or(StatusCode::TOO_MANY_REQUESTS),
            resource_exhausted: config.rate_limited_as_resource_exhausted,
            rate_limit_headers: config.enable_x_ratelimit_headers()
                == XRateLimitHeadersRfcVersion::DraftVersion03,
            retry_after: config.enable_retry_after_header,
            request_headers: add(
                &config.request_headers_to_add_when_not_enforced,
                "request_headers_to_add_when_not_enforced",
            )?,
            response_headers: add(&config.response_headers_to_add, "response_headers_to_add")?,
            stats: Stats::new(&stats.beside(format!("{}.http_local_rate_limit", config.stat_prefix))),
        })
    }

    /// What the call counts towards: by the filter's own rules, else by those of its route and virtual host.
    fn descriptors(&self, call: &Call) -> Vec<Descriptor> {
        let of = |rules: &[RateLimitRule], of_stage: bool| -> Vec<Descriptor> {
            let rules =
                rules.iter().filter(|rule| !rule.on_stream_done && (!of_stage || rule.stage == self.stage));
            rules.filter_map(|rule| rule.descriptor(call, "")).collect()
        };
        if !self.rules.is_empty() {
            return of(&self.rules, false);
        }
        let Some(route) = &call.route else { return Vec::new() };
        let Some(forward) = route.forward() else { return Vec::new() };
        let mut descriptors = of(&forward.rate_limits, true);
        let with_host = forward.include_virtual_host_rate_limits
            || match self.host_limits {
                VhRateLimitsOptions::Override => forward.rate_limits.is_empty(),
                VhRateLimitsOptions::Include => true,
                VhRateLimitsOptions::Ignore => false,
            };
        if with_host {
            descriptors.extend(of(&route.virtual_host.rate_limits, true));
        }
        descriptors
    }

    fn refusal(&self, call: &Call, bucket: Option<&Bucket>) -> LocalReply {
        let reply = LocalReply::new(self.status, LIMITED, LIMITED).with_flag(Flag::RateLimited);
        // A browser is told what has run out, and when to come back; Envoy tells it of an outage.
        let web = matches!(call.protocol, Protocol::GrpcWeb { .. });
        let reply = if web || self.resource_exhausted { reply.with_grpc(RESOURCE_EXHAUSTED) } else { reply };
        match bucket {
            Some(bucket) if web => reply.with_wait(call, bucket.wait(), Vec::new()),
            Some(bucket) if self.retry_after && self.status == StatusCode::TOO_MANY_REQUESTS => {
                reply.with_header(RETRY_AFTER, whole_seconds(bucket.wait()).max(1).into())
            }
            _ => reply,
        }
    }
}

fn by_entries(
    config: &[LocalRateLimitDescriptor],
    at: &Path<'_>,
) -> Result<HashMap<Vec<(String, String)>, Arc<Bucket>>, Problem> {
    let all = each(config, at, "descriptors", |descriptor, at| {
        if descriptor.entries.iter().any(|entry| entry.value.is_empty()) {
            return Err(at
                .field("entries")
                .problem("an entry without a value is not supported: name each value"));
        }
        if descriptor.shadow_mode {
            return Err(at.field("shadow_mode").problem("is not supported: leave the descriptor out"));
        }
        let at = at.field("token_bucket");
        let bucket = descriptor.token_bucket.as_ref().ok_or_else(|| at.problem("is required"))?;
        let entries = descriptor.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone()));
        Ok((entries.collect(), Arc::new(Bucket::compile(bucket, &at)?)))
    })?;
    let mut by_entries = HashMap::with_capacity(all.len());
    for (index, (entries, bucket)) in all.into_iter().enumerate() {
        if by_entries.insert(entries, bucket).is_some() {
            return Err(at.field("descriptors").index(index).problem("the same entries have another bucket"));
        }
    }
    Ok(by_entries)
}

impl Buckets {
    /// Takes a token from every bucket that the call counts towards, the slowest first.
    fn take(&self, descriptors: &[Descriptor]) -> Judged {
        let mut own: Vec<_> = descriptors
            .iter()
            .filter_map(|descriptor| Some((self.by_entries.get(&descriptor.entries)?, descriptor)))
            .collect();
        own.sort_by(|(a, _), (b, _)| a.rate().total_cmp(&b.rate()));
        for (bucket, descriptor) in &own {
            let hits = descriptor.hits_addend.map_or(1, |hits| u32::try_from(hits).unwrap_or(0));
            if !bucket.take(hits) {
                return Judged { bucket: Some(Arc::clone(bucket)), refused: true };
            }
        }
        if let Some(general) = self.general.as_ref().filter(|_| own.is_empty() || self.always_general)
            && !general.take(1)
        {
            return Judged { bucket: Some(Arc::clone(general)), refused: true };
        }
        let told = own.first().map(|(bucket, _)| Arc::clone(bucket)).or_else(|| self.general.clone());
        Judged { bucket: told, refused: false }
    }

    fn anew(&self) -> Self {
        let anew = |bucket: &Arc<Bucket>| Arc::new(bucket.anew());
        Self {
            general: self.general.as_ref().map(anew),
            by_entries: self
                .by_entries
                .iter()
                .map(|(entries, bucket)| (entries.clone(), anew(bucket)))
                .collect(),
            always_general: self.always_general,
        }
    }
}

impl ByConnection {
    /// The buckets of a connection: as full as `model` was made when it is new.
    fn of(&self, connection: &Arc<Connection>, model: &Buckets) -> Arc<Buckets> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Closed connections are forgotten when there would be no room for a new one.
        if all.len() == all.capacity() && !all.contains_key(&connection.id) {
            all.retain(|_, (connection, _)| connection.strong_count() > 0);
        }
        let new = || (Arc::downgrade(connection), Arc::new(model.anew()));
        Arc::clone(&all.entry(connection.id).or_insert_with(new).1)
    }
}

impl Stats {
    fn new(scope: &Scope) -> Self {
        Self {
            enabled: scope.counter("enabled"),
            enforced: scope.counter("enforced"),
            limited: scope.counter("rate_limited"),
            ok: scope.counter("ok"),
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
    use envoy_types::pb::envoy::r#type::v3::{HttpStatus, TokenBucket};
    use envoy_types::pb::google::protobuf::Duration;

    use super::*;
    use crate::stats;

    fn bucket(max_tokens: u32, seconds: i64) -> TokenBucket {
        TokenBucket { max_tokens, tokens_per_fill: None, fill_interval: Some(Duration { seconds, nanos: 0 }) }
    }

    fn filter(config: &Config) -> Result<LocalRateLimit, Problem> {
        LocalRateLimit::compile(config, &Path::root(), &stats::Stats::default().scope("http.web"))
    }

    fn plan(name: &str, max_tokens: u32, seconds: i64) -> LocalRateLimitDescriptor {
        LocalRateLimitDescriptor {
            entries: vec![Entry { key: "plan".into(), value: name.into() }],
            token_bucket: Some(bucket(max_tokens, seconds)),
            shadow_mode: false,
        }
    }

    fn counts(plan: &str) -> Vec<Descriptor> {
        vec![Descriptor { entries: vec![("plan".into(), plan.into())], ..Descriptor::default() }]
    }

    #[test]
    fn a_call_takes_from_its_own_bucket_and_from_the_general_one() {
        let config = Config {
            token_bucket: Some(bucket(3, 600)),
            descriptors: vec![plan("free", 1, 600), plan("gold", 9, 600)],
            ..Config::default()
        };
        let limit = filter(&config).unwrap();
        for (plan, left, refused) in
            [("free", 0, false), ("free", 0, true), ("gold", 8, false), ("none", 0, false), ("gold", 0, true)]
        {
            let judged = limit.buckets.take(&counts(plan));
            assert_eq!((judged.bucket.unwrap().left(), judged.refused), (left, refused), "{plan}");
        }
    }

    #[test]
    fn each_connection_has_its_own_buckets() {
        let limit = filter(&Config { token_bucket: Some(bucket(1, 600)), ..Config::default() }).unwrap();
        let connections = ByConnection::default();
        let address = "127.0.0.1:1".parse().unwrap();
        let open =
            |id| Arc::new(Connection { id, chain: "".into(), remote: address, local: address, tls: None });
        let (one, other) = (open(1), open(2));
        let refused = |connection| connections.of(connection, &limit.buckets).take(&[]).refused;
        assert_eq!([refused(&one), refused(&one), refused(&other)], [false, true, false]);
        drop((one, other));
        for id in 3..100 {
            connections.of(&open(id), &limit.buckets);
        }
        assert!(connections.0.lock().unwrap().len() < 10);
    }

    #[test]
    fn what_the_client_is_told_depends_on_what_it_speaks() {
        let answer = |config: &Config, protocol| {
            let limit = filter(config).unwrap();
            let bucket = limit.buckets.general.clone().unwrap();
            bucket.take(1);
            let mut call = Call::sample("POST", "shop.example", "/a.B/C", &[]);
            call.protocol = protocol;
            let reply = limit.refusal(&call, Some(&bucket));
            (reply.status.as_u16(), reply.code(), reply.headers.len())
        };
        let plain = Config { token_bucket: Some(bucket(1, 600)), ..Config::default() };
        assert_eq!(answer(&plain, Protocol::Grpc), (429, 14, 0));
        assert_eq!(answer(&plain, Protocol::GrpcWeb { text_reply: false }), (429, 8, 2));
        let exhausted = Config { rate_limited_as_resource_exhausted: true, ..plain.clone() };
        assert_eq!(answer(&exhausted, Protocol::Grpc), (429, 8, 0));
        let status = Some(HttpStatus { code: 503 });
        let other = Config { status, enable_retry_after_header: true, ..plain.clone() };
        assert_eq!(answer(&other, Protocol::Http), (503, 14, 0));
        let later = Config { status: Some(HttpStatus { code: 200 }), ..other };
        assert_eq!(answer(&later, Protocol::Http), (429, 14, 1));
    }

    #[test]
    fn descriptors_that_mean_two_things_are_refused() {
        let config =
            |descriptors| Config { token_bucket: Some(bucket(1, 60)), descriptors, ..Config::default() };
        for (descriptors, path) in [
            (vec![plan("a", 1, 60), plan("a", 2, 60)], "descriptors[1]"),
            (vec![plan("", 1, 60)], "descriptors[0].entries"),
            (vec![plan("a", 0, 60)], "descriptors[0].token_bucket.max_tokens"),
        ] {
            assert_eq!(filter(&config(descriptors)).unwrap_err().path, path);
        }
    }
}
