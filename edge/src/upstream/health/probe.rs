//! Asks one host how it is.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Check, Finding, HttpCheck, Kind, agent};
use crate::upstream::connect::{Io, connect};
use crate::upstream::host::{Host, Target};
use crate::upstream::{Core, Failure};

/// Asks a host again and again, over one connection where it can be kept.
pub(super) struct Prober {
    check: Arc<Check>,
    core: Arc<Core>,
    host: Arc<Host>,
    target: Target,
    session: Option<Session>,
}

enum Session {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// What kept a check from being answered.
struct Silence;

impl From<Failure> for Silence {
    fn from(_: Failure) -> Self {
        Self
    }
}

impl From<hyper::Error> for Silence {
    fn from(_: hyper::Error) -> Self {
        Self
    }
}

impl From<std::io::Error> for Silence {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

impl Prober {
    pub(super) fn new(check: &Arc<Check>, core: &Arc<Core>, host: &Arc<Host>) -> Self {
        let mut target = host.spec.target.clone();
        if let Target::Tcp(address) = &mut target
            && let Some(port) = check.alt_port.or(host.spec.check.port)
        {
            address.set_port(port);
        }
        let (check, core, host) = (Arc::clone(check), Arc::clone(core), Arc::clone(host));
        Self { check, core, host, target, session: None }
    }

    pub(super) async fn probe(&mut self) -> Finding {
        let check = Arc::clone(&self.check);
        let finding = timeout(check.timeout, self.ask(&check.kind)).await;
        let finding = finding.unwrap_or(Err(Silence)).unwrap_or(Finding::Silent);
        if finding == Finding::Silent || !check.reuse_connection {
            self.session = None;
        }
        finding
    }

    async fn ask(&mut self, kind: &Kind) -> Result<Finding, Silence> {
        match kind {
            Kind::Tcp { send, receive } => self.ask_tcp(send, receive).await,
            Kind::Http(check) => self.ask_http(check).await,
            Kind::Grpc { service, authority, headers } => self.ask_grpc(service, authority, headers).await,
        }
    }

    async fn connect(&self) -> Result<Io, Silence> {
        let core = &self.core;
        let tls = core.tls.as_ref();
        Ok(connect(&self.target, &self.host, &core.settings, tls, &core.stats).await?.0)
    }

    async fn ask_tcp(&self, send: &Bytes, receive: &[Bytes]) -> Result<Finding, Silence> {
        let mut io = self.connect().await?;
        io.write_all(send).await?;
        let mut heard = BytesMut::new();
        for expected in receive {
            // Each answer is looked for behind the one before it.
            let end = loop {
                let found = heard.windows(expected.len().max(1)).position(|some| some == expected);
                if let Some(at) = found {
                    break at + expected.len();
                }
                if io.read_buf(&mut heard).await? == 0 {
                    return Err(Silence);
                }
            };
            heard.advance(end);
        }
        Ok(Finding::Well)
    }

    async fn ask_http(&mut self, check: &HttpCheck) -> Result<Finding, Silence> {
        let mut headers = check.headers.clone();
        headers.insert(USER_AGENT, agent());
        for name in &check.removed {
            headers.remove(name);
        }
        let uri = self.uri(&check.host, check.path.as_str())?;
        let answer = self.exchange(&check.method, uri, headers, Bytes::new(), check.http2).await?;
        let status = answer.status().as_u16();
        Ok(if check.expected.iter().any(|range| range.contains(&status)) {
            Finding::Well
        } else if check.retriable.iter().any(|range| range.contains(&status)) {
            Finding::Unsure
        } else {
            Finding::Unwell
        })
    }

    async fn ask_grpc(
        &mut self,
        service: &str,
        authority: &str,
        more: &HeaderMap,
    ) -> Result<Finding, Silence> {
        let mut headers = more.clone();
        headers.insert(USER_AGENT, agent());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let asked = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
        let mut message = BytesMut::with_capacity(5 + asked.len());
        message.put_u8(0);
        message.put_u32(u32::try_from(asked.len()).unwrap_or(0));
        message.put_slice(&asked);
        let uri = self.uri(authority, "/grpc.health.v1.Health/Check")?;
        let answer = self.exchange(&Method::POST, uri, headers, message.freeze(), true).await?;
        let status = answer.headers().get("grpc-status").cloned();
        let trailers = answer.body().trailers();
        let status = status.or_else(|| trailers.and_then(|trailers| trailers.get("grpc-status").cloned()));
        if status.is_none_or(|status| status != "0") {
            return Ok(Finding::Unwell);
        }
        let body = answer.into_body().to_bytes();
        let message = body.get(5..).and_then(|message| HealthCheckResponse::decode(message).ok());
        Ok(if message.is_some_and(|message| message.status == SERVING) {
            Finding::Well
        } else {
            Finding::Unwell
        })
    }

    /// What is asked for: at the name that the check, the endpoint or the cluster gives.
    fn uri(&self, host: &str, path: &str) -> Result<Uri, Silence> {
        let names = [host, &self.host.spec.check.hostname, &self.host.spec.hostname, &self.core.name];
        let authority = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        Uri::builder().scheme("http").authority(authority).path_and_query(path).build().map_err(|_| Silence)
    }

    async fn exchange(
        &mut self,
        method: &Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
        http2: bool,
    ) -> Result<Response<Collected<Bytes>>, Silence> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.open(http2).await?,
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.headers_mut() = headers;
        let (answer, session): (Response<Incoming>, _) = match session {
            Session::Http1(mut sender) => {
                let host = HeaderValue::try_from(uri.authority().map_or("", |host| host.as_str()));
                request.headers_mut().insert(HOST, host.map_err(|_| Silence)?);
                *request.uri_mut() = uri.into_parts().path_and_query.map(Uri::from).ok_or(Silence)?;
                sender.ready().await?;
                (sender.send_request(request).await?, Session::Http1(sender))
            }
            Session::Http2(mut sender) => {
                *request.uri_mut() = uri;
                sender.ready().await?;
                (sender.send_request(request).await?, Session::Http2(sender))
            }
        };
        let (head, body) = answer.into_parts();
        let body = body.collect().await?;
        self.session = Some(session);
        Ok(Response::from_parts(head, body))
    }

    async fn open(&self, http2: bool) -> Result<Session, Silence> {
        let io = TokioIo::new(self.connect().await?);
        // The drivers end when their senders are dropped.
        Ok(if http2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(driver);
            Session::Http2(sender)
        } else {
            let (sender, driver) = http1::handshake(io).await?;
            tokio::spawn(driver);
            Session::Http1(sender)
        })
    }
}
