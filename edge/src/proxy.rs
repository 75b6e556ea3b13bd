//! The phases of a call, one line each, and the flight that takes it through them.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::arrival;
use crate::body::{Answer, BodyError, ReplyBody, Source, Transformed};
use crate::call::{Call, Connection, Protocol};
use crate::clock::{Alarm, Meter};
use crate::downstream::hcm::Hcm;
use crate::downstream::normalize::{self, X_REQUEST_ID};
use crate::downstream::upgrade::{self, Side};
use crate::downstream::{flush, linger, pulse::Pulse};
use crate::drain::Drain;
use crate::filter::{Filter, Flow, router};
use crate::flag::Flag;
use crate::head::Head;
use crate::reply::{GRPC_MESSAGE, GRPC_STATUS, LocalReply, Reply};
use crate::upstream::Failure;
use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::{body::Incoming, upgrade::OnUpgrade};

/// Serves one request of a connection.
pub(crate) async fn serve(
    hcm: Arc<Hcm>,
    connection: Arc<Connection>,
    pulse: Arc<Pulse>,
    drain: Drain,
    request: Request<Incoming>,
) -> Result<Response<Box<Outgoing>>, h2::Error> {
    let refused = pulse.request_begun(&hcm);
    if drain.leaving() {
        pulse.leave();
    }
    let mut flight = Flight::new(hcm, connection, pulse, request);
    flight.call.failing = drain.failing();
    let arrived = match refused {
        Some(refused) => Err(refused),
        None => flight.arrive(),
    };
    // Envoy hangs up on a client whose request it does not understand.
    flight.hangs_up |= arrived.as_ref().is_err_and(|refused| refused.status.is_client_error());
    let decided = match arrived {
        Ok(()) => flight.decide().await,
        Err(refused) => Err(refused),
    };
    let (mut reply, alarm) = match decided {
        Ok(()) => router::forward(&mut flight.call, &flight.hcm).await,
        Err(refused) => (refused.render(&mut flight.call), Alarm::new(&flight.call.meter)),
    };
    flight.filter_reply(&mut reply);
    Ok(flight.depart(reply, alarm, &drain))
}

/// A call under way. However it ends, its end is counted and logged: also when its client is gone.
#[derive(Debug)]
pub(crate) struct Flight {
    call: Box<Call>,
    hcm: Arc<Hcm>,
    pulse: Arc<Pulse>,
    chain: Arc<[Arc<dyn Filter>]>,
    complete: bool,
    /// The connection ends with this call.
    hangs_up: bool,
    /// By when the client must have taken what waits for it.
    flush_by: Option<Instant>,
}

impl Flight {
    fn new(
        hcm: Arc<Hcm>,
        connection: Arc<Connection>,
        pulse: Arc<Pulse>,
        request: Request<Incoming>,
    ) -> Self {
        hcm.stats.requests.inc();
        hcm.stats.requests_active.add(1);
        let (mut parts, body) = request.into_parts();
        let hangs_up =
            parts.version == Version::HTTP_10 && !normalize::lists(&parts.headers, CONNECTION, "keep-alive");
        let host = parts.headers.remove(HOST);
        let authority = match parts.uri.authority() {
            Some(authority) => {
                // Who asks is no part of whom.
                let (_, host) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
                HeaderValue::from_str(host).ok()
            }
            None => host,
        };
        let head = Head {
            scheme: if connection.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
            authority: authority.unwrap_or(HeaderValue::from_static("")),
            path: parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
            method: parts.method,
            headers: parts.headers,
        };
        let (empty, upgrade) = (body.is_end_stream(), parts.extensions.remove());
        // What follows an upgrade is part of its request.
        let meter = Arc::new(Meter::new(empty && upgrade.is_none()));
        let trailers = parts.version == Version::HTTP_2 || hcm.http1_trailers;
        let source = match empty {
            true => Source::Empty,
            false => Source::Client { body, meter: Arc::clone(&meter), trailers },
        };
        let mut call = Call::new(head, source, meter, parts.version, connection);
        call.clusters = Some(Arc::clone(&hcm.clusters));
        call.upgrade = upgrade;
        call.local_replies.clone_from(&hcm.local_replies);
        let (call, chain) = (Box::new(call), Arc::clone(&hcm.filters));
        Self { call, hcm, pulse, chain, complete: false, hangs_up, flush_by: None }
    }

    fn arrive(&mut self) -> Result<(), LocalReply> {
        arrival::arrive(&mut self.call, &self.hcm)?;
        if let Some(route) = &self.call.route {
            self.chain = Arc::clone(&route.filters);
        }
        Ok(())
    }

    /// Lets every filter see the request.
    async fn decide(&mut self) -> Result<(), LocalReply> {
        for filter in self.chain.iter() {
            let (waited, decided) = match filter.request(&mut self.call) {
                Flow::Continue => (false, Ok(())),
                Flow::Reply(reply) => (false, Err(reply)),
                Flow::Wait(answer) => (true, answer.await),
            };
            if waited && decided.is_err() {
                self.call.body.take_in().await;
            }
            decided?;
            let call = &mut *self.call;
            if std::mem::take(&mut call.reroute) {
                arrival::find_route(call, &self.hcm);
            }
        }
        Ok(())
    }

    /// Lets every filter see the reply, and adds what every reply carries.
    fn filter_reply(&mut self, reply: &mut Reply) {
        let call = &mut *self.call;
        if let Some(route) = call.route.clone() {
            route.finish_reply(call, reply);
        }
        for filter in self.chain.iter().rev() {
            filter.response(call, reply);
        }
        if let Some(trace) = &call.trace {
            trace.tell(&mut reply.headers);
        }
        self.hcm.identity.sign(&mut reply.headers);
        if self.hcm.identity.request_id_in_response
            && let Some(id) = call.request.headers.get(&X_REQUEST_ID)
        {
            reply.headers.insert(X_REQUEST_ID, id.clone());
        }
    }

    /// Sends the reply off; its body takes the flight along.
    fn depart(mut self, reply: Reply, alarm: Alarm, drain: &Drain) -> Response<Box<Outgoing>> {
        let mut headers = reply.headers;
        // What is left of a request that is answered already would have to be read to its end.
        let upgrade = reply.upgrade.and_then(|upstream| Some((self.call.upgrade.take()?, upstream)));
        let hangs_up = self.hangs_up || drain.leaving() || self.call.meter.ended().is_none();
        if hangs_up && upgrade.is_none() && self.call.version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let call = &mut *self.call;
        call.ended.status = Some(reply.status);
        call.ended.response_begun = Some(call.started.elapsed());
        call.ended.note_status(&headers);
        if !self.hcm.access_logs.is_empty() {
            call.ended.headers = headers.clone();
        }
        // Nobody asks for the body of such an answer.
        let body = if call.request.method == Method::HEAD {
            Transformed::new(Answer::Full(None))
        } else {
            reply.body
        };
        let outgoing = match upgrade {
            Some((client, upstream)) => {
                self.pulse.upgrade();
                let (tunnels, ended) = (self.pulse.tunnels.clone(), Outgoing::ended(&self.call.meter));
                tunnels.spawn(self.tunnel(client, upstream, alarm));
                ended
            }
            None => Outgoing::new(body, alarm, self),
        };
        // Boxed: what writes the body moves it from place to place.
        let mut response = Response::new(Box::new(outgoing));
        *response.status_mut() = reply.status;
        *response.headers_mut() = headers;
        response
    }

    /// Carries what the client speaks instead of HTTP; the call ends with it.
    async fn tunnel(mut self, client: OnUpgrade, upstream: OnUpgrade, mut alarm: Alarm) {
        let Ok((client, upstream)) = tokio::try_join!(client, upstream) else { return };
        let sent = AtomicU64::new(0);
        let carried = alarm.over(pin!(upgrade::carry(client, upstream, &self.call.meter, &sent))).await;
        self.call.ended.bytes_sent = sent.into_inner();
        let error = match carried {
            Ok(Side::Client) => return,
            Ok(Side::Upstream) => BodyError::Upstream(Failure::closed()),
            Err(expired) => BodyError::Expired(expired),
        };
        self.complete = true;
        // There is nobody left who could be told in the words of the call's protocol.
        let _ = router::cut(&mut self.call, &error);
    }

    /// The call is over, and everybody who counts or writes is told.
    fn finish(&mut self) {
        let call = &mut *self.call;
        let now = Instant::now();
        let late = self.flush_by.is_some_and(|by| by <= now);
        // What reads the request may have noticed first.
        let unread = call.flags.contains(Flag::DownstreamConnectionTermination);
        let shares = call.version == Version::HTTP_2 && !self.pulse.is_closed();
        let reset = shares && !late && (unread || !self.complete);
        if !self.complete {
            let (flag, details) = match reset {
                _ if late => (Flag::StreamIdleTimeout, "stream_flush_timeout"),
                true => (Flag::DownstreamRemoteReset, "http2.remote_reset"),
                false => (Flag::DownstreamConnectionTermination, "downstream_remote_disconnect"),
            };
            call.flag(flag);
            if call.details.is_empty() || call.details == "via_upstream" {
                call.details = details.into();
            }
        }
        call.ended.duration = now.duration_since(call.started);
        call.ended.bytes_received = call.meter.received();
        call.ended.request_received = call.meter.ended().map(|whole| whole.duration_since(call.started));
        let stats = &self.hcm.stats;
        stats.requests_active.add(-1);
        stats.completed.inc();
        stats.request_time.record_time(call.ended.duration);
        if let Some(status) = call.ended.status {
            let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
            stats.classes[class].inc();
        }
        for filter in self.chain.iter() {
            filter.ended(call);
        }
        for log in &self.hcm.access_logs {
            log.write(call);
        }
        if let Some(tracer) = &self.hcm.tracer {
            tracer.end(call);
        }
        let unwanted = reset && (unread || call.ended.status.is_none());
        self.pulse.request_ended(now, unwanted.then_some(call.ended.duration), &self.hcm);
        linger::finish_request(call);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A reply's body on its way to the client, under the clocks of its route.
pub(crate) struct Outgoing {
    body: ReplyBody,
    alarm: Alarm,
    flight: Option<Flight>,
    /// For a client that shares its connection to take what waits for it.
    flush: Option<Duration>,
}

impl Outgoing {
    fn new(body: ReplyBody, alarm: Alarm, flight: Flight) -> Self {
        let flush = flight.hcm.limits.flush.filter(|_| flight.call.version == Version::HTTP_2);
        let mut outgoing = Self { body, alarm, flight: Some(flight), flush };
        if outgoing.body.is_end_stream() {
            outgoing.complete();
        }
        outgoing
    }

    /// Nothing: what follows is no body.
    fn ended(meter: &Arc<Meter>) -> Self {
        Self {
            body: Transformed::new(Answer::Full(None)),
            alarm: Alarm::new(meter),
            flight: None,
            flush: None,
        }
    }

    /// The body was passed on to its end.
    fn complete(&mut self) {
        if let Some(mut flight) = self.flight.take() {
            flight.complete = true;
        }
    }

    fn passed(&mut self, frame: &Frame<Bytes>) {
        let now = Instant::now();
        self.alarm.meter.touch(now);
        let flush_by = self.flush.map(|flush| now + flush);
        flush::expect(flush_by);
        let Some(flight) = &mut self.flight else { return };
        flight.flush_by = flush_by;
        if let Some(data) = frame.data_ref() {
            flight.call.ended.bytes_sent += data.len() as u64;
        }
        if let Some(trailers) = frame.trailers_ref().or(self.body.absorbed()) {
            flight.call.ended.note_status(trailers);
            if !flight.hcm.access_logs.is_empty() {
                flight.call.ended.trailers = trailers.clone();
            }
        }
    }

    /// Ends a reply that was begun and cannot go on: with a status where the protocol has a place for one.
    fn cut(&mut self, error: BodyError) -> Option<Result<Frame<Bytes>, h2::Error>> {
        let Some(mut flight) = self.flight.take() else { return None };
        flight.complete = !matches!(error, BodyError::ClientGone);
        let call = &mut *flight.call;
        let ending = router::cut(call, &error);
        self.body = Transformed::new(Answer::Full(None));
        let (code, message) = match ending {
            Ok(ending) => ending,
            Err(reason) => return Some(Err(h2::Error::from(reason))),
        };
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert(GRPC_STATUS, HeaderValue::from(code));
        if let Ok(message) = HeaderValue::try_from(crate::reply::encode_message(&message)) {
            trailers.insert(GRPC_MESSAGE, message);
        }
        call.ended.note_status(&trailers);
        let frame = match call.protocol {
            Protocol::GrpcWeb { text_reply } => {
                let frame = crate::filter::grpc_web::trailer_frame(&trailers);
                let frame = if text_reply { crate::filter::grpc_web::encode_text(&frame) } else { frame };
                Frame::data(frame)
            }
            _ => Frame::trailers(trailers),
        };
        Some(Ok(frame))
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if this.flight.is_none() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.passed(&frame);
                if this.body.is_end_stream() {
                    this.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(this.cut(error)),
            Poll::Ready(None) => {
                this.complete();
                Poll::Ready(None)
            }
            Poll::Pending => {
                flush::expect(None);
                if let Some(flight) = &mut this.flight {
                    flight.flush_by = None;
                }
                let expired = ready!(this.alarm.poll(cx));
                Poll::Ready(this.cut(BodyError::Expired(expired)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.flight.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
