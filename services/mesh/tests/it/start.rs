//! What is refused before anything is started, in words that say what to change.

use mesh::{Config, Policy, Server, ServerBuilder, StartError};

use crate::harness::{Probe, ROLE, SERVICE};

async fn build(config: Config, prepare: impl FnOnce(&mut ServerBuilder)) -> Result<Server, StartError> {
    let mut builder = ServerBuilder::new(config, Policy::default(), None);
    prepare(&mut builder);
    builder.build().await
}

fn complaint(result: Result<Server, StartError>) -> String {
    match result {
        Err(StartError::Config(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_peer_that_is_nowhere_is_named_with_the_key_to_set() {
    let result = build(Config::default(), |builder| {
        builder.peers("lake").channel(SERVICE);
    });
    let text = complaint(result.await);
    assert!(text.contains("role ingest") && text.contains("`peers.ingest`"), "{text}");
}

#[tokio::test]
async fn a_hosted_role_must_serve_what_is_asked_of_it() {
    let result = build(Config::default(), |builder| {
        builder.host(ROLE).channel(SERVICE);
    });
    assert!(complaint(result.await).contains(SERVICE));
    let served = build(Config::default(), |builder| {
        builder.host(ROLE).channel(SERVICE);
        builder.add(Probe::default());
    });
    served.await.unwrap();
}

#[tokio::test]
async fn tcp_needs_tls_but_for_plaintext_on_loopback() {
    let listening = |address: &str, plaintext| {
        let mut config = Config::default();
        config.listen.tcp = Some(address.parse().unwrap());
        config.listen.plaintext = plaintext;
        build(config, |_| {})
    };
    assert!(complaint(listening("127.0.0.1:0", false).await).contains("certificate"));
    assert!(complaint(listening("0.0.0.0:0", true).await).contains("loopback"));
    assert!(listening("127.0.0.1:0", true).await.unwrap().tcp_address().is_some());
}

#[tokio::test]
async fn a_port_in_use_is_said_to_be() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = Config::default();
    config.listen.tcp = Some(taken.local_addr().unwrap());
    config.listen.plaintext = true;
    assert!(complaint(build(config, |_| {}).await).contains("in use"));
}

#[tokio::test]
async fn peers_elsewhere_need_a_certificate() {
    let mut config = Config::default();
    config.peers.insert("order".to_owned(), "order:7443".to_owned());
    assert!(complaint(build(config, |_| {}).await).contains("certificate"));
}
