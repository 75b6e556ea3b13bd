//! Who takes spans and log records: a service in a cluster, by gRPC or HTTP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::core::v3::{GrpcService, HttpService};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Uri};
use prost::Message;

use crate::filter::Context;
use crate::grpc::{Service, Unanswered, own_request};
use crate::head::header_name;
use crate::matcher::each;
use crate::problem::{Path, Problem};
use crate::reply::grpc_status_of;
use crate::upstream::{Cluster, Want};
use crate::value;

#[derive(Clone, Debug)]
pub(crate) enum Collector {
    Grpc { service: Arc<Service>, path: &'static str },
    Http(Arc<HttpCollector>),
}

#[derive(Debug)]
pub(crate) struct HttpCollector {
    cluster: Arc<Cluster>,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Option<Duration>,
}

impl Collector {
    /// `path` is the method that is called.
    pub(crate) fn grpc(
        config: &GrpcService,
        path: &'static str,
        at: &Path<'_>,
        context: &Context<'_>,
    ) -> Result<Self, Problem> {
        let timeout = value::limit(config.timeout.as_ref(), None);
        let service = Service::compile(config, timeout, at, context)?;
        Ok(Self::Grpc { service: Arc::new(service), path })
    }

    pub(crate) fn http(config: &HttpService, at: &Path<'_>, context: &Context<'_>) -> Result<Self, Problem> {
        let at_uri = at.field("http_uri");
        let http = config.http_uri.as_ref().ok_or_else(|| at_uri.problem("is required"))?;
        let Some(HttpUpstreamType::Cluster(name)) = &http.http_upstream_type else {
            return Err(at_uri.field("cluster").problem("is required"));
        };
        let cluster = context.clusters.get(name).cloned();
        let cluster =
            cluster.ok_or_else(|| at_uri.field("cluster").problem(format!("there is no cluster {name}")))?;
        let uri = http.uri.parse::<Uri>().ok().filter(|uri| uri.authority().is_some());
        let uri =
            uri.ok_or_else(|| at_uri.field("uri").problem("must be http://HOST/PATH or https://HOST/PATH"))?;
        let headers = each(&config.request_headers_to_add, at, "request_headers_to_add", |option, at| {
            let header = option.header.as_ref().ok_or_else(|| at.field("header").problem("is required"))?;
            let at = at.field("header");
            let value = HeaderValue::from_str(&header.value)
                .map_err(|_| at.field("value").problem("is no header's value"))?;
            Ok((header_name(&header.key, &at.field("key"))?, value))
        })?;
        let timeout = value::limit(http.timeout.as_ref(), None);
        Ok(Self::Http(Arc::new(HttpCollector { cluster, uri, headers, timeout })))
    }

    pub(super) async fn tell(&self, message: &impl Message) -> Result<(), Unanswered> {
        match self {
            Self::Grpc { service, path } => service.tell(path, message).await,
            Self::Http(collector) => collector.post(message).await,
        }
    }
}

impl HttpCollector {
    async fn post(&self, message: &impl Message) -> Result<(), Unanswered> {
        let body = message.encode_to_vec().into();
        let mut request = own_request(Method::POST, self.uri.clone(), self.timeout, body);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let want = Want { random: rand::random(), ..Want::default() };
        let asked = self.cluster.call(Box::new(request), &want);
        let answered = match self.timeout {
            Some(timeout) => tokio::time::timeout(timeout, asked).await.map_err(|_| Unanswered::Late)?,
            None => asked.await,
        }?;
        let status = answered.head.status;
        answered.host.answered(status.as_u16());
        if status.is_success() {
            return Ok(());
        }
        let message = format!("the collector answered HTTP {}", status.as_u16());
        Err(Unanswered::Status { code: grpc_status_of(status), message })
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc { path, .. } => f.write_str(path),
            Self::Http(collector) => write!(f, "{}", collector.uri),
        }
    }
}
