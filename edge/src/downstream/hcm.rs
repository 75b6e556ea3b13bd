//! An HTTP connection manager: what one filter chain of a listener does with HTTP.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::config::core::v3::scheme_header_transformation::Transformation;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::google::protobuf::BoolValue;
use http::header::SERVER;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue};
use pb::HttpConnectionManager;
use pb::http_connection_manager::{
    CodecType, ForwardClientCertDetails, RouteSpecifier, ServerHeaderTransformation, StripPortMode,
};
use prost::Message as _;

use crate::access_log::AccessLog;
use crate::compile::Shared;
use crate::downstream::frames::FrameLimits;
use crate::downstream::local_reply::LocalReplies;
use crate::downstream::normalize;
use crate::downstream::path::PathRules;
use crate::downstream::stats::HcmStats;
use crate::downstream::upgrade::Upgrades;
use crate::filter::{self, Context, Filter};
use crate::matcher::Cidr;
use crate::problem::{Path, Problem};
use crate::route::{Link, Table};
use crate::stats::Stats;
use crate::telemetry::trace::Tracer;
use crate::upstream::Clusters;
use crate::value;

/// An idle connection is closed after this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// A stream on which nothing moves is ended after this long.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// A request's head must come whole within this time. Envoy waits for ever.
const REQUEST_HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REQUEST_HEADERS_KB: u32 = 60;
const MAX_HEADERS_COUNT: u32 = 100;

/// Everything that a connection asks while it serves.
#[derive(Debug)]
pub(crate) struct Hcm {
    pub(crate) codec: CodecType,
    pub(crate) routes: Table,
    /// The chain where no route overrides it.
    pub(crate) filters: Arc<[Arc<dyn Filter>]>,
    pub(crate) access_logs: Vec<AccessLog>,
    pub(crate) tracer: Option<Tracer>,
    pub(crate) local_replies: Option<Arc<LocalReplies>>,
    pub(crate) clusters: Arc<Clusters>,
    pub(crate) limits: Limits,
    pub(crate) http2: Http2,
    pub(crate) accept_http_10: bool,
    pub(crate) default_host: String,
    /// Whether trailers of requests over HTTP/1.1 are passed on.
    pub(crate) http1_trailers: bool,
    pub(crate) upgrades: Upgrades,
    pub(crate) identity: Identity,
    pub(crate) path: PathRules,
    /// The scheme of every request, whatever the client used.
    pub(crate) scheme: Option<Scheme>,
    /// Whether nothing is to tell that an Envoy is on the way.
    pub(crate) suppress_envoy_headers: bool,
    pub(crate) underscores: HeadersWithUnderscoresAction,
    pub(crate) stats: HcmStats,
}

impl Hcm {
    /// What a connection keeps from its beginning to its end.
    pub(super) fn settled(&self) -> impl PartialEq + use<> {
        let Http2 { max_concurrent_streams, stream_window, connection_window, keepalive, frames: _ } =
            self.http2;
        let Limits { headers_kb, headers_count, .. } = self.limits;
        let streams = (max_concurrent_streams, stream_window, connection_window);
        (self.codec, streams, keepalive, headers_kb, headers_count)
    }
}

/// Bounds on a connection and on each of its requests.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) idle: Option<Duration>,
    pub(crate) connection: Option<Duration>,
    pub(crate) requests_per_connection: Option<u32>,
    pub(crate) headers_kb: u32,
    pub(crate) headers_count: u32,
    /// For a request's head to come whole.
    pub(crate) headers: Option<Duration>,
    /// For a request to come whole.
    pub(crate) request: Option<Duration>,
    pub(crate) stream_idle: Option<Duration>,
    /// For a client to take more of its reply.
    pub(crate) flush: Option<Duration>,
    pub(crate) stream: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Http2 {
    pub(crate) max_concurrent_streams: u32,
    pub(crate) stream_window: u32,
    pub(crate) connection_window: u32,
    pub(crate) keepalive: Option<(Duration, Duration)>,
    pub(crate) frames: FrameLimits,
}

/// Who the client is, who we are, and what each is told of the other.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Clients that may say what only our own neighbours may.
    pub(crate) internal: Vec<Cidr>,
    /// The address of this machine towards others: what a client on the machine itself is known by.
    pub(crate) machine: IpAddr,
    pub(crate) use_remote_address: bool,
    pub(crate) trusted_hops: u32,
    pub(crate) skip_xff_append: bool,
    pub(crate) append_forwarded_port: bool,
    pub(crate) client_cert: ForwardClientCertDetails,
    pub(crate) client_cert_parts: CertParts,
    pub(crate) generate_request_id: bool,
    pub(crate) preserve_request_id: bool,
    pub(crate) request_id_in_response: bool,
    pub(crate) server_name: HeaderValue,
    pub(crate) server_header: ServerHeaderTransformation,
    pub(crate) via: Option<HeaderValue>,
}

impl Identity {
    /// Says who answered.
    pub(crate) fn sign(&self, headers: &mut HeaderMap) {
        let passed_on = match self.server_header {
            ServerHeaderTransformation::Overwrite => false,
            ServerHeaderTransformation::AppendIfAbsent => headers.contains_key(SERVER),
            ServerHeaderTransformation::PassThrough => true,
        };
        if !passed_on {
            headers.insert(SERVER, self.server_name.clone());
        }
        if let Some(via) = &self.via {
            normalize::add_via(headers, via);
        }
    }
}

/// What of a client's certificate goes into `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CertParts {
    pub(crate) subject: bool,
    pub(crate) cert: bool,
    pub(crate) chain: bool,
    pub(crate) dns: bool,
    pub(crate) uri: bool,
}

impl Hcm {
    pub(crate) fn compile(
        config: &HttpConnectionManager,
        shared: &Shared<'_>,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        let stats = HcmStats::new(shared.stats.scope(format!("http.{}", config.stat_prefix)));
        let context = shared.context(&stats.scope);
        let chain = chain(config, at, &context)?;
        let routes = match &config.route_specifier {
            Some(RouteSpecifier::RouteConfig(routes)) => {
                Table::compile(routes, &chain, &at.field("route_config"), &context)?
            }
            _ => {
                return Err(
                    at.problem("give the routes in route_config; rds and scoped_routes are not supported")
                );
            }
        };
        let logs = at.field("access_log");
        let access_logs = config.access_log.iter().enumerate();
        let access_logs = access_logs
            .map(|(i, log)| AccessLog::compile(log, &logs.index(i), shared))
            .collect::<Result<_, _>>()?;
        let http1 = config.http_protocol_options.clone().unwrap_or_default();
        Ok(Self {
            codec: config.codec_type(),
            routes,
            filters: chain.into_iter().filter(|link| !link.disabled).map(|link| link.filter).collect(),
            access_logs,
            tracer: Tracer::compile(config, &stats.scope, shared, at)?,
            local_replies: local_replies(config, at)?,
            clusters: Arc::clone(shared.clusters),
            limits: limits(config),
            http2: http2(config, shared.stats),
            accept_http_10: http1.accept_http_10,
            default_host: http1.default_host_for_http_10,
            http1_trailers: http1.enable_trailers,
            upgrades: upgrades(config, at)?,
            identity: identity(config, at)?,
            suppress_envoy_headers: router(config).suppress_envoy_headers,
            underscores: config
                .common_http_protocol_options
                .as_ref()
                .map_or(HeadersWithUnderscoresAction::Allow, |common| {
                    common.headers_with_underscores_action()
                }),
            path: PathRules::compile(config),
            scheme: scheme(config, at)?,
            stats,
        })
    }
}

/// The filters in order; the router comes last and only there.
fn chain(config: &HttpConnectionManager, at: &Path<'_>, context: &Context<'_>) -> Result<Vec<Link>, Problem> {
    let at = at.field("http_filters");
    let mut chain = Vec::with_capacity(config.http_filters.len());
    let mut router = false;
    for (i, filter) in config.http_filters.iter().enumerate() {
        let at = at.index(i);
        if router {
            return Err(at.problem("the router must be the last filter"));
        }
        let Some(any) = filter::config_of(filter) else {
            return Err(at.problem("a filter needs typed_config with its \"@type\""));
        };
        if filter::is_router(any) {
            router = true;
            continue;
        }
        if let Some(made) = filter::make(any, &at.field("typed_config"), context, filter.is_optional)? {
            chain.push(Link {
                name: filter.name.clone(),
                type_url: any.type_url.clone(),
                filter: made,
                disabled: filter.disabled,
            });
        }
    }
    if router { Ok(chain) } else { Err(at.problem("the last filter must be the router")) }
}

fn upgrades(config: &HttpConnectionManager, at: &Path<'_>) -> Result<Upgrades, Problem> {
    let enabled = |enabled: &Option<BoolValue>| value::flag(enabled.as_ref(), true);
    let all = config.upgrade_configs.iter();
    Upgrades::compile(all.map(|upgrade| (&*upgrade.upgrade_type, enabled(&upgrade.enabled))), at)
}

fn local_replies(
    config: &HttpConnectionManager,
    at: &Path<'_>,
) -> Result<Option<Arc<LocalReplies>>, Problem> {
    let rules = config.local_reply_config.as_ref();
    let rules = rules.map(|rules| LocalReplies::compile(rules, &at.field("local_reply_config")));
    Ok(rules.transpose()?.map(Arc::new))
}

fn scheme(config: &HttpConnectionManager, at: &Path<'_>) -> Result<Option<Scheme>, Problem> {
    let transformation = config.scheme_header_transformation.as_ref();
    let Some(Transformation::SchemeToOverwrite(scheme)) =
        transformation.and_then(|transformation| transformation.transformation.as_ref())
    else {
        return Ok(None);
    };
    let at = at.field("scheme_header_transformation");
    let unknown = |_| at.field("scheme_to_overwrite").problem("must be http or https");
    scheme.parse().map(Some).map_err(unknown)
}

/// The router's own configuration; `chain` has seen that there is one.
fn router(config: &HttpConnectionManager) -> Router {
    let router = config.http_filters.last().and_then(filter::config_of);
    router.and_then(|any| Router::decode(any.value.as_slice()).ok()).unwrap_or_default()
}

fn limits(config: &HttpConnectionManager) -> Limits {
    let common = config.common_http_protocol_options.clone().unwrap_or_default();
    let requests = value::number(common.max_requests_per_connection.as_ref(), 0);
    let stream_idle = value::limit(config.stream_idle_timeout.as_ref(), Some(STREAM_IDLE_TIMEOUT));
    Limits {
        idle: value::limit(common.idle_timeout.as_ref(), Some(IDLE_TIMEOUT)),
        connection: value::limit(common.max_connection_duration.as_ref(), None),
        requests_per_connection: Some(requests).filter(|&requests| requests > 0),
        headers_kb: value::number(config.max_request_headers_kb.as_ref(), MAX_REQUEST_HEADERS_KB),
        headers_count: value::number(common.max_headers_count.as_ref(), MAX_HEADERS_COUNT),
        headers: value::limit(config.request_headers_timeout.as_ref(), Some(REQUEST_HEADERS_TIMEOUT)),
        request: value::limit(config.request_timeout.as_ref(), None),
        stream_idle,
        flush: value::limit(config.stream_flush_timeout.as_ref(), stream_idle),
        stream: value::limit(common.max_stream_duration.as_ref(), None),
    }
}

fn http2(config: &HttpConnectionManager, stats: &Stats) -> Http2 {
    let http2 = config.http2_protocol_options.clone().unwrap_or_default();
    let keepalive = http2.connection_keepalive.as_ref().and_then(|keepalive| {
        let interval = value::limit(keepalive.interval.as_ref(), None)?;
        Some((interval, value::limit(keepalive.timeout.as_ref(), None).unwrap_or(Duration::from_secs(20))))
    });
    Http2 {
        max_concurrent_streams: value::number(http2.max_concurrent_streams.as_ref(), 1024),
        stream_window: value::number(http2.initial_stream_window_size.as_ref(), 16 << 20),
        connection_window: value::number(http2.initial_connection_window_size.as_ref(), 24 << 20),
        keepalive,
        frames: FrameLimits::compile(&http2, &stats.scope("http2")),
    }
}

fn identity(config: &HttpConnectionManager, at: &Path<'_>) -> Result<Identity, Problem> {
    let header = |name: &'static str, value: &str| {
        HeaderValue::from_str(value).map_err(|_| at.field(name).problem("not a header's value"))
    };
    let details = config.set_current_client_cert_details.clone().unwrap_or_default();
    let server_name = if config.server_name.is_empty() { "envoy" } else { &config.server_name };
    let internal = config.internal_address_config.clone().unwrap_or_default().cidr_ranges;
    Ok(Identity {
        internal: Cidr::compile_all(&internal, &at.field("internal_address_config").field("cidr_ranges"))?,
        machine: machine(),
        use_remote_address: value::flag(config.use_remote_address.as_ref(), false),
        trusted_hops: config.xff_num_trusted_hops,
        skip_xff_append: config.skip_xff_append,
        append_forwarded_port: config.append_x_forwarded_port,
        client_cert: config.forward_client_cert_details(),
        client_cert_parts: CertParts {
            subject: value::flag(details.subject.as_ref(), false),
            cert: details.cert,
            chain: details.chain,
            dns: details.dns,
            uri: details.uri,
        },
        generate_request_id: value::flag(config.generate_request_id.as_ref(), true),
        preserve_request_id: config.preserve_external_request_id,
        request_id_in_response: config.always_set_request_id_in_response,
        server_name: header("server_name", server_name)?,
        server_header: config.server_header_transformation(),
        via: if config.via.is_empty() { None } else { Some(header("via", &config.via)?) },
    })
}

/// The address that packets to others would carry; none is sent.
fn machine() -> IpAddr {
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    let towards = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    towards.map_or(loopback, |address| address.ip())
}

/// Which port an authority loses before routes are asked.
pub(crate) fn strips_any_port(config: &HttpConnectionManager) -> bool {
    matches!(config.strip_port_mode, Some(StripPortMode::StripAnyHostPort(true)))
}
