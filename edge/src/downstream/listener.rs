//! Listeners: which filter chain takes a connection, and the sockets that connections come from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use envoy_types::pb::envoy::config::core::v3::Address;
use envoy_types::pb::envoy::config::core::v3::address::Address as AnyAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use envoy_types::pb::envoy::config::listener::v3::{self as pb, filter};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use rustls::server::Acceptor;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use crate::bootstrap;
use crate::call::Connection;
use crate::compile::Shared;
use crate::downstream::connection;
use crate::downstream::hcm::Hcm;
use crate::downstream::tls::{self, ServerTls};
use crate::drain::Drain;
use crate::matcher::Cidr;
use crate::problem::{Path, Problem};
use crate::stats::Counter;
use crate::tls::stats::HandshakeStats;
use crate::value;

/// A client that does not finish its handshake is cut off after this long. Envoy waits for ever.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A listener as the configuration has it now.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    chains: Vec<Chain>,
    default: Option<Chain>,
    /// How long a client may take for its hello.
    hello: Option<Duration>,
    stats: ListenerStats,
}

#[derive(Debug)]
struct ListenerStats {
    connections: Counter,
    no_chain: Counter,
    handshakes: HandshakeStats,
}

/// What is done with the connections that match.
#[derive(Debug)]
pub(crate) struct Chain {
    name: Arc<str>,
    matches: Match,
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// For the whole handshake.
    handshake: Option<Duration>,
    /// Connections that are served already find a reloaded configuration here, too.
    pub(crate) hcm: Arc<ArcSwap<Hcm>>,
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
struct Hello<'a> {
    local: SocketAddr,
    remote: SocketAddr,
    tls: bool,
    server_name: Option<&'a str>,
    protocols: Vec<&'a [u8]>,
}

impl Listener {
    pub(crate) fn compile(
        config: &pb::Listener,
        shared: &Shared<'_>,
        at: &Path<'_>,
    ) -> Result<Self, Problem> {
        if !value::flag(config.bind_to_port.as_ref(), true) {
            let at = at.field("bind_to_port");
            return Err(at.problem("only listeners with a port of their own are supported: remove it"));
        }
        let address_at = at.field("address");
        let address =
            config.address.as_ref().ok_or_else(|| address_at.problem("a listener needs a socket_address"));
        let address = socket_address(address?, &address_at)?;
        let chains_at = at.field("filter_chains");
        let chains = config.filter_chains.iter().enumerate();
        let chains: Vec<_> = chains
            .map(|(i, chain)| Chain::compile(chain, shared, &chains_at.index(i)))
            .collect::<Result<_, _>>()?;
        let default_at = at.field("default_filter_chain");
        let default = config.default_filter_chain.as_ref();
        let default = default.map(|chain| Chain::compile(chain, shared, &default_at)).transpose()?;
        if chains.is_empty() && default.is_none() {
            return Err(chains_at.problem("a listener needs a filter chain"));
        }
        let prefix = if config.stat_prefix.is_empty() {
            address.to_string().replace(':', "_")
        } else {
            config.stat_prefix.clone()
        };
        let scope = shared.stats.scope(format!("listener.{prefix}"));
        Ok(Self {
            name: if config.name.is_empty() { address.to_string() } else { config.name.clone() },
            address,
            chains,
            default,
            hello: value::limit(config.listener_filters_timeout.as_ref(), Some(HANDSHAKE)),
            stats: ListenerStats {
                connections: scope.counter("downstream_cx_total"),
                no_chain: scope.counter("no_filter_chain_match"),
                handshakes: HandshakeStats::new(&scope),
            },
        })
    }

    /// Takes the place of `before`: connections of a chain that is still there go on with what it says now.
    pub(crate) fn take_over(mut self, before: &Self) -> Self {
        for chain in &mut self.chains {
            if let Some(earlier) = before.chains.iter().find(|earlier| earlier.matches == chain.matches) {
                chain.take_over(earlier);
            }
        }
        if let (Some(chain), Some(earlier)) = (&mut self.default, &before.default) {
            chain.take_over(earlier);
        }
        self
    }

    /// Every chain's TLS.
    pub(crate) fn tls(&self) -> impl Iterator<Item = &Arc<ServerTls>> {
        self.chains.iter().chain(&self.default).filter_map(|chain| chain.tls.as_ref())
    }

    /// The chain that a connection would take, none for the default one, and whether it speaks TLS.
    pub(crate) fn taken(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        name: &str,
    ) -> Option<(Option<usize>, Arc<Hcm>, bool)> {
        let tls = self.wants_tls();
        let hello = Hello { local, remote, tls, server_name: Some(name), protocols: vec![b"h2"] };
        let chain = self.chain(&hello)?;
        let index = self.chains.iter().position(|other| std::ptr::eq(other, chain));
        Some((index, chain.hcm.load_full(), chain.tls.is_some()))
    }

    fn wants_tls(&self) -> bool {
        self.tls().next().is_some()
    }

    /// The chain whose match says most about the connection.
    fn chain(&self, hello: &Hello<'_>) -> Option<&Chain> {
        let fitting = self.chains.iter().filter_map(|chain| Some((chain.matches.rank(hello)?, chain)));
        fitting.max_by(|a, b| a.0.cmp(&b.0)).map(|(_, chain)| chain).or(self.default.as_ref())
    }
}

/// Where to listen.
pub(crate) fn socket_address(config: &Address, at: &Path<'_>) -> Result<SocketAddr, Problem> {
    let Some(AnyAddress::SocketAddress(socket)) = &config.address else {
        return Err(at.problem("a listener needs a socket_address"));
    };
    let at = at.field("socket_address");
    let ip: IpAddr = socket
        .address
        .parse()
        .map_err(|_| at.field("address").problem(format!("{} is not an IP address", socket.address)))?;
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
        return Err(at.problem("needs port_value"));
    };
    let port = u16::try_from(port).map_err(|_| at.field("port_value").problem("above 65535"))?;
    Ok(SocketAddr::new(ip, port))
}

impl Chain {
    fn compile(config: &pb::FilterChain, shared: &Shared<'_>, at: &Path<'_>) -> Result<Self, Problem> {
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
        })
    }
}

impl Chain {
    fn take_over(&mut self, before: &Self) {
        before.hcm.store(self.hcm.load_full());
        self.hcm = Arc::clone(&before.hcm);
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

/// A listener on a worker: takes connections and serves them as the configuration has it at that moment.
pub(crate) struct Accepting {
    pub(crate) listener: Arc<ArcSwap<Listener>>,
    pub(crate) drain: Drain,
    pub(crate) ids: Arc<AtomicU64>,
    pub(crate) connections: tokio_util::task::TaskTracker,
}

#[async_trait]
impl ServerApp for Accepting {
    async fn process_new(self: &Arc<Self>, stream: Stream, _shutdown: &ShutdownWatch) -> Option<Stream> {
        let digest = stream.get_socket_digest()?;
        let remote = *digest.peer_addr()?.as_inet()?;
        let local = *digest.local_addr()?.as_inet()?;
        // A task of its own: the one that has taken the connection is large, and would live as long as it.
        self.connections.spawn(Arc::clone(self).serve(stream, remote, local));
        None
    }
}

impl Accepting {
    async fn serve(self: Arc<Self>, stream: Stream, remote: SocketAddr, local: SocketAddr) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let listener = self.listener.load_full();
        listener.stats.connections.inc();
        if listener.wants_tls() {
            // Boxed: a connection without TLS needs less.
            return Box::pin(self.serve_tls(&listener, stream, id, remote, local)).await;
        }
        let hello = Hello { local, remote, tls: false, server_name: None, protocols: Vec::new() };
        let Some(chain) = listener.chain(&hello) else { return listener.stats.no_chain.inc() };
        let (hcm, chain) = (Arc::clone(&chain.hcm), Arc::clone(&chain.name));
        drop(listener);
        let facts = Arc::new(Connection { id, chain, remote, local, tls: None });
        connection::serve(stream, hcm, facts, self.drain.clone()).await;
    }

    async fn serve_tls(
        &self,
        listener: &Listener,
        stream: Stream,
        id: u64,
        remote: SocketAddr,
        local: SocketAddr,
    ) {
        let began = Instant::now();
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let Some(Ok(start)) = within(began, listener.hello, hello).await else { return };
        let hello = start.client_hello();
        let hello = Hello {
            local,
            remote,
            tls: true,
            server_name: hello.server_name(),
            protocols: hello.alpn().into_iter().flatten().collect(),
        };
        let Some(chain) = listener.chain(&hello) else {
            listener.stats.no_chain.inc();
            return;
        };
        let tls = chain.tls.as_ref().filter(|tls| !tls.requires_sni() || hello.server_name.is_some());
        let Some(tls) = tls else { return };
        let handshake = start.into_stream(tls.config());
        let Some(stream) = within(began, chain.handshake, handshake).await else { return };
        listener.stats.handshakes.count(&stream);
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "a handshake failed"),
        };
        let (hcm, tls) = (Arc::clone(&chain.hcm), tls.facts(stream.get_ref().1));
        let chain = Arc::clone(&chain.name);
        let facts = Arc::new(Connection { id, chain, remote, local, tls: Some(tls) });
        connection::serve(stream, hcm, facts, self.drain.clone()).await;
    }
}

/// What comes of `work`, unless it takes longer than `limit`.
async fn within<F: Future>(began: Instant, limit: Option<Duration>, work: F) -> Option<F::Output> {
    match limit {
        Some(limit) => timeout_at(began + limit, work).await.ok(),
        None => Some(work.await),
    }
}
