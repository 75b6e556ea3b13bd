//! Another configuration while calls go on.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::backend::Backend;
use crate::edge::{Config, Edge};
use crate::frames::{self, END_HEADERS, END_STREAM, HEADERS, Raw, frame};
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

/// What a reload changes, of the connection manager and of its chain, and whether connections leave.
const CHANGES: &[(&str, &str, &str, bool)] = &[
    ("nothing", "{}", "{}", false),
    ("a timeout", r#"{"stream_idle_timeout": "20s"}"#, "{}", false),
    ("a header", r#"{"via": "edge"}"#, "{}", false),
    ("the time for handshakes", "{}", r#"{"transport_socket_connect_timeout": "3s"}"#, false),
    ("streams at a time", r#"{"http2_protocol_options": {"max_concurrent_streams": 50}}"#, "{}", true),
    ("the protocol", r#"{"codec_type": "HTTP2"}"#, "{}", true),
    (
        "whose connections it takes",
        "{}",
        r#"{"filter_chain_match": {"source_prefix_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}}"#,
        true,
    ),
];

#[tokio::test]
async fn connections_leave_a_chain_that_cannot_keep_them() {
    for (what, hcm, chain, leaves) in CHANGES {
        let backend = Backend::start().await;
        let edge = Edge::start(&backend, &Config::default()).await;
        let mut raw = Raw::connect(edge.address(), &[]).await;
        let mut client = Client::connect(Protocol::Grpc, edge.address(), None).await;
        let call = tokio::spawn(async move { (client.begin("Hold").await, client) });
        until("the call is at the backend", || backend.calls() == 1).await;
        let [hcm, chain] = [hcm, chain].map(|text| serde_json::from_str(text).expect("JSON"));
        let config = Config { hcm, chain, ..Config::default() };
        ends(edge.running.reload(config.load(&backend))).await.expect("a good configuration");
        if *leaves {
            assert_eq!(raw.end().await, Some(0), "{what}: who is there is asked to leave");
        } else {
            assert!(raw.settle().await, "{what}: who is there stays");
        }
        backend.release();
        let (reply, _client) = ends(call).await.expect("no panic");
        assert_eq!(reply.expect(what).status(), 200, "{what}: the call ends as it would");
        Client::connect(Protocol::Grpc, edge.address(), None).await.call().await;
    }
}

#[tokio::test]
async fn who_does_not_leave_what_is_gone_is_cut_after_the_drain_time() {
    let backend = Backend::start().await;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let both = listening(&[("web", any), ("more", any)]);
    let edge = Edge::start(&backend, &Config { drain_time: Some(Duration::from_millis(200)), ..both }).await;
    let mut raw = Raw::connect(edge.listener("more").expect("port"), &[]).await;
    assert!(raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &frames::call("Hold"))).await);
    until("the call is at the backend", || backend.calls() == 1).await;
    ends(edge.running.reload(listening(&[("web", any)]).load(&backend))).await.expect("a listener less");
    assert_eq!(raw.end().await, Some(0), "asked to leave, then cut: the backend still holds the call");
    Client::connect(Protocol::Grpc, edge.address(), None).await.call().await;
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
