//! Listeners: the sockets that connections come from, and which filter chain takes each.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use envoy_types::pb::envoy::config::core::v3::Address;
use envoy_types::pb::envoy::config::core::v3::address::Address as AnyAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use rustls::server::Acceptor;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use crate::call::Connection;
use crate::compile::Shared;
use crate::downstream::chain::{Chain, HANDSHAKE, Hello};
use crate::downstream::connection;
use crate::downstream::hcm::Hcm;
use crate::downstream::tls::ServerTls;
use crate::problem::{Path, Problem};
use crate::stats::{Counter, Gauge, Histogram};
use crate::tls::stats::HandshakeStats;
use crate::value;

/// A listener as the configuration has it now.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    chains: Vec<Chain>,
    default: Option<Chain>,
    /// How long a client may take for its hello.
    hello: Option<Duration>,
    stats: Arc<ListenerStats>,
}

/// `listener.<address>.…`
#[derive(Debug)]
struct ListenerStats {
    connections: Counter,
    active: Gauge,
    ended: Counter,
    length: Histogram,
    no_chain: Counter,
    handshakes: HandshakeStats,
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
            stats: Arc::new(ListenerStats {
                connections: scope.counter("downstream_cx_total"),
                active: scope.gauge("downstream_cx_active"),
                ended: scope.counter("downstream_cx_destroy"),
                length: scope.histogram("downstream_cx_length_ms"),
                no_chain: scope.counter("no_filter_chain_match"),
                handshakes: HandshakeStats::new(&scope),
            }),
        })
    }

    /// Takes the place of `before`: connections of a chain that is still there go on with what it says now.
    pub(crate) fn take_over(mut self, before: &Self) -> Self {
        for chain in &mut self.chains {
            if let Some(earlier) = before.chains.iter().find(|earlier| chain.continues(earlier)) {
                chain.take_over(earlier);
            }
        }
        if let (Some(chain), Some(earlier)) = (&mut self.default, &before.default)
            && chain.continues(earlier)
        {
            chain.take_over(earlier);
        }
        self
    }

    /// Asks the connections of chains to leave within `time`, unless `now` has taken them over.
    pub(crate) fn retire(&self, now: Option<&Self>, time: Duration) {
        let goes_on =
            |chain: &Chain| now.is_some_and(|now| now.all().any(|other| other.has_taken_over(chain)));
        self.all().filter(|chain| !goes_on(chain)).for_each(|chain| chain.drainer.retire(time));
    }

    fn all(&self) -> impl Iterator<Item = &Chain> {
        self.chains.iter().chain(&self.default)
    }

    /// Every chain's TLS.
    pub(crate) fn tls(&self) -> impl Iterator<Item = &Arc<ServerTls>> {
        self.all().filter_map(|chain| chain.tls.as_ref())
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
        let fitting = self.chains.iter().filter_map(|chain| Some((chain.rank(hello)?, chain)));
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

/// A listener on a worker: takes connections and serves them as the configuration has it at that moment.
pub(crate) struct Accepting {
    pub(crate) listener: Arc<ArcSwap<Listener>>,
    pub(crate) ids: Arc<AtomicU64>,
    pub(crate) connections: tokio_util::task::TaskTracker,
}

#[async_trait]
impl ServerApp for Accepting {
    async fn process_new(self: &Arc<Self>, stream: Stream, _shutdown: &ShutdownWatch) -> Option<Stream> {
        let digest = stream.get_socket_digest()?;
        let remote = *digest.peer_addr()?.as_inet()?;
        let local = *digest.local_addr()?.as_inet()?;
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let listener = self.listener.load_full();
        // A task of its own: the one that has taken the connection is large, and would live as long as it.
        self.connections.spawn(serve(listener, stream, id, remote, local));
        None
    }
}

async fn serve(listener: Arc<Listener>, stream: Stream, id: u64, remote: SocketAddr, local: SocketAddr) {
    let (stats, began) = (Arc::clone(&listener.stats), Instant::now());
    stats.connections.inc();
    stats.active.add(1);
    if listener.wants_tls() {
        // Boxed: a connection without TLS needs less.
        Box::pin(serve_tls(&listener, stream, id, remote, local)).await;
    } else {
        serve_plain(listener, stream, id, remote, local).await;
    }
    stats.active.add(-1);
    stats.ended.inc();
    stats.length.record_since(began.into());
}

async fn serve_plain(
    listener: Arc<Listener>,
    stream: Stream,
    id: u64,
    remote: SocketAddr,
    local: SocketAddr,
) {
    let hello = Hello { local, remote, tls: false, server_name: None, protocols: Vec::new() };
    let Some(chain) = listener.chain(&hello) else { return listener.stats.no_chain.inc() };
    let (hcm, drain) = (Arc::clone(&chain.hcm), chain.drainer.drain());
    let facts = Connection { id, chain: Arc::clone(&chain.name), remote, local, tls: None };
    drop(listener);
    connection::serve(stream, hcm, Arc::new(facts), drain).await;
}

async fn serve_tls(listener: &Listener, stream: Stream, id: u64, remote: SocketAddr, local: SocketAddr) {
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
    let Some(chain) = listener.chain(&hello) else { return listener.stats.no_chain.inc() };
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
    let facts = Connection { id, chain: Arc::clone(&chain.name), remote, local, tls: Some(tls) };
    connection::serve(stream, hcm, Arc::new(facts), chain.drainer.drain()).await;
}

/// What comes of `work`, unless it takes longer than `limit`.
async fn within<F: Future>(began: Instant, limit: Option<Duration>, work: F) -> Option<F::Output> {
    match limit {
        Some(limit) => timeout_at(began + limit, work).await.ok(),
        None => Some(work.await),
    }
}
