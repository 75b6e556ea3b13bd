//! Another configuration while calls go on.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::ClientConfig;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::backend::Backend;
use crate::edge::{Config, Edge};
use crate::frames::Raw;
use crate::honest::{Client, Protocol};
use crate::{ends, until};

/// Calls that go on until they are stopped, on connections that are kept and on new ones.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    /// Each with the calls that it has made.
    clients: Vec<(Arc<AtomicUsize>, JoinHandle<()>)>,
}

impl Load {
    /// `tls`: what a client that connects now is to use.
    pub(crate) fn start(
        to: SocketAddr,
        tls: impl Fn() -> Option<Arc<ClientConfig>> + Clone + Send + Sync + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |(protocol, kept): (Protocol, bool)| {
            let (calls, stop, tls) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&stop), tls.clone());
            let made = Arc::clone(&calls);
            let client = tokio::spawn(async move {
                let mut client = Client::connect(protocol, to, tls().as_ref()).await;
                while !stop.load(Ordering::Relaxed) {
                    if !kept {
                        client = Client::connect(protocol, to, tls().as_ref()).await;
                    }
                    client.call().await;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
            (made, client)
        };
        let kinds = [Protocol::Grpc, Protocol::GrpcWeb].into_iter().flat_map(|p| [(p, true), (p, false)]);
        let clients = kinds.map(client).collect();
        Self { stop, clients }
    }

    /// Waits until each client has made so many more calls.
    pub(crate) async fn goes_on(&self, calls: usize) {
        for (made, client) in &self.clients {
            let due = made.load(Ordering::Relaxed) + calls;
            until("calls go on", || made.load(Ordering::Relaxed) >= due || client.is_finished()).await;
            assert!(!client.is_finished(), "a client has lost a call");
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for (_, client) in self.clients {
            ends(client).await.expect("no call is lost");
        }
    }
}

#[tokio::test]
async fn twenty_reloads_lose_no_call() {
    let backend = Backend::start().await;
    let edge = Edge::start(&backend, &Config::default()).await;
    let load = Load::start(edge.address(), || None);
    for number in 0..20 {
        load.goes_on(10).await;
        // Everything is made anew: routes, clusters with their connections, filters, limits.
        let config = Config::hcm(json!({
            "request_timeout": "60s",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
                "match": {"prefix": "/test.Probe/"},
                "route": {"cluster": "backend", "timeout": format!("{}s", 60 + number)},
            }]}]},
        }));
        ends(edge.running.reload(config.load(&backend))).await.expect("a good configuration");
    }
    load.goes_on(10).await;
    load.stop().await;
}

fn free_port() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").expect("port");
    socket.local_addr().expect("address")
}

fn listening(listeners: &[(&'static str, SocketAddr)]) -> Config {
    Config { listeners: listeners.to_vec(), ..Config::default() }
}

#[tokio::test]
async fn listeners_come_move_and_go() {
    let backend = Backend::start().await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let edge = Edge::start(&backend, &listening(&[("web", any)])).await;
    let first = edge.address();
    let load = Load::start(first, || None);

    let (second, third) = (free_port(), free_port());
    let both = listening(&[("web", any), ("more", second)]);
    ends(edge.running.reload(both.load(&backend))).await.expect("one more listener");
    assert_eq!(edge.listener("web"), Some(first));
    let mut kept = Client::connect(Protocol::GrpcWeb, second, None).await;
    kept.call().await;
    let raw = Raw::connect(second, &[]).await;

    let moved = listening(&[("more", third), ("web", any)]);
    ends(edge.running.reload(moved.load(&backend))).await.expect("a listener that moves");
    assert_eq!((edge.listener("web"), edge.listener("more")), (Some(first), Some(third)));
    Client::connect(Protocol::Grpc, third, None).await.call().await;
    until("the old place is closed", || std::net::TcpStream::connect(second).is_err()).await;
    assert_eq!(raw.end().await, Some(0), "who was there is asked to leave");

    let gone = listening(&[("web", any)]);
    ends(edge.running.reload(gone.load(&backend))).await.expect("a listener less");
    until("it is closed", || std::net::TcpStream::connect(third).is_err()).await;
    assert_eq!(edge.listener("more"), None);
    load.goes_on(10).await;
    load.stop().await;
}

#[tokio::test]
async fn a_call_at_a_listener_that_goes_ends_as_it_would() {
    let backend = Backend::start().await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let edge = Edge::start(&backend, &listening(&[("web", any), ("more", any)])).await;
    let mut client = Client::connect(Protocol::Grpc, edge.listener("more").expect("port"), None).await;
    let call = tokio::spawn(async move { (client.begin("Hold").await, client) });
    until("the call is at the backend", || backend.calls() == 1).await;
    ends(edge.running.reload(listening(&[("web", any)]).load(&backend))).await.expect("a listener less");
    backend.release();
    let (reply, _client) = ends(call).await.expect("no panic");
    assert_eq!(reply.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_port_that_is_taken_changes_nothing() {
    let backend = Backend::start().await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let edge = Edge::start(&backend, &listening(&[("web", any)])).await;
    let load = Load::start(edge.address(), || None);
    let taken = TcpListener::bind("127.0.0.1:0").expect("port");
    let (free, taken) = (free_port(), taken.local_addr().expect("address"));
    let config = listening(&[("web", any), ("more", free), ("taken", taken)]);
    let refused = ends(edge.running.reload(config.load(&backend))).await.expect_err("a port that is taken");
    let told = refused.to_string();
    assert!(told.contains(&format!("cannot listen on {taken} for taken")), "{told}");
    assert_eq!(edge.running.listeners().len(), 1);
    until("nobody listens", || std::net::TcpStream::connect(free).is_err()).await;
    load.goes_on(10).await;
    load.stop().await;
}
