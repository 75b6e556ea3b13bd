//! Connections that go over to another protocol: what either side says then is carried as it is.

use edge::gateway::Running;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::{PATIENCE, serve};

const CONFIG: &str = r#"
static_resources:
  listeners:
  - name: web
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          stream_idle_timeout: {IDLE}
          upgrade_configs: [ { upgrade_type: websocket } ]
          route_config:
            virtual_hosts:
            - { name: all, domains: ["*"], routes: [ { match: { prefix: / }, route: { cluster: backend } } ] }
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: backend
    load_assignment:
      cluster_name: backend
      endpoints: [ { lb_endpoints: [ { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: {PORT} } } } } ] } ]
"#;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
const GRANTED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

/// A gateway, its client's end of a connection that was upgraded, and the backend's.
async fn upgraded(idle: &str) -> (Running, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let running = serve(&CONFIG.replace("{PORT}", &port.to_string()).replace("{IDLE}", idle));
    let mut client = TcpStream::connect(running.listeners()[0].1).await.expect("a connection");
    // What comes too early waits for the upgrade.
    client.write_all(&[REQUEST, b"early "].concat()).await.expect("sent");
    let (mut backend, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a call");
    let head = head(&mut backend).await;
    assert!(head.contains("connection: Upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    backend.write_all(GRANTED).await.expect("sent");
    (running, client, backend)
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.expect("in time").expect("a head"));
    }
    String::from_utf8(head).expect("text")
}

async fn expect(stream: &mut TcpStream, text: &str) {
    let mut read = vec![0; text.len()];
    timeout(PATIENCE, stream.read_exact(&mut read)).await.expect("in time").expect("whole");
    assert_eq!(String::from_utf8(read).expect("text"), text);
}

async fn expect_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("in time").expect("an end");
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn both_sides_are_heard_until_one_ends() {
    let (_running, mut client, mut backend) = upgraded("300s").await;
    let head = head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.write_all(b"ping").await.expect("sent");
    expect(&mut backend, "early ping").await;
    backend.write_all(b"pong").await.expect("sent");
    expect(&mut client, "pong").await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    expect(&mut backend, "GET / HTTP/1.1\r\n\r\n").await;
    drop(backend);
    expect_end(&mut client).await;
}

#[tokio::test]
async fn the_backend_learns_that_the_client_is_gone() {
    let (_running, mut client, mut backend) = upgraded("300s").await;
    head(&mut client).await;
    drop(client);
    expect(&mut backend, "early ").await;
    expect_end(&mut backend).await;
}

#[tokio::test]
async fn silence_ends_it() {
    let (_running, mut client, mut backend) = upgraded("0.2s").await;
    head(&mut client).await;
    expect(&mut backend, "early ").await;
    expect_end(&mut client).await;
    expect_end(&mut backend).await;
}

#[tokio::test]
async fn a_gateway_that_ends_waits_for_it() {
    let (running, mut client, mut backend) = upgraded("300s").await;
    head(&mut client).await;
    let ending = tokio::spawn(running.shutdown(PATIENCE));
    client.write_all(b"still here").await.expect("sent");
    expect(&mut backend, "early still here").await;
    drop(client);
    expect_end(&mut backend).await;
    assert!(timeout(PATIENCE, ending).await.expect("in time").expect("a result"), "it was cut");
}
