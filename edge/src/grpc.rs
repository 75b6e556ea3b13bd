//! Asks a gRPC service one question: for filters that leave a decision to somebody else.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::GrpcService;
use envoy_types::pb::envoy::config::core::v3::grpc_service::TargetSpecifier;
use http::header::{CONTENT_TYPE, TE};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use prost::Message;

use crate::body::{RequestBody, Source, Transformed};
use crate::call::Call;
use crate::filter::Context;
use crate::filter::router::{EXPECTED_TIMEOUT, GRPC_TIMEOUT};
use crate::format::{Facts, Format};
use crate::head::header_name;
use crate::matcher::each;
use crate::problem::{Path, Problem};
use crate::reply::{GRPC_MESSAGE, GRPC_STATUS, grpc_status_of};
use crate::upstream::{Answered, Cluster, Failure, Want};

const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Nobody needs more to say yes or no.
const LONGEST_ANSWER: usize = 4 << 20;

/// As what the edge's own requests say they come from.
static OWN_ADDRESS: LazyLock<HeaderValue> = LazyLock::new(|| {
    // Nothing is sent: connecting chooses the address that a packet would leave from.
    let address = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    let address = address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
    HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("127.0.0.1"))
});

/// A service of a cluster.
#[derive(Debug)]
pub(crate) struct Service {
    cluster: Arc<Cluster>,
    authority: Authority,
    metadata: Vec<(HeaderName, Format)>,
    timeout: Option<Duration>,
    longest: usize,
}

/// Why a service did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("no answer in time")]
    Late,
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("gRPC status {code}: {message}")]
    Status { code: i32, message: String },
    #[error("what was answered cannot be read: {0}")]
    Unreadable(#[from] prost::DecodeError),
    #[error("the answer is not one message of at most {LONGEST_ANSWER} bytes, uncompressed")]
    Malformed,
    #[error(transparent)]
    Unsendable(#[from] http::Error),
}

impl Service {
    /// `timeout` is how long an answer may take.
    pub(crate) fn compile(
        config: &GrpcService,
        timeout: Option<Duration>,
        at: &Path<'_>,
        context: &Context<'_>,
    ) -> Result<Self, Problem> {
        let target = match &config.target_specifier {
            Some(TargetSpecifier::EnvoyGrpc(target)) => target,
            _ => return Err(at.problem("only envoy_grpc, a service in a cluster, is supported")),
        };
        let at_target = at.field("envoy_grpc");
        if target.retry_policy.is_some() || config.retry_policy.is_some() {
            return Err(at.field("retry_policy").problem("is not supported: remove it"));
        }
        let name = &target.cluster_name;
        let cluster = context.clusters.get(name).cloned();
        let cluster = cluster
            .ok_or_else(|| at_target.field("cluster_name").problem(format!("there is no cluster {name}")))?;
        let authority = if target.authority.is_empty() { name } else { &target.authority };
        let authority = Authority::try_from(authority.as_str())
            .map_err(|_| at_target.field("authority").problem(format!("{authority} is no authority")))?;
        let metadata = each(&config.initial_metadata, at, "initial_metadata", |header, at| {
            Ok((
                header_name(&header.key, &at.field("key"))?,
                Format::parse(&header.value, &at.field("value"))?,
            ))
        })?;
        let longest = target.max_receive_message_length.as_ref();
        Ok(Self {
            authority,
            cluster,
            metadata,
            timeout,
            longest: longest.map_or(LONGEST_ANSWER, |longest| LONGEST_ANSWER.min(longest.value as usize)),
        })
    }

    /// Asks `question` at `path`, for a call.
    pub(crate) fn ask<Q: Message, A: Message + Default>(
        &self,
        path: &'static str,
        question: &Q,
        call: &Call,
    ) -> impl Future<Output = Result<A, Unanswered>> + Send + use<Q, A> {
        self.send(self.request(path, question, Some(call)), call.random)
    }

    /// Tells `message` at `path`, for no call in particular; what is answered does not matter.
    pub(crate) fn tell<Q: Message>(
        &self,
        path: &'static str,
        message: &Q,
    ) -> impl Future<Output = Result<(), Unanswered>> + Send + use<Q> {
        self.send(self.request(path, message, None), rand::random())
    }

    fn send<A: Message + Default>(
        &self,
        request: Result<Request<RequestBody>, Unanswered>,
        random: u64,
    ) -> impl Future<Output = Result<A, Unanswered>> + Send + use<A> {
        let want = Want { random, ..Want::default() };
        let (cluster, longest, timeout) = (Arc::clone(&self.cluster), self.longest, self.timeout);
        async move {
            let asked = async {
                let answered = cluster.call(Box::new(request?), &want).await?;
                Ok(A::decode(read(answered, longest).await?)?)
            };
            match timeout {
                Some(timeout) => tokio::time::timeout(timeout, asked).await.unwrap_or(Err(Unanswered::Late)),
                None => asked.await,
            }
        }
    }

    fn request<Q: Message>(
        &self,
        path: &'static str,
        question: &Q,
        call: Option<&Call>,
    ) -> Result<Request<RequestBody>, Unanswered> {
        let length = question.encoded_len();
        let mut body = BytesMut::with_capacity(PREFIX + length);
        body.put_u8(0);
        // A request's head is bounded, and what is asked is made of it.
        body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        question.encode_raw(&mut body);
        let uri = Uri::builder().scheme("http").authority(self.authority.clone()).path_and_query(path);
        let mut request = own_request(Method::POST, uri.build()?, self.timeout, body.freeze());
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(timeout) = self.timeout {
            let timeout = format!("{}m", timeout.as_millis().min(99_999_999));
            headers.insert(GRPC_TIMEOUT, HeaderValue::try_from(timeout).map_err(http::Error::from)?);
        }
        for (name, value) in &self.metadata {
            let value = match call {
                Some(call) => value.text(Facts::of_request(call)),
                None => value.constant().unwrap_or_default().into(),
            };
            headers.append(name, HeaderValue::from_str(&value).map_err(http::Error::from)?);
        }
        Ok(request)
    }
}

/// The message of an answer that says OK.
async fn read(answered: Answered, longest: usize) -> Result<Bytes, Unanswered> {
    let Answered { head, body, host, .. } = answered;
    host.answered(head.status.as_u16());
    if head.status != StatusCode::OK {
        let message = format!("the service answered HTTP {}", head.status.as_u16());
        return Err(Unanswered::Status { code: grpc_status_of(head.status), message });
    }
    if head.headers.contains_key(GRPC_STATUS) {
        check(&head.headers)?;
    }
    let mut body = std::pin::pin!(body);
    let mut read = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if read.len() + data.len() > PREFIX + longest => {
                return Err(Unanswered::Malformed);
            }
            Ok(data) => read.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    check(&trailers.unwrap_or_default())?;
    let mut message = read.freeze();
    if message.len() < PREFIX || message.get_u8() != 0 || message.get_u32() as usize != message.len() {
        return Err(Unanswered::Malformed);
    }
    Ok(message)
}

/// Whether a gRPC status is OK; one that is missing is not.
fn check(headers: &HeaderMap) -> Result<(), Unanswered> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match text(GRPC_STATUS).and_then(|status| status.parse().ok()) {
        Some(0) => Ok(()),
        code => Err(Unanswered::Status {
            code: code.unwrap_or(2),
            message: text(GRPC_MESSAGE).unwrap_or_default().to_owned(),
        }),
    }
}

/// A request that the edge makes on its own account.
pub(crate) fn own_request(
    method: Method,
    uri: Uri,
    timeout: Option<Duration>,
    body: Bytes,
) -> Request<RequestBody> {
    let source = if body.is_empty() { Source::Empty } else { Source::Full(Some(body)) };
    let mut request = Request::new(Transformed::new(source));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(INTERNAL, HeaderValue::from_static("true"));
    headers.insert(FORWARDED_FOR, OWN_ADDRESS.clone());
    if let Some(timeout) = timeout {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(millis));
    }
    request
}
