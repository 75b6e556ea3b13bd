//! The last filter: sends a call to its cluster, once or more often, and turns what comes of it into a reply.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};

use crate::body::{self, BodyError, RequestBody};
use crate::call::{Call, Protocol};
use crate::clock::{Alarm, Expired};
use crate::downstream::hcm::Hcm;
use crate::filter::attempt::Answer;
use crate::filter::retry::Attempts;
use crate::flag::Flag;
use crate::reply::{GRPC_STATUS, LocalReply, Reply, is_grpc};
use crate::route::{Action, Forward, Matched};
use crate::upstream::{Cluster, Failure, FailureKind};

pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
pub(crate) const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
/// What concerns one connection only.
static HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Does what the call's route says, and hands over the clocks that go on running under the reply's body.
pub(crate) async fn forward(call: &mut Call, hcm: &Hcm) -> (Reply, Alarm) {
    let mut alarm = Alarm::new(&call.meter);
    let reply = match route(call, hcm, &mut alarm).await {
        Ok(reply) => reply,
        Err(refused) => refused.render(call),
    };
    (reply, alarm)
}

async fn route(call: &mut Call, hcm: &Hcm, alarm: &mut Alarm) -> Result<Reply, LocalReply> {
    let Some(route) = call.route.clone() else {
        hcm.stats.no_route.inc();
        let refused = LocalReply::new(StatusCode::NOT_FOUND, "", "route_not_found");
        return Err(refused.with_flag(Flag::NoRouteFound));
    };
    let Action::Forward(forward) = &route.action else { return Ok(route.answer(call)) };
    let Some(cluster) = call.cluster() else {
        let refused = LocalReply::new(forward.cluster_not_found, "", "cluster_not_found");
        return Err(refused.with_flag(Flag::NoClusterFound));
    };
    call.upstream.cluster = Some(Arc::clone(&cluster.name));
    let asked = grpc_timeout(&call.request.headers);
    set_clocks(call, hcm, forward, &cluster, asked, alarm);
    let mut attempts = Attempts::new(call, hcm, &route, forward, &cluster, alarm.response);
    prepare(call, &route, forward, &attempts, asked);
    let answered = attempts.run(call, alarm).await;
    let mut reply = match answered {
        Ok(answer) => reply_of(call, *answer),
        Err(failed) => failed.render(call),
    };
    if hcm.suppress_envoy_headers {
        reply.headers.remove(SERVICE_TIME);
        reply.headers.remove(OVERLOADED);
    } else if route.attempts_in_response {
        note_attempts(&mut reply.headers, call.upstream.attempts);
    }
    Ok(reply)
}

/// Starts the clocks of the call: its route's, its connection manager's, and its own deadline.
fn set_clocks(
    call: &Call,
    hcm: &Hcm,
    forward: &Forward,
    cluster: &Cluster,
    asked: Option<Duration>,
    alarm: &mut Alarm,
) {
    alarm.response = forward.timeout(call, asked);
    alarm.idle = forward.idle_timeout.unwrap_or(hcm.limits.stream_idle);
    alarm.request = hcm.limits.request.filter(|_| call.upgrade.is_none()).map(|limit| call.started + limit);
    let longest = forward.max_duration(asked).unwrap_or(hcm.limits.stream);
    alarm.duration = longest.map(|longest| call.started + longest);
    alarm.upstream = cluster.max_stream_duration().map(|longest| Instant::now() + longest);
}

/// What a request's `grpc-timeout` says.
pub(crate) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get(&GRPC_TIMEOUT)?.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// A duration as `grpc-timeout` carries it: at most eight digits.
fn write_grpc_timeout(left: Duration) -> String {
    let units = [(left.as_millis(), 'm'), (u128::from(left.as_secs()), 'S')];
    let fitting = units.into_iter().find(|(amount, _)| *amount < 100_000_000);
    fitting.map_or_else(|| "99999999S".to_owned(), |(amount, unit)| format!("{amount}{unit}"))
}

/// Makes the request's head what the upstream shall see.
fn prepare(
    call: &mut Call,
    route: &Matched,
    forward: &Forward,
    attempts: &Attempts<'_>,
    asked: Option<Duration>,
) {
    let longest = forward.max_duration(asked).flatten();
    // A browser that has set itself no deadline does not get one in its name.
    let longest = longest.filter(|_| call.protocol == Protocol::Grpc || asked.is_some());
    let left = longest.map(|longest| longest.saturating_sub(call.started.elapsed()));
    let headers = &mut call.request.headers;
    let trailers = headers.get_all(TE).iter().filter_map(|te| te.to_str().ok()).flat_map(|te| te.split(','));
    let trailers = trailers.map(str::trim).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    let upgrade = call
        .upgrade
        .as_ref()
        .and_then(|_| headers.get(CONNECTION).cloned().zip(headers.get(UPGRADE).cloned()));
    strip_hop_by_hop(headers);
    if let Some((connection, protocol)) = upgrade {
        headers.insert(CONNECTION, connection);
        headers.insert(UPGRADE, protocol);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
    if let Some(left) = left {
        set_grpc_timeout(headers, left);
    }
    attempts.tell_time(&call.meter, headers);
    call.upstream.attempts = 1;
    route.prepare_request(call, forward);
}

pub(crate) fn set_grpc_timeout(headers: &mut HeaderMap, left: Duration) {
    if is_grpc(headers)
        && let Ok(value) = HeaderValue::try_from(write_grpc_timeout(left))
    {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// Takes off what concerns one connection only, and what `Connection` nominates.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // HTTP/2 has none of them, and one look at all names is cheaper than a search for each.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    if let Some(nominated) = headers.get(CONNECTION).cloned() {
        let names = nominated.to_str().unwrap_or_default().split(',').map(str::trim);
        for name in names.filter(|name| !name.eq_ignore_ascii_case("te")) {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn note_attempts(headers: &mut HeaderMap, attempts: u32) {
    headers.insert(ATTEMPT_COUNT, HeaderValue::from(attempts));
}

/// The request as one attempt sends it.
pub(crate) fn request(
    call: &Call,
    body: RequestBody,
    attempt: Option<u32>,
) -> Result<Box<Request<RequestBody>>, LocalReply> {
    let malformed = || LocalReply::new(StatusCode::BAD_REQUEST, "", "invalid_upstream_request");
    let authority = Authority::try_from(call.request.authority.as_bytes()).map_err(|_| malformed())?;
    let uri = Uri::builder()
        .scheme(call.request.scheme.clone())
        .authority(authority)
        .path_and_query(call.request.path.clone())
        .build()
        .map_err(|_| malformed())?;
    // Boxed: it goes through several futures, of which each would hold it.
    let mut request = Box::new(Request::new(body));
    *request.method_mut() = call.request.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = call.request.headers.clone();
    // A cluster may speak to its hosts what the client speaks.
    *request.version_mut() = call.version;
    if let Some(attempt) = attempt {
        note_attempts(request.headers_mut(), attempt);
    }
    Ok(request)
}

/// The upstream's answer on its way down.
fn reply_of(call: &mut Call, (answered, first): Answer) -> Reply {
    call.details = "via_upstream".into();
    call.upstream.host = Some(Arc::clone(&answered.host.address));
    call.upstream.local = answered.local;
    let (mut headers, status) = (answered.head.headers, answered.head.status);
    let mut extensions = answered.head.extensions;
    let upgrade = extensions.remove().filter(|_| status == StatusCode::SWITCHING_PROTOCOLS);
    if upgrade.is_none() {
        strip_hop_by_hop(&mut headers);
    }
    // An answer that comes before the request is whole says nothing of the upstream's speed.
    if let Some(time) = call.upstream.service_time.filter(|_| call.meter.ended().is_some()) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        headers.insert(SERVICE_TIME, HeaderValue::from(millis));
    }
    let owes_status = is_grpc(&headers) && !headers.contains_key(GRPC_STATUS);
    let body = body::Answer::Upstream { first, body: answered.body, owes_status };
    Reply { upgrade, ..Reply::new(status, headers, body) }
}

/// What a client is told when no answer came.
pub(crate) fn refusal(failure: &Failure, call: &mut Call) -> LocalReply {
    if let Some(refused) = &failure.refused {
        return (**refused).clone();
    }
    if call.is_late() && failure.kind != FailureKind::ClientGone {
        return too_late(Expired::Duration, call);
    }
    let unavailable =
        |message: String, details: String| LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, message, details);
    let retried = if call.upstream.attempts > 1 { "retried and the latest " } else { "" };
    let before = |reason: &str, transport: &str| {
        let separator = if transport.is_empty() { "" } else { "|" };
        let details = format!("{reason}{separator}{transport}").replace(' ', "_");
        unavailable(
            // What went wrong inside is for the log, not for the client.
            format!(
                "upstream connect error or disconnect/reset before headers. {retried}reset reason: {reason}"
            ),
            format!("upstream_reset_before_response_started{{{details}}}"),
        )
    };
    match failure.kind {
        FailureKind::NoHealthyHost => {
            unavailable("no healthy upstream".to_owned(), "no_healthy_upstream".to_owned())
                .with_flag(Flag::NoHealthyUpstream)
        }
        FailureKind::Overflow => before("overflow", "")
            .with_flag(Flag::UpstreamOverflow)
            .with_header(OVERLOADED, HeaderValue::from_static("true")),
        FailureKind::ConnectFailure => {
            call.upstream.failure = Some(failure.reason.replace(' ', "_"));
            before("remote connection failure", &failure.reason).with_flag(Flag::UpstreamConnectionFailure)
        }
        FailureKind::ConnectTimeout => {
            before("connection timeout", "").with_flag(Flag::UpstreamConnectionFailure)
        }
        FailureKind::ConnectionTermination => {
            before("connection termination", "").with_flag(Flag::UpstreamConnectionTermination)
        }
        FailureKind::RefusedStream => {
            before("remote refused stream reset", "").with_flag(Flag::UpstreamRemoteReset)
        }
        FailureKind::Protocol | FailureKind::Reset(h2::Reason::PROTOCOL_ERROR) => {
            let refused = before("protocol error", "").with_flag(Flag::UpstreamProtocolError);
            LocalReply { status: StatusCode::BAD_GATEWAY, ..refused }
        }
        FailureKind::Reset(_) => before("remote reset", "").with_flag(Flag::UpstreamRemoteReset),
        FailureKind::ClientGone => {
            LocalReply::new(StatusCode::BAD_REQUEST, "", "downstream_remote_disconnect")
                .with_flag(Flag::DownstreamConnectionTermination)
        }
    }
}

/// What a client is told when a clock ran out before the answer.
pub(crate) fn too_late(expired: Expired, call: &Call) -> LocalReply {
    // Whose fault it is depends on whether the request is whole.
    let late = match call.meter.ended() {
        Some(_) => StatusCode::GATEWAY_TIMEOUT,
        None => StatusCode::REQUEST_TIMEOUT,
    };
    match expired {
        Expired::Response | Expired::Attempt => {
            let (message, details) = match expired {
                Expired::Attempt => ("upstream request timeout", "upstream_per_try_timeout"),
                _ => ("upstream request timeout", "response_timeout"),
            };
            LocalReply::new(StatusCode::GATEWAY_TIMEOUT, message, details)
                .with_grpc(4)
                .with_flag(Flag::UpstreamRequestTimeout)
        }
        Expired::Duration => {
            LocalReply::new(late, "downstream duration timeout", "max_duration_timeout").with_grpc(4)
        }
        Expired::Upstream => {
            let message = "upstream max stream duration reached";
            LocalReply::new(late, message, "upstream_max_stream_duration_reached")
                .with_grpc(4)
                .with_flag(Flag::UpstreamMaxStreamDurationReached)
        }
        Expired::Idle => LocalReply::new(late, "stream timeout", "stream_idle_timeout")
            .with_grpc(4)
            .with_flag(Flag::StreamIdleTimeout),
        Expired::Request => {
            LocalReply::new(StatusCode::REQUEST_TIMEOUT, "request timeout", "request_overall_timeout")
        }
    }
}

/// Ends a reply that was begun: with a gRPC status and message, or by resetting the stream.
pub(crate) fn cut(call: &mut Call, error: &BodyError) -> Result<(i32, String), h2::Reason> {
    let (code, message) = match error {
        BodyError::ClientGone => return Err(h2::Reason::CANCEL),
        BodyError::Refused(refused) => (refused.code(), refused.message.to_string()),
        BodyError::Expired(expired) => end_late(*expired, call),
        BodyError::Upstream(_) if call.is_late() => end_late(Expired::Duration, call),
        BodyError::Upstream(failure) => {
            let (flag, details) = match failure.kind {
                FailureKind::ConnectionTermination => (
                    Flag::UpstreamConnectionTermination,
                    "upstream_reset_after_response_started{connection_termination}",
                ),
                FailureKind::Protocol | FailureKind::Reset(h2::Reason::PROTOCOL_ERROR) => {
                    (Flag::UpstreamProtocolError, "upstream_reset_after_response_started{protocol_error}")
                }
                _ => (Flag::UpstreamRemoteReset, "upstream_reset_after_response_started{remote_reset}"),
            };
            call.flag(flag);
            call.details = details.into();
            (code_of(failure.kind), "the upstream broke off the call".to_owned())
        }
    };
    if call.is_grpc() { Ok((code, message)) } else { Err(h2::Reason::INTERNAL_ERROR) }
}

fn end_late(expired: Expired, call: &mut Call) -> (i32, String) {
    let refused = too_late(expired, call);
    call.details = refused.details.clone();
    refused.flag.into_iter().for_each(|flag| call.flag(flag));
    (refused.code(), refused.message.into_owned())
}

/// The gRPC status of an upstream that broke off; the codes are those of the gRPC specification.
fn code_of(kind: FailureKind) -> i32 {
    match kind {
        FailureKind::Reset(h2::Reason::CANCEL) => 1,
        FailureKind::Reset(h2::Reason::ENHANCE_YOUR_CALM) => 8,
        FailureKind::Reset(h2::Reason::INADEQUATE_SECURITY) => 7,
        FailureKind::Reset(h2::Reason::NO_ERROR | h2::Reason::REFUSED_STREAM) => 14,
        FailureKind::Reset(_) | FailureKind::Protocol => 13,
        _ => 14,
    }
}
