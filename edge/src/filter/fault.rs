//! Faults on purpose: calls that wait, and calls that are refused.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::common::fault::v3::FaultDelay;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault};
use envoy_types::pb::google::protobuf::Any;
use http::{HeaderName, StatusCode};

use crate::bootstrap::unpack;
use crate::call::Call;
use crate::filter::{Context, Filter, Flow};
use crate::flag::Flag;
use crate::head::Head;
use crate::matcher::{Fraction, HeaderMatcher, each};
use crate::problem::{Path, Problem};
use crate::reply::LocalReply;
use crate::stats::{Counter, Gauge, Scope};
use crate::value;

const DETAILS: &str = "fault_filter_abort";
const MESSAGE: &str = "fault filter abort";
const DOWNSTREAM_NODE: HeaderName = HeaderName::from_static("x-envoy-downstream-service-node");
const DELAY: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request");
const DELAY_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request-percentage");
const ABORT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request");
const GRPC_ABORT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-grpc-request");
const ABORT_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request-percentage");

/// Makes some of the calls that it is meant for fail.
#[derive(Debug)]
pub(crate) struct Fault {
    delay: Option<(Share, Delay)>,
    abort: Option<(Share, Abort)>,
    message: String,
    upstream_cluster: String,
    downstream_nodes: Vec<String>,
    headers: Vec<HeaderMatcher>,
    max_active: Option<i64>,
    stats: Stats,
}

/// How many calls meet a fault; a request may ask for fewer than the configuration has.
#[derive(Debug)]
struct Share {
    most: Fraction,
    header: Option<HeaderName>,
}

#[derive(Debug)]
enum Delay {
    Fixed(Duration),
    Asked,
}

#[derive(Clone, Copy, Debug)]
enum Abort {
    Http(StatusCode),
    Grpc(i32),
    Asked,
}

#[derive(Clone, Debug)]
struct Stats {
    aborts: Counter,
    delays: Counter,
    overflow: Counter,
    active: Gauge,
}

/// Counts a call among those with a fault until it has ended.
struct Active(Gauge);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    Ok(Arc::new(Fault::compile(&unpack(config, at)?, at, Stats::new(&context.stats.scope("fault")))?))
}

impl Filter for Fault {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        if !self.is_meant_for(call) {
            return Flow::Continue;
        }
        if let Some(delay) = self.delay_of(call)
            && let Some(active) = self.start()
        {
            self.stats.delays.inc();
            call.flag(Flag::DelayInjected);
            call.kept.insert(active);
            return Flow::Wait(Box::pin(async move {
                tokio::time::sleep(delay).await;
                match self.abort(call) {
                    Some(reply) => Err(reply),
                    None => Ok(()),
                }
            }));
        }
        match self.abort(call) {
            Some(reply) => Flow::Reply(reply),
            None => Flow::Continue,
        }
    }

    fn on_route(&self, config: &Any, at: &Path<'_>, _: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
        Ok(Arc::new(Self::compile(&unpack(config, at)?, at, self.stats.clone())?))
    }
}

impl Fault {
    fn compile(config: &HttpFault, at: &Path<'_>, stats: Stats) -> Result<Self, Problem> {
        if config.response_rate_limit.is_some() {
            return Err(at.field("response_rate_limit").problem("is not supported: remove it"));
        }
        if config.filter_metadata.is_some() {
            return Err(at.field("filter_metadata").problem("is not supported: remove it"));
        }
        let delay = config.delay.as_ref().map(|delay| Delay::compile(delay, &at.field("delay")));
        let abort = config.abort.as_ref().map(|abort| Abort::compile(abort, &at.field("abort")));
        let message = config.abort.as_ref().map(|abort| abort.response_body.as_str());
        Ok(Self {
            delay: delay.transpose()?,
            abort: abort.transpose()?,
            message: message.filter(|message| !message.is_empty()).unwrap_or(MESSAGE).to_owned(),
            upstream_cluster: config.upstream_cluster.clone(),
            downstream_nodes: config.downstream_nodes.clone(),
            headers: each(&config.headers, at, "headers", HeaderMatcher::compile)?,
            max_active: config.max_active_faults.as_ref().map(|most| most.value.into()),
            stats,
        })
    }

    fn is_meant_for(&self, call: &Call) -> bool {
        let forward = || call.route.as_ref().and_then(|route| route.forward());
        let cluster = || forward().and_then(|forward| forward.cluster(call));
        let node = || call.request.headers.get(DOWNSTREAM_NODE);
        (self.upstream_cluster.is_empty() || cluster().is_some_and(|name| *name == self.upstream_cluster))
            && (self.downstream_nodes.is_empty()
                || node().is_some_and(|node| self.downstream_nodes.iter().any(|wanted| wanted == node)))
            && self.headers.iter().all(|header| header.matches(&call.request))
    }

    fn delay_of(&self, call: &Call) -> Option<Duration> {
        let (share, delay) = self.delay.as_ref()?;
        let delay = match delay {
            Delay::Fixed(delay) => *delay,
            Delay::Asked => Duration::from_millis(number(&call.request, &DELAY)?),
        };
        share.takes(&call.request, call.random).then_some(delay).filter(|delay| !delay.is_zero())
    }

    fn abort(&self, call: &mut Call) -> Option<LocalReply> {
        let (share, abort) = self.abort.as_ref()?;
        let abort = abort.of(&call.request)?;
        // Another part of the random number: what is delayed is not what is refused.
        if !share.takes(&call.request, call.random.rotate_left(32)) {
            return None;
        }
        if call.kept.get::<Arc<Active>>().is_none() {
            call.kept.insert(self.start()?);
        }
        self.stats.aborts.inc();
        let message = self.message.clone();
        let reply = match abort {
            Abort::Grpc(status) => LocalReply::new(StatusCode::OK, message, DETAILS).with_grpc(status),
            Abort::Http(status) => LocalReply::new(status, message, DETAILS),
            Abort::Asked => return None,
        };
        Some(reply.with_flag(Flag::FaultInjected))
    }

    /// One more call with a fault, unless there are too many already.
    fn start(&self) -> Option<Arc<Active>> {
        self.stats.active.add(1);
        let active = Active(self.stats.active.clone());
        if self.max_active.is_some_and(|most| active.0.value() > most) {
            self.stats.overflow.inc();
            return None;
        }
        Some(Arc::new(active))
    }
}

impl Share {
    fn takes(&self, request: &Head, random: u64) -> bool {
        let asked = self.header.as_ref().and_then(|header| number(request, header));
        let asked = asked.and_then(|asked| u32::try_from(asked).ok());
        asked.map_or(self.most, |asked| self.most.at_most(asked)).takes(random)
    }
}

impl Delay {
    fn compile(config: &FaultDelay, at: &Path<'_>) -> Result<(Share, Self), Problem> {
        let (delay, header) = match &config.fault_delay_secifier {
            Some(FaultDelaySecifier::FixedDelay(delay)) => (Self::Fixed(value::duration(delay)), None),
            Some(FaultDelaySecifier::HeaderDelay(_)) => (Self::Asked, Some(DELAY_PERCENTAGE)),
            None => return Err(at.problem("needs one of fixed_delay, header_delay")),
        };
        Ok((Share { most: Fraction::compile(config.percentage.as_ref()), header }, delay))
    }
}

impl Abort {
    fn compile(config: &FaultAbort, at: &Path<'_>) -> Result<(Share, Self), Problem> {
        let (abort, header) = match &config.error_type {
            Some(ErrorType::HttpStatus(status)) => {
                let status = http_status((*status).into());
                let status = status.ok_or_else(|| at.field("http_status").problem("must be 200 to 599"))?;
                (Self::Http(status), None)
            }
            Some(ErrorType::GrpcStatus(status)) => {
                let status = i32::try_from(*status);
                (Self::Grpc(status.map_err(|_| at.field("grpc_status").problem("is too large"))?), None)
            }
            Some(ErrorType::HeaderAbort(_)) => (Self::Asked, Some(ABORT_PERCENTAGE)),
            None => return Err(at.problem("needs one of http_status, grpc_status, header_abort")),
        };
        Ok((Share { most: Fraction::compile(config.percentage.as_ref()), header }, abort))
    }

    /// With what the request asks for, if that is how it is meant.
    fn of(self, request: &Head) -> Option<Self> {
        if !matches!(self, Self::Asked) {
            return Some(self);
        }
        let http = || number(request, &ABORT).and_then(http_status).map(Self::Http);
        let grpc =
            || number(request, &GRPC_ABORT).and_then(|status| i32::try_from(status).ok()).map(Self::Grpc);
        http().or_else(grpc)
    }
}

fn http_status(status: u64) -> Option<StatusCode> {
    let status = u16::try_from(status).ok().filter(|status| (200..600).contains(status))?;
    StatusCode::from_u16(status).ok()
}

fn number(request: &Head, header: &HeaderName) -> Option<u64> {
    request.headers.get(header)?.to_str().ok()?.trim().parse().ok()
}

impl Stats {
    fn new(scope: &Scope) -> Self {
        Self {
            aborts: scope.counter("aborts_injected"),
            delays: scope.counter("delays_injected"),
            overflow: scope.counter("faults_overflow"),
            active: scope.gauge("active_faults"),
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::HeaderAbort;
    use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
    use envoy_types::pb::google::protobuf::UInt32Value;
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::stats;

    fn fault(config: &HttpFault) -> Result<Fault, Problem> {
        let stats = stats::Stats::default().scope("http.web.fault");
        Fault::compile(config, &Path::root(), Stats::new(&stats))
    }

    fn abort(error: ErrorType) -> HttpFault {
        let percentage = Some(FractionalPercent { numerator: 50, denominator: 0 });
        let abort = FaultAbort { percentage, error_type: Some(error), ..FaultAbort::default() };
        HttpFault { abort: Some(abort), ..HttpFault::default() }
    }

    fn request(headers: &[(&'static str, &'static str)]) -> Head {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Head {
            method: Method::GET,
            scheme: http::uri::Scheme::HTTP,
            authority: HeaderValue::from_static("a"),
            path: http::uri::PathAndQuery::from_static("/"),
            headers: headers.collect::<HeaderMap>(),
        }
    }

    #[test]
    fn a_request_asks_for_its_fault() {
        let fault = fault(&abort(ErrorType::HeaderAbort(HeaderAbort {}))).unwrap();
        let (share, abort) = fault.abort.unwrap();
        for (headers, status, of_49, of_9) in [
            (&[("x-envoy-fault-abort-request", "418")][..], Some(418), true, true),
            (&[("x-envoy-fault-abort-request", "600")], None, true, true),
            (&[("x-envoy-fault-abort-grpc-request", "7")], Some(7), true, true),
            (
                &[("x-envoy-fault-abort-request", "503"), ("x-envoy-fault-abort-request-percentage", "10")],
                Some(503),
                false,
                true,
            ),
            (&[], None, true, true),
        ] {
            let request = request(headers);
            let asked = abort.of(&request).map(|abort| match abort {
                Abort::Http(status) => status.as_u16().into(),
                Abort::Grpc(status) => status,
                Abort::Asked => -1,
            });
            assert_eq!(asked, status, "{headers:?}");
            assert_eq!((share.takes(&request, 49), share.takes(&request, 9)), (of_49, of_9), "{headers:?}");
            assert!(!share.takes(&request, 50));
        }
    }

    #[test]
    fn there_are_never_more_faults_at_once_than_allowed() {
        let max_active_faults = Some(UInt32Value { value: 1 });
        let fault = fault(&HttpFault { max_active_faults, ..HttpFault::default() }).unwrap();
        let first = fault.start();
        assert!(first.is_some() && fault.start().is_none());
        assert_eq!((fault.stats.overflow.value(), fault.stats.active.value()), (1, 1));
        drop(first);
        assert!(fault.start().is_some());
    }

    #[test]
    fn a_fault_without_a_form_is_refused() {
        let path = |config: HttpFault| fault(&config).unwrap_err().path;
        assert_eq!(path(abort(ErrorType::HttpStatus(600))), "abort.http_status");
        let delay = Some(FaultDelay::default());
        assert_eq!(path(HttpFault { delay, ..HttpFault::default() }), "delay");
    }
}
