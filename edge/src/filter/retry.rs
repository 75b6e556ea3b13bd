//! Attempts: one after another where a retry policy says so, or side by side where it hedges.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};

use tokio::time::sleep;

use crate::body::{RequestBody, Source, Transformed};
use crate::call::Call;
use crate::clock::{Alarm, Expired, Meter};
use crate::downstream::hcm::Hcm;
use crate::filter::attempt::{
    Answer, GRPC_CONDITIONS, Outcome, applies_to_answer, asked_pause, attempt, back_off,
};
use crate::filter::router;
use crate::flag::Flag;
use crate::replay::Replay;
use crate::reply::LocalReply;
use crate::route::{Forward, Matched, Retry, RetryOn};
use crate::upstream::{Chosen, Cluster, Failure, FailureKind, Host, RetryPermit, Want};

/// What of a request is kept for another attempt, where its route does not say.
const KEPT: usize = 1 << 20;
const IS_TIMEOUT_RETRY: HeaderName = HeaderName::from_static("x-envoy-is-timeout-retry");

/// The attempts of one call.
pub(crate) struct Attempts<'a> {
    hcm: &'a Hcm,
    route: &'a Matched,
    forward: &'a Forward,
    /// The route's timeout.
    timeout: Option<Duration>,
    retry: Option<Arc<Retry>>,
    on: RetryOn,
    left: u32,
    cluster: &'a Arc<Cluster>,
    /// How often the request was sent.
    sent: u32,
    bodies: Bodies,
    want: Want,
    pauses: u32,
    /// The numbers of the attempts that have ended.
    landed: Vec<u32>,
    permit: Option<RetryPermit>,
    sent_at: Instant,
}

/// Where each attempt's body comes from.
enum Bodies {
    Once(Option<RequestBody>),
    Replay(Replay),
}

impl Bodies {
    fn next(&mut self) -> Option<RequestBody> {
        match self {
            Self::Once(body) => body.take(),
            Self::Replay(replay) => replay.is_whole().then(|| replay.read()),
        }
    }

    fn again(&self) -> bool {
        matches!(self, Self::Replay(replay) if replay.is_whole())
    }

    /// Whether a body that was to be kept became too long.
    fn lost(&self) -> bool {
        matches!(self, Self::Replay(replay) if !replay.is_whole())
    }
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(
        call: &mut Call,
        hcm: &'a Hcm,
        route: &'a Matched,
        forward: &'a Forward,
        cluster: &'a Arc<Cluster>,
        timeout: Option<Duration>,
    ) -> Self {
        let body = std::mem::replace(&mut call.body, Transformed::new(Source::Empty));
        let retry = forward.retry_of(call);
        let (on, left) =
            retry.as_ref().map_or((RetryOn::default(), 0), |retry| (retry.on, retry.num_retries));
        let retriable = !on.is_empty() && left > 0;
        let kept = route.request_kept.unwrap_or(KEPT);
        let bodies =
            if retriable { Bodies::Replay(Replay::new(body, kept)) } else { Bodies::Once(Some(body)) };
        let want = Want {
            hash: forward.hash(call),
            tried: Vec::new(),
            redraws: retry.as_ref().map_or(0, |retry| retry.host_selection_attempts),
            high_priority: forward.high_priority,
            random: call.random,
            chosen: Chosen::default(),
        };
        Self {
            hcm,
            route,
            forward,
            timeout,
            retry,
            on,
            left,
            cluster,
            sent: 0,
            bodies,
            want,
            pauses: 0,
            landed: Vec::new(),
            permit: None,
            sent_at: call.started,
        }
    }

    /// Tells the upstream how long it has for the next attempt.
    pub(crate) fn tell_time(&self, meter: &Meter, headers: &mut HeaderMap) {
        let waited = meter.ended().map_or(Duration::ZERO, |whole| whole.elapsed());
        let left = self.timeout.map(|timeout| timeout.saturating_sub(waited));
        // A late attempt that hedges flies on.
        let own = self.per_try_timeout().filter(|_| !self.forward.hedges);
        let Some(expected) = [left, own].into_iter().flatten().min() else { return };
        if !self.hcm.suppress_envoy_headers {
            let millis = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
            headers.insert(router::EXPECTED_TIMEOUT, HeaderValue::from(millis.max(1)));
        }
        if self.forward.replaces_grpc_timeout() {
            router::set_grpc_timeout(headers, expected);
        }
    }

    fn per_try_timeout(&self) -> Option<Duration> {
        self.retry.as_ref()?.per_try_timeout
    }

    /// Tries until there is an answer to pass on, or nothing more to try.
    pub(crate) async fn run(
        &mut self,
        call: &mut Call,
        alarm: &mut Alarm,
    ) -> Result<Box<Answer>, LocalReply> {
        let ended = match self.retry {
            None => alarm.over(pin!(self.only(call))).await,
            Some(_) => alarm.over(Box::pin(self.attempts(call)).as_mut()).await,
        };
        if self.bodies.lost() {
            self.cluster.stats.retry_or_shadow_abandoned.inc();
        }
        let host = self.want.chosen.host();
        call.upstream.host = host.as_ref().map(|host| Arc::clone(&host.address));
        match ended {
            Ok(Ok(answer)) => {
                call.upstream.service_time = Some(self.sent_at.elapsed());
                Ok(answer)
            }
            Ok(Err(refused)) => Err(refused),
            Err(expired) => {
                if expired == Expired::Upstream {
                    self.cluster.stats.upstream_rq_max_duration_reached.inc();
                }
                if expired == Expired::Response {
                    self.cluster.stats.upstream_rq_timeout.inc();
                    host.inspect(|host| host.timed_out());
                }
                Err(self.too_late(expired, call))
            }
        }
    }

    /// The one attempt of a call without a retry policy.
    async fn only(&mut self, call: &mut Call) -> Result<Box<Answer>, LocalReply> {
        let request = self.request(call, false)?;
        let outcome = attempt(self.cluster, request, &self.want, None, false).await;
        self.settle(call, outcome)
    }

    async fn attempts(&mut self, call: &mut Call) -> Result<Box<Answer>, LocalReply> {
        let mut flying = FuturesUnordered::new();
        self.launch(call, &mut flying, false)?;
        loop {
            let Some((number, outcome)) = flying.next().await else {
                return Err(LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, "", "no_attempt_left"));
            };
            if self.forward.hedges && matches!(outcome, Outcome::Late) {
                // The late attempt flies on and may still win.
                if !self.landed.contains(&number) && self.may_retry() {
                    self.left -= 1;
                    self.launch(call, &mut flying, true)?;
                }
                continue;
            }
            self.landed.push(number);
            let late = matches!(outcome, Outcome::Late);
            if late {
                self.note_late();
            }
            if let Some(pause) = self.wants_retry(call, &outcome) {
                self.note_tried(&outcome);
                note_landed(call, number, &outcome);
                drop(outcome);
                self.cluster.stats.upstream_rq_retry.inc();
                sleep(pause).await;
                self.launch(call, &mut flying, late)?;
                continue;
            }
            let flying_on = self.sent as usize > self.landed.len();
            if flying_on && !matches!(outcome, Outcome::Answered(_)) {
                continue;
            }
            return self.settle(call, outcome);
        }
    }

    /// An attempt's own clock ran out.
    fn note_late(&self) {
        self.cluster.stats.upstream_rq_per_try_timeout.inc();
        if let Some(host) = self.want.chosen.host() {
            host.timed_out();
        }
    }

    /// Sends the request once more; `late`: for the attempt before took too long.
    fn launch(
        &mut self,
        call: &mut Call,
        flying: &mut FuturesUnordered<BoxFuture<'static, (u32, Outcome)>>,
        late: bool,
    ) -> Result<(), LocalReply> {
        let request = self.request(call, late)?;
        let number = self.sent;
        let (cluster, want) = (Arc::clone(self.cluster), self.want.clone());
        let peek = self.peeks(call);
        let mut limit = self.per_try_timeout();
        if self.forward.hedges
            && let Some(late) = limit.take()
        {
            flying.push(Box::pin(async move {
                sleep(late).await;
                (number, Outcome::Late)
            }));
        }
        flying.push(Box::pin(async move { (number, attempt(&cluster, request, &want, limit, peek).await) }));
        Ok(())
    }

    /// The request for the next attempt, which is counted.
    fn request(&mut self, call: &mut Call, late: bool) -> Result<Box<Request<RequestBody>>, LocalReply> {
        self.sent += 1;
        call.upstream.attempts = self.sent;
        let Some(body) = self.bodies.next() else {
            return Err(LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, "", "request_body_lost"));
        };
        if let Some(trace) = &mut call.trace {
            trace.depart(&mut call.request.headers);
        }
        let mut request = router::request(call, body, self.route.attempts_in_request.then_some(self.sent))?;
        if self.sent > 1 {
            self.tell_time(&call.meter, request.headers_mut());
            if self.route.timeout_retry_header {
                let late = if late { "true" } else { "false" };
                request.headers_mut().insert(IS_TIMEOUT_RETRY, HeaderValue::from_static(late));
            }
        }
        // The upstream counts from when it reads this, so its own clock never rings before ours.
        let told = router::grpc_timeout(request.headers()).filter(|_| call.is_grpc());
        self.sent_at = Instant::now();
        call.upstream.deadline = told.map(|left| self.sent_at + left);
        Ok(request)
    }

    /// Whether the status in the trailers of an empty answer decides on a retry.
    fn peeks(&self, call: &Call) -> bool {
        self.on.intersects(GRPC_CONDITIONS) && self.left > 0 && call.is_grpc()
    }

    fn may_retry(&self) -> bool {
        self.left > 0 && self.bodies.again()
    }

    /// How long to wait before the next attempt; `None`: the outcome stands.
    fn wants_retry(&mut self, call: &mut Call, outcome: &Outcome) -> Option<Duration> {
        let retry = Arc::clone(self.retry.as_ref()?);
        if !self.applies(&retry, outcome) {
            return None;
        }
        if self.bodies.lost() {
            return None;
        }
        if !self.may_retry() {
            call.flag(Flag::UpstreamRetryLimitExceeded);
            self.cluster.stats.upstream_rq_retry_limit_exceeded.inc();
            return None;
        }
        self.permit = None;
        let Some(permit) = self.cluster.try_retry(self.want.high_priority) else {
            call.flag(Flag::UpstreamOverflow);
            self.cluster.stats.upstream_rq_retry_overflow.inc();
            return None;
        };
        self.permit = Some(permit);
        self.left -= 1;
        self.pauses += 1;
        Some(asked_pause(&retry, outcome).unwrap_or_else(|| back_off(&retry, self.pauses)))
    }

    fn applies(&self, retry: &Retry, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Late => {
                self.on.intersects(RetryOn::SERVER_ERROR.with(RetryOn::GATEWAY_ERROR).with(RetryOn::RESET))
            }
            Outcome::Failed(failure) => self.applies_to_failure(failure),
            Outcome::Answered(answer) => applies_to_answer(self.on, retry, answer),
        }
    }

    fn applies_to_failure(&self, failure: &Failure) -> bool {
        let broken = RetryOn::SERVER_ERROR.with(RetryOn::GATEWAY_ERROR).with(RetryOn::RESET);
        let unsent = if failure.sent { RetryOn::default() } else { RetryOn::RESET_BEFORE_REQUEST };
        match failure.kind {
            FailureKind::ConnectFailure | FailureKind::ConnectTimeout => {
                self.on.intersects(broken.with(RetryOn::CONNECT_FAILURE).with(unsent))
            }
            FailureKind::RefusedStream => {
                self.on.intersects(broken.with(RetryOn::REFUSED_STREAM).with(unsent))
            }
            FailureKind::ConnectionTermination | FailureKind::Reset(_) | FailureKind::Protocol => {
                self.on.intersects(broken.with(unsent))
            }
            FailureKind::NoHealthyHost | FailureKind::Overflow | FailureKind::ClientGone => false,
        }
    }

    fn note_tried(&mut self, outcome: &Outcome) {
        if !self.retry.as_ref().is_some_and(|retry| retry.avoid_previous_hosts) {
            return;
        }
        let host: Option<&Arc<Host>> = match outcome {
            Outcome::Answered(answer) => Some(&answer.0.host),
            Outcome::Failed(failure) => failure.host.as_ref(),
            Outcome::Late => None,
        };
        self.want.tried.extend(host.cloned());
    }

    fn too_late(&self, expired: Expired, call: &Call) -> LocalReply {
        let refused = router::too_late(expired, call);
        if matches!(expired, Expired::Response | Expired::Attempt) {
            self.cluster.stats.answered(refused.status.as_u16());
        }
        refused
    }

    /// The last outcome is the call's.
    fn settle(&self, call: &mut Call, outcome: Outcome) -> Result<Box<Answer>, LocalReply> {
        let answered = matches!(outcome, Outcome::Answered(_));
        if self.sent > 1 && answered && !call.flags.contains(Flag::UpstreamRetryLimitExceeded) {
            self.cluster.stats.upstream_rq_retry_success.inc();
        }
        match outcome {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::Failed(failure) => {
                let refused = router::refusal(&failure, call);
                if failure.kind != FailureKind::ClientGone {
                    self.cluster.stats.answered(refused.status.as_u16());
                }
                Err(refused)
            }
            Outcome::Late => Err(self.too_late(Expired::Attempt, call)),
        }
    }
}

/// Ends the span of an attempt that another one follows.
fn note_landed(call: &mut Call, number: u32, outcome: &Outcome) {
    let Some(trace) = &mut call.trace else { return };
    let (status, host) = match outcome {
        Outcome::Answered(answer) => (Some(answer.0.head.status.as_u16()), Some(&answer.0.host)),
        Outcome::Failed(failure) => (None, failure.host.as_ref()),
        Outcome::Late => (None, None),
    };
    trace.landed(number, status, host.map(|host| Arc::clone(&host.address)));
}
