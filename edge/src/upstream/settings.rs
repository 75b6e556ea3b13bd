//! What a cluster's configuration says of its connections.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterConfig;
use envoy_types::pb::envoy::config::cluster::v3::cluster::ClusterProtocolSelection;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstreams;
use socket2::TcpKeepalive;
use upstreams::http_protocol_options::explicit_http_config::ProtocolConfig;
use upstreams::http_protocol_options::{AutoHttpConfig, UpstreamProtocolOptions};

use super::read::{positive, refuse};
use crate::bootstrap::{type_name, unpack};
use crate::problem::{Path, Problem};
use crate::value::{self, limit, number};

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const HOUR: Duration = Duration::from_secs(3600);

/// What is spoken with the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    /// What the client speaks.
    Downstream,
    /// What the TLS handshake settles on.
    Negotiated,
}

/// How connections are made, used and ended.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) protocol: Protocol,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_duration: Option<Duration>,
    pub(super) max_requests: Option<u64>,
    pub(super) max_stream_duration: Option<Duration>,
    pub(super) max_header_bytes: u32,
    pub(super) http1: Http1,
    pub(super) http2: Http2,
    pub(super) tcp_keepalive: Option<TcpKeepalive>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Http1 {
    pub(super) proper_case: bool,
    /// Whether trailers over HTTP/1.1 are passed on.
    pub(super) trailers: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Http2 {
    pub(super) max_streams: u32,
    pub(super) stream_window: u32,
    pub(super) connection_window: u32,
    pub(super) header_table: Option<u32>,
    pub(super) keepalive: Option<Keepalive>,
}

/// Pings that prove a connection alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keepalive {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

impl Settings {
    pub(super) fn compile(config: &ClusterConfig, at: &Path<'_>) -> Result<Self, Problem> {
        let five = Duration::from_secs(5);
        let mut settings = Self {
            protocol: Protocol::Http1,
            connect_timeout: positive(config.connect_timeout.as_ref(), &at.field("connect_timeout"), five)?,
            idle_timeout: Some(HOUR),
            max_duration: None,
            max_requests: config.max_requests_per_connection.map(|max| max.value.into()),
            max_stream_duration: None,
            max_header_bytes: 60 * 1024,
            http1: Http1::default(),
            http2: http2(&core::Http2ProtocolOptions::default(), at)?,
            tcp_keepalive: None,
        };
        if let Some(options) = &config.upstream_connection_options {
            let at = at.field("upstream_connection_options");
            refuse!(options, at, set_local_interface_name_on_upstream_connections);
            settings.tcp_keepalive = options.tcp_keepalive.as_ref().map(tcp_keepalive);
        }
        let at = at.field("typed_extension_protocol_options");
        for (name, options) in &config.typed_extension_protocol_options {
            let at = at.key(name);
            if name != OPTIONS || type_name(&options.type_url) != OPTIONS {
                return Err(at.problem(format!("is not supported: only {OPTIONS} is")));
            }
            settings.typed(&unpack(options, &at)?, &at)?;
            return Ok(settings);
        }
        settings.legacy(config, &at)?;
        Ok(settings)
    }

    /// Reads the fields that stood in the cluster itself before there were typed options.
    fn legacy(&mut self, config: &ClusterConfig, at: &Path<'_>) -> Result<(), Problem> {
        refuse!(config, at, upstream_http_protocol_options);
        if let Some(common) = &config.common_http_protocol_options {
            self.common(common);
        }
        if let Some(options) = &config.http_protocol_options {
            self.http1 = http1(options, &at.field("http_protocol_options"))?;
        }
        if let Some(options) = &config.http2_protocol_options {
            self.http2 = http2(options, &at.field("http2_protocol_options"))?;
            self.protocol = Protocol::Http2;
        }
        if config.protocol_selection == ClusterProtocolSelection::UseDownstreamProtocol as i32 {
            self.protocol = Protocol::Downstream;
        }
        Ok(())
    }

    fn typed(&mut self, options: &upstreams::HttpProtocolOptions, at: &Path<'_>) -> Result<(), Problem> {
        refuse!(
            options,
            at,
            upstream_http_protocol_options,
            http_filters,
            header_validation_config,
            outlier_detection,
            request_mirror_policies,
            hash_policy,
            retry_policy,
        );
        if let Some(common) = &options.common_http_protocol_options {
            self.common(common);
        }
        let missing =
            || at.problem("say explicit_http_config, use_downstream_protocol_config or auto_config");
        match options.upstream_protocol_options.as_ref().ok_or_else(missing)? {
            UpstreamProtocolOptions::ExplicitHttpConfig(explicit) => {
                let at = at.field("explicit_http_config");
                match &explicit.protocol_config {
                    Some(ProtocolConfig::HttpProtocolOptions(options)) => {
                        self.http1 = http1(options, &at.field("http_protocol_options"))?;
                    }
                    Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
                        self.http2 = http2(options, &at.field("http2_protocol_options"))?;
                        self.protocol = Protocol::Http2;
                    }
                    Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                        return Err(at.field("http3_protocol_options").problem("HTTP/3 is not supported"));
                    }
                    None => return Err(at.problem("say http_protocol_options or http2_protocol_options")),
                }
            }
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(options) => {
                let at = at.field("use_downstream_protocol_config");
                refuse!(options, at, http3_protocol_options);
                self.both(
                    options.http_protocol_options.as_ref(),
                    options.http2_protocol_options.as_ref(),
                    &at,
                )?;
                self.protocol = Protocol::Downstream;
            }
            UpstreamProtocolOptions::AutoConfig(options) => self.auto(options, &at.field("auto_config"))?,
        }
        Ok(())
    }

    fn auto(&mut self, options: &AutoHttpConfig, at: &Path<'_>) -> Result<(), Problem> {
        refuse!(options, at, http3_protocol_options, alternate_protocols_cache_options);
        self.both(options.http_protocol_options.as_ref(), options.http2_protocol_options.as_ref(), at)?;
        self.protocol = Protocol::Negotiated;
        Ok(())
    }

    fn both(
        &mut self,
        one: Option<&core::Http1ProtocolOptions>,
        two: Option<&core::Http2ProtocolOptions>,
        at: &Path<'_>,
    ) -> Result<(), Problem> {
        if let Some(options) = one {
            self.http1 = http1(options, &at.field("http_protocol_options"))?;
        }
        if let Some(options) = two {
            self.http2 = http2(options, &at.field("http2_protocol_options"))?;
        }
        Ok(())
    }

    fn common(&mut self, common: &core::HttpProtocolOptions) {
        self.idle_timeout = limit(common.idle_timeout.as_ref(), Some(HOUR));
        self.max_duration = limit(common.max_connection_duration.as_ref(), None);
        self.max_stream_duration = limit(common.max_stream_duration.as_ref(), None);
        if let Some(max) = common.max_requests_per_connection {
            self.max_requests = Some(max.value.into()).filter(|max| *max > 0);
        }
        self.max_header_bytes = number(common.max_response_headers_kb.as_ref(), 60).saturating_mul(1024);
    }
}

fn http1(options: &core::Http1ProtocolOptions, at: &Path<'_>) -> Result<Http1, Problem> {
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    refuse!(options, at, send_fully_qualified_url, ignore_http_11_upgrade);
    let format = options.header_key_format.as_ref().and_then(|format| format.header_format.as_ref());
    let trailers = options.enable_trailers;
    match format {
        None => Ok(Http1 { proper_case: false, trailers }),
        Some(HeaderFormat::ProperCaseWords(_)) => Ok(Http1 { proper_case: true, trailers }),
        Some(HeaderFormat::StatefulFormatter(_)) => Err(at
            .field("header_key_format")
            .field("stateful_formatter")
            .problem("is not supported: remove it")),
    }
}

fn http2(options: &core::Http2ProtocolOptions, at: &Path<'_>) -> Result<Http2, Problem> {
    refuse!(options, at, custom_settings_parameters);
    let keepalive = options.connection_keepalive.as_ref().and_then(|keepalive| {
        let timeout = keepalive.timeout.as_ref().map_or(Duration::from_secs(5), value::duration);
        limit(keepalive.interval.as_ref(), None).map(|interval| Keepalive { interval, timeout })
    });
    Ok(Http2 {
        max_streams: number(options.max_concurrent_streams.as_ref(), 1024),
        // One slow reader may hold back so much of a connection's window, and no more.
        stream_window: number(options.initial_stream_window_size.as_ref(), 1 << 20).max(65_535),
        connection_window: number(options.initial_connection_window_size.as_ref(), 24 << 20).max(65_535),
        header_table: options.hpack_table_size.map(|size| size.value),
        keepalive,
    })
}

fn tcp_keepalive(options: &core::TcpKeepalive) -> TcpKeepalive {
    let seconds = |value: u32| Duration::from_secs(value.into());
    let mut keepalive = TcpKeepalive::new();
    if let Some(time) = options.keepalive_time {
        keepalive = keepalive.with_time(seconds(time.value));
    }
    if let Some(interval) = options.keepalive_interval {
        keepalive = keepalive.with_interval(seconds(interval.value));
    }
    if let Some(probes) = options.keepalive_probes {
        keepalive = keepalive.with_retries(probes.value);
    }
    keepalive
}
