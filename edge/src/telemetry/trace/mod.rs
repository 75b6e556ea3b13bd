//! Traces: which calls are told of as spans, and how the next one learns of it.

mod context;
mod provider;
mod span;
mod tag;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use envoy_types::pb::envoy::config::route::v3::{Decorator as DecoratorConfig, Tracing as RouteConfig};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use envoy_types::pb::envoy::r#type::v3::Percent;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use pb::HttpConnectionManager;
use pb::http_connection_manager::Tracing;

use super::Queue;
use crate::bootstrap::unpack;
use crate::call::Call;
use crate::compile::Shared;
use crate::downstream::normalize::X_REQUEST_ID;
use crate::matcher::Fraction;
use crate::problem::{Path, Problem};
use crate::stats::{Counter, Scope};
use crate::value;
pub(crate) use context::SpanContext;
use tag::Tag;

const CLIENT_TRACE_ID: HeaderName = HeaderName::from_static("x-client-trace-id");
const FORCE_TRACE: HeaderName = HeaderName::from_static("x-envoy-force-trace");
const OPERATION: HeaderName = HeaderName::from_static("x-envoy-decorator-operation");
const LONGEST_PATH: u32 = 256;
/// Where a request id says why its call is traced: a UUID has its version there.
const REASON: usize = 14;

/// The tracer of a connection manager.
#[derive(Debug)]
pub(crate) struct Tracer {
    sampling: Sampling,
    tags: Arc<BTreeMap<String, Tag>>,
    /// Whether each attempt at an upstream has a span of its own.
    upstream_spans: bool,
    longest_path: usize,
    /// Whether request ids say why a call is traced, and whether they decide which are.
    packs_reason: bool,
    samples_by_id: bool,
    node_id: String,
    zone: String,
    queue: Queue<Span>,
    stats: TraceStats,
}

/// Which calls are traced.
#[derive(Clone, Copy, Debug)]
struct Sampling {
    /// Of those whose client asks for it.
    client: Fraction,
    /// Of all.
    random: Fraction,
    /// Of those that would be.
    overall: Fraction,
}

/// What a route says otherwise.
#[derive(Debug)]
pub(crate) struct RouteTracing {
    sampling: Sampling,
    tags: BTreeMap<String, Tag>,
}

/// What a route's calls are called in traces.
#[derive(Clone, Debug)]
pub(crate) struct Decorator {
    operation: String,
    /// Whether the client is told.
    propagate: bool,
}

/// `http.<stat_prefix>.tracing.…`
#[derive(Debug)]
struct TraceStats {
    random_sampling: Counter,
    service_forced: Counter,
    client_enabled: Counter,
    not_traceable: Counter,
}

/// Why a call is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    NotTraceable,
    Sampling,
    ServiceForced,
    ClientForced,
}

impl Reason {
    const ALL: [(Self, u8); 4] = [
        (Self::NotTraceable, b'4'),
        (Self::Sampling, b'9'),
        (Self::ServiceForced, b'a'),
        (Self::ClientForced, b'b'),
    ];

    fn read(id: &str) -> Self {
        let digit = id.as_bytes().get(REASON);
        let known = Self::ALL.into_iter().find(|(_, known)| Some(known) == digit);
        known.map_or(Self::NotTraceable, |(reason, _)| reason)
    }

    fn write(self, id: &str) -> String {
        let mut id = id.to_owned();
        if let Some((_, digit)) = Self::ALL.into_iter().find(|(known, _)| *known == self) {
            id.replace_range(REASON..=REASON, char::from(digit).encode_utf8(&mut [0; 4]));
        }
        id
    }
}

/// A call's spans.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) context: SpanContext,
    /// The span of the client that the call is made in.
    parent: Option<u64>,
    operation: String,
    /// What the client is told that the call is called.
    told: Option<HeaderValue>,
    /// Whether each attempt has a span of its own; those that were made.
    per_attempt: bool,
    attempts: Vec<Attempt>,
}

/// A span of an upstream.
#[derive(Debug)]
struct Attempt {
    context: SpanContext,
    began: SystemTime,
    ended: Option<SystemTime>,
    status: Option<u16>,
    host: Option<Arc<str>>,
}

impl Trace {
    /// Tells an upstream which span calls it.
    pub(crate) fn depart(&mut self, headers: &mut HeaderMap) {
        if !self.per_attempt {
            return self.context.write(headers);
        }
        let context = self.context.child();
        context.write(headers);
        if context.sampled {
            let began = SystemTime::now();
            self.attempts.push(Attempt { context, began, ended: None, status: None, host: None });
        }
    }

    /// An attempt, counted from 1, came to nothing that is passed on.
    pub(crate) fn landed(&mut self, number: u32, status: Option<u16>, host: Option<Arc<str>>) {
        if let Some(attempt) = self.attempts.get_mut((number as usize).saturating_sub(1)) {
            (attempt.ended, attempt.status, attempt.host) = (Some(SystemTime::now()), status, host);
        }
    }

    /// Tells the client what its call is called.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        if let Some(operation) = &self.told {
            headers.insert(OPERATION, operation.clone());
        }
    }
}

impl Tracer {
    pub(crate) fn compile(
        config: &HttpConnectionManager,
        stats: &Scope,
        shared: &Shared<'_>,
        at: &Path<'_>,
    ) -> Result<Option<Self>, Problem> {
        let Some(tracing) = &config.tracing else { return Ok(None) };
        let extension = request_ids(config, &at.field("request_id_extension"))?;
        let at = at.field("tracing");
        let Some(queue) = provider::provider(tracing, stats, shared, &at)? else { return Ok(None) };
        let locality = shared.node.locality.clone().unwrap_or_default();
        Ok(Some(Self {
            sampling: Sampling::of_percents(tracing),
            tags: Arc::new(tag::compile(&tracing.custom_tags, &at)?),
            upstream_spans: value::flag(tracing.spawn_upstream_span.as_ref(), false),
            longest_path: value::number(tracing.max_path_tag_length.as_ref(), LONGEST_PATH) as usize,
            packs_reason: value::flag(extension.pack_trace_reason.as_ref(), true),
            samples_by_id: value::flag(extension.use_request_id_for_trace_sampling.as_ref(), true),
            node_id: shared.node.id.clone(),
            zone: locality.zone,
            queue,
            stats: TraceStats::new(&stats.scope("tracing")),
        }))
    }

    /// Decides whether a call is traced; its route is known.
    pub(crate) fn begin(&self, call: &mut Call) {
        let route = call.route.clone();
        let tracing = route.as_ref().and_then(|route| route.tracing.as_ref());
        let sampling = tracing.map_or(self.sampling, |tracing| tracing.sampling);
        let reason = self.reason(&mut call.request.headers, sampling);
        self.stats.count(reason);
        let headers = &mut call.request.headers;
        // What cannot be read is passed on as it is, and nobody adds to it.
        let Some(parent) = SpanContext::read(headers) else { return };
        let context = match &parent {
            Some(parent) => parent.child(),
            None => SpanContext::new(reason != Reason::NotTraceable),
        };
        let asked = headers.remove(&OPERATION).filter(|asked| !asked.is_empty());
        let asked = asked.and_then(|asked| asked.to_str().ok().map(str::to_owned));
        let decorator = route.as_ref().and_then(|route| route.decorator.as_ref());
        let told = decorator.filter(|decorator| decorator.propagate && asked.is_none());
        let told = told.and_then(|decorator| HeaderValue::from_str(&decorator.operation).ok());
        let operation = asked.or_else(|| decorator.map(|decorator| decorator.operation.clone()));
        call.trace = Some(Box::new(Trace {
            context,
            parent: parent.map(|parent| parent.span_id),
            operation: operation.unwrap_or_else(|| "ingress".to_owned()),
            told,
            per_attempt: self.upstream_spans,
            attempts: Vec::new(),
        }));
    }

    /// Why a call is traced, which its request id tells those behind us.
    fn reason(&self, headers: &mut HeaderMap, sampling: Sampling) -> Reason {
        if !self.samples_by_id {
            return Reason::Sampling;
        }
        let Some(id) = headers.get(&X_REQUEST_ID).and_then(|id| id.to_str().ok()) else {
            return Reason::NotTraceable;
        };
        let number = id.get(..8).filter(|_| id.len() == uuid::fmt::Hyphenated::LENGTH);
        let Some(number) = number.and_then(|number| u64::from_str_radix(number, 16).ok()) else {
            return Reason::NotTraceable;
        };
        let known = Reason::read(id);
        let mut reason = known;
        if known == Reason::NotTraceable {
            if headers.contains_key(&CLIENT_TRACE_ID) && sampling.client.takes(rand::random()) {
                reason = Reason::ClientForced;
            } else if headers.contains_key(&FORCE_TRACE) {
                reason = Reason::ServiceForced;
            } else if sampling.random.takes(number % 10_000) {
                reason = Reason::Sampling;
            }
        }
        if !sampling.overall.takes(number % 10_000) {
            reason = Reason::NotTraceable;
        }
        if self.packs_reason && reason != known {
            let told = HeaderValue::try_from(reason.write(id));
            if let Ok(told) = told {
                headers.insert(X_REQUEST_ID, told);
            }
        }
        reason
    }

    /// Tells of a call that has ended, if it is traced.
    pub(crate) fn end(&self, call: &Call) {
        let Some(trace) = call.trace.as_deref().filter(|trace| trace.context.sampled) else { return };
        let own = call.route.as_ref().and_then(|route| route.tracing.as_ref());
        let tags = tag::read(&self.tags, own.map(|own| &own.tags), call);
        for (index, attempt) in trace.attempts.iter().enumerate() {
            let last = index + 1 == trace.attempts.len();
            self.queue.push(span::of_attempt(attempt, last, trace, call, &tags));
        }
        self.queue.push(span::of_call(self, trace, call, tags));
    }
}

impl Sampling {
    fn of_percents(config: &Tracing) -> Self {
        let of = |percent: &Option<Percent>, denominator: u32| {
            let value = percent.as_ref().map_or(100.0, |percent| percent.value);
            Fraction::of(value / 100.0, denominator)
        };
        Self {
            client: of(&config.client_sampling, 100),
            random: of(&config.random_sampling, 10_000),
            overall: of(&config.overall_sampling, 100),
        }
    }
}

impl RouteTracing {
    pub(crate) fn compile(config: Option<&RouteConfig>, at: &Path<'_>) -> Result<Option<Self>, Problem> {
        let Some(config) = config else { return Ok(None) };
        let of =
            |fraction: &Option<_>| fraction.as_ref().map_or(Fraction::ALL, |f| Fraction::compile(Some(f)));
        Ok(Some(Self {
            sampling: Sampling {
                client: of(&config.client_sampling),
                random: of(&config.random_sampling),
                overall: of(&config.overall_sampling),
            },
            tags: tag::compile(&config.custom_tags, at)?,
        }))
    }
}

impl Decorator {
    pub(crate) fn compile(config: &DecoratorConfig) -> Self {
        let propagate = value::flag(config.propagate.as_ref(), true);
        Self { operation: config.operation.clone(), propagate }
    }
}

impl TraceStats {
    fn new(scope: &Scope) -> Self {
        Self {
            random_sampling: scope.counter("random_sampling"),
            service_forced: scope.counter("service_forced"),
            client_enabled: scope.counter("client_enabled"),
            not_traceable: scope.counter("not_traceable"),
        }
    }

    fn count(&self, reason: Reason) {
        match reason {
            Reason::NotTraceable => &self.not_traceable,
            Reason::Sampling => &self.random_sampling,
            Reason::ServiceForced => &self.service_forced,
            Reason::ClientForced => &self.client_enabled,
        }
        .inc();
    }
}

/// What request ids are for, besides being ids.
fn request_ids(config: &HttpConnectionManager, at: &Path<'_>) -> Result<UuidRequestIdConfig, Problem> {
    let extension = config.request_id_extension.as_ref().and_then(|own| own.typed_config.as_ref());
    extension.map_or_else(|| Ok(UuidRequestIdConfig::default()), |any| unpack(any, &at.field("typed_config")))
}
