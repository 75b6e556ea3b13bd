//! Mutual TLS between processes: who gets in, and whom a caller believes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh::config::CertificateFiles;
use mesh::{Channel, Clock, Config, Identity, PeerError, ServerBuilder, StartError};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tonic::{Code, Request};

use crate::harness::{READ, ROLE, Running, SERVICE, policy, said, unary};

fn identity(directory: &Path) -> Identity {
    Identity::open(None, directory, Clock::system()).unwrap()
}

/// A process that serves the probe over TCP.
async fn server(identity: Identity) -> Running {
    let mut config = Config::default();
    config.listen.tcp = Some("127.0.0.1:0".parse().unwrap());
    Running::start(config, Some(identity)).await
}

/// A channel from another process, in which `role` is at the server's address.
fn elsewhere(server: &Running, identity: Identity, workload: &'static str, role: &str) -> Channel {
    let mut config = Config::default();
    config.peers.insert(role.to_owned(), server.address.unwrap().to_string());
    ServerBuilder::new(config, policy(), Some(identity)).peers(workload).channel_to(role, SERVICE)
}

#[tokio::test]
async fn a_known_role_is_let_in_under_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(identity(directory.path())).await;
    let lake = elsewhere(&server, identity(directory.path()), "lake", ROLE);
    let answer = unary(lake, READ, Request::new(())).await.unwrap();
    assert_eq!(said(&answer, "x-caller"), Some("workload lake"));
    // A valid certificate of a role that the policy does not know opens no method.
    let stranger = elsewhere(&server, identity(directory.path()), "stranger", ROLE);
    let refused = unary(stranger, READ, Request::new(())).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    server.stop().await;
}

#[tokio::test]
async fn a_server_from_a_foreign_authority_is_not_believed() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = server(identity(ours.path())).await;
    let foreign = elsewhere(&server, identity(theirs.path()), "lake", ROLE);
    let refused = unary(foreign, READ, Request::new(())).await.unwrap_err();
    assert!(PeerError::new(SERVICE, refused).is_retryable(), "to the caller the peer is out of reach");
    server.stop().await;
}

#[tokio::test]
async fn a_client_from_a_foreign_authority_is_refused() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = server(identity(ours.path())).await;
    // It believes our server, so that the verdict is the server's alone.
    let files = CertificateFiles { ca: ours.path().join("ca.pem"), ..issue_files(theirs.path(), "lake") };
    let foreign = Identity::open(Some(&files), theirs.path(), Clock::system()).unwrap();
    let refused = unary(elsewhere(&server, foreign, "lake", ROLE), READ, Request::new(())).await.unwrap_err();
    assert!(PeerError::new(SERVICE, refused).is_retryable());
    server.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(identity(directory.path())).await;
    let two_days_ago = Clock::system().now_micros() - 2 * 86_400_000_000;
    let late = Identity::open(None, directory.path(), Clock::fixed(two_days_ago)).unwrap();
    unary(elsewhere(&server, late, "lake", ROLE), READ, Request::new(())).await.unwrap_err();
    server.stop().await;
}

#[tokio::test]
async fn a_server_of_another_role_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(identity(directory.path())).await;
    let mistaken = elsewhere(&server, identity(directory.path()), "lake", "order");
    let refused = unary(mistaken, READ, Request::new(())).await.unwrap_err();
    assert!(PeerError::new(SERVICE, refused).is_retryable());
    server.stop().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(identity(directory.path())).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.path().join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(server.address.unwrap()).await.unwrap();
    let name = ServerName::try_from("ingest.mesh.omnimesh").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    // In TLS 1.3 the server's verdict comes after the client's side of the handshake is done.
    let verdict = stream.read_u8().await.unwrap_err();
    assert!(verdict.to_string().contains("CertificateRequired"), "{verdict}");
    server.stop().await;
}

#[tokio::test]
async fn the_authoritys_key_is_private_and_stays() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    identity(directory.path());
    let key = directory.path().join("ca.key");
    let first = std::fs::read(&key).unwrap();
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    identity(directory.path());
    assert_eq!(std::fs::read(&key).unwrap(), first);
}

#[tokio::test]
async fn certificates_from_files_must_be_the_roles_own() {
    let directory = tempfile::tempdir().unwrap();
    let files = issue_files(directory.path(), "ingest");
    let open = || Identity::open(Some(&files), directory.path(), Clock::system()).unwrap();
    let server = server(open()).await;

    let mut mistaken = ServerBuilder::new(Config::default(), policy(), Some(open()));
    mistaken.host("order");
    let complaint = mistaken.build().await;
    assert!(
        matches!(&complaint, Err(StartError::Config(text)) if text.contains("role order")),
        "{complaint:?}"
    );

    // The role may call itself: another replica of it does.
    let replica = elsewhere(&server, open(), "ingest", ROLE);
    let refused = unary(replica, READ, Request::new(())).await.unwrap_err();
    assert_eq!(refused.message(), "workload ingest lacks the permission ingest.read");
    server.stop().await;
}

/// An authority of somebody else's making, and a role's certificate from it, as files.
fn issue_files(directory: &Path, role: &str) -> CertificateFiles {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);

    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new([format!("{role}.mesh.omnimesh")]).unwrap();
    let uri = format!("spiffe://omnimesh/role/{role}").try_into().unwrap();
    leaf.subject_alt_names.push(rcgen::SanType::URI(uri));
    leaf.not_after = (std::time::SystemTime::now() + Duration::from_secs(3600)).into();
    let chain_pem = leaf.signed_by(&key, &issuer).unwrap().pem();

    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    CertificateFiles {
        ca: write("ca.pem", authority_pem),
        chain: write("leaf.pem", chain_pem),
        key: write("leaf.key", key.serialize_pem()),
    }
}
