//! Filter chains: which connections one takes, and what is done with them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use envoy_types::pb::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use envoy_types::pb::envoy::config::listener::v3::{self as pb, filter};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;

use crate::bootstrap;
use crate::compile::Shared;
use crate::downstream::hcm::Hcm;
use crate::downstream::tls::{self, ServerTls};
use crate::drain::Drainer;
use crate::matcher::Cidr;
use crate::problem::{Path, Problem};
use crate::value;

/// A client that does not finish its handshake is cut off after this long. Envoy waits for ever.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// What is done with the connections that match.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: Arc<str>,
    matches: Match,
    pub(super) tls: Option<Arc<ServerTls>>,
    /// For the whole handshake.
    pub(super) handshake: Option<Duration>,
    /// Connections that are served already find a reloaded configuration here, too.
    pub(super) hcm: Arc<ArcSwap<Hcm>>,
    /// Asks those that cannot go on with it to leave.
    pub(super) drainer: Drainer,
}

/// What a connection must be like. Empty parts match everything.
#[derive(Debug, Default, PartialEq)]
struct Match {
    port: Option<u16>,
    destinations: Vec<Cidr>,
    source_type: ConnectionSourceType,
    sources: Vec<Cidr>,
    source_ports: Vec<u16>,
    server_names: Vec<String>,
    transport: Option<bool>,
    protocols: Vec<Vec<u8>>,
}

/// What is known of a connection before its first request.
pub(super) struct Hello<'a> {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) tls: bool,
    pub(super) server_name: Option<&'a str>,
    pub(super) protocols: Vec<&'a [u8]>,
}

impl Chain {
    pub(super) fn compile(
        config: &pb::FilterChain,
        shared: &Shared<'_>,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        let filters = at.field("filters");
        let [only] = &config.filters[..] else {
            return Err(filters.problem("a chain needs one network filter, the http_connection_manager"));
        };
        let filter_at = filters.index(0);
        let Some(filter::ConfigType::TypedConfig(any)) = &only.config_type else {
            return Err(filter_at.problem("a filter needs typed_config with its \"@type\""));
        };
        let config_at = filter_at.field("typed_config");
        let manager: HttpConnectionManager = bootstrap::unpack(any, &config_at)?;
        let tls_at = at.field("transport_socket");
        let tls = match &config.transport_socket {
            Some(socket) if !tls::is_plaintext(socket) => {
                Some(Arc::new(ServerTls::compile(socket, &tls_at)?))
            }
            _ => None,
        };
        let matches = config.filter_chain_match.as_ref();
        let match_at = at.field("filter_chain_match");
        Ok(Self {
            name: config.name.as_str().into(),
            matches: matches
                .map(|matches| Match::compile(matches, &match_at))
                .transpose()?
                .unwrap_or_default(),
            tls,
            handshake: value::limit(config.transport_socket_connect_timeout.as_ref(), Some(HANDSHAKE)),
            hcm: Arc::new(ArcSwap::from_pointee(Hcm::compile(&manager, shared, &config_at)?)),
            drainer: shared.drainer.part(),
        })
    }

    /// Whether connections of `earlier` can go on with this: with what was settled when they began.
    pub(super) fn continues(&self, earlier: &Self) -> bool {
        let same_tls = match (&self.tls, &earlier.tls) {
            (Some(tls), Some(earlier)) => tls.demands() == earlier.demands(),
            (tls, earlier) => tls.is_none() && earlier.is_none(),
        };
        same_tls
            && self.matches == earlier.matches
            && self.hcm.load().settled() == earlier.hcm.load().settled()
    }

    pub(super) fn take_over(&mut self, earlier: &Self) {
        earlier.hcm.store(self.hcm.load_full());
        self.hcm = Arc::clone(&earlier.hcm);
        self.drainer = earlier.drainer.clone();
    }

    pub(super) fn has_taken_over(&self, earlier: &Self) -> bool {
        Arc::ptr_eq(&self.hcm, &earlier.hcm)
    }

    /// How much it says about the connection; `None` if it is not for it.
    pub(super) fn rank(&self, hello: &Hello<'_>) -> Option<[usize; 8]> {
        self.matches.rank(hello)
    }
}

impl Match {
    fn compile(config: &pb::FilterChainMatch, at: &Path<'_>) -> Result<Self, Problem> {
        let port = |port: u32| u16::try_from(port).map_err(|_| at.problem(format!("{port} is not a port")));
        Ok(Self {
            port: config.destination_port.as_ref().map(|value| port(value.value)).transpose()?,
            destinations: Cidr::compile_all(&config.prefix_ranges, &at.field("prefix_ranges"))?,
            source_type: config.source_type(),
            sources: Cidr::compile_all(&config.source_prefix_ranges, &at.field("source_prefix_ranges"))?,
            source_ports: config.source_ports.iter().map(|value| port(*value)).collect::<Result<_, _>>()?,
            server_names: config.server_names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            transport: match config.transport_protocol.as_str() {
                "" => None,
                "tls" => Some(true),
                "raw_buffer" => Some(false),
                other => {
                    let at = at.field("transport_protocol");
                    return Err(at.problem(format!("{other} is not supported; known: tls, raw_buffer")));
                }
            },
            protocols: config.application_protocols.iter().map(|name| name.clone().into_bytes()).collect(),
        })
    }

    /// How much the match says, most decisive part first, in Envoy's order; `None` if it does not fit.
    fn rank(&self, hello: &Hello<'_>) -> Option<[usize; 8]> {
        let any = |empty: bool, fits: bool| if empty { Some(0) } else { fits.then_some(1) };
        let within = |ranges: &[Cidr], address: IpAddr| match ranges {
            [] => Some(0),
            ranges => {
                let fitting = ranges.iter().filter(|range| range.contains(address));
                fitting.map(|range| 1 + usize::from(range.length())).max()
            }
        };
        Some([
            any(self.port.is_none(), self.port == Some(hello.local.port()))?,
            within(&self.destinations, hello.local.ip())?,
            self.server_name(hello.server_name)?,
            any(self.transport.is_none(), self.transport == Some(hello.tls))?,
            any(
                self.protocols.is_empty(),
                hello.protocols.iter().any(|name| self.protocols.iter().any(|p| p == name)),
            )?,
            self.source_type(hello)?,
            within(&self.sources, hello.remote.ip())?,
            any(self.source_ports.is_empty(), self.source_ports.contains(&hello.remote.port()))?,
        ])
    }

    fn source_type(&self, hello: &Hello<'_>) -> Option<usize> {
        let (remote, local) = (hello.remote.ip(), hello.local.ip());
        let near = remote == local || remote.is_loopback();
        match self.source_type {
            ConnectionSourceType::Any => Some(0),
            ConnectionSourceType::SameIpOrLoopback => near.then_some(1),
            ConnectionSourceType::External => (!near).then_some(1),
        }
    }

    /// A name itself says more than a wildcard, and a longer wildcard more than a shorter one.
    fn server_name(&self, name: Option<&str>) -> Option<usize> {
        if self.server_names.is_empty() {
            return Some(0);
        }
        let name = name?.to_ascii_lowercase();
        let rank = |pattern: &String| match pattern.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix).then_some(pattern.len()),
            None => (*pattern == name).then_some(usize::MAX),
        };
        self.server_names.iter().filter_map(rank).max()
    }
}
