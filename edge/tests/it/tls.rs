//! TLS towards clients, mutual TLS towards backends.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use edge::gateway::StartError;
use edge::{ClientTls, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::backend::{Backend, frame};
use crate::harness::{Edge, PATIENCE, config, http2_over, start, tcp, upstream};

/// An authority, and the files of certificates that it signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority"))
    }

    fn write(&self, directory: &Path, name: &str) -> ServerTls {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        let certificate = params.signed_by(&key, &self.0).expect("certificate");
        let tls = ServerTls {
            cert: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        };
        std::fs::write(&tls.cert, certificate.pem()).expect("written");
        std::fs::write(&tls.key, key.serialize_pem()).expect("written");
        tls
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("root");
        Arc::new(roots)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

async fn mutual_tls_backend(authority: &Authority, files: &ServerTls) -> (Backend, SocketAddr) {
    let chain =
        CertificateDer::pem_file_iter(&files.cert).expect("file").collect::<Result<_, _>>().expect("chain");
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider()).build();
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.expect("verifier"))
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&files.key).expect("key"))
        .expect("certificate");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let mut backend = Backend::new();
    let address = backend.serve_tcp(Some(TlsAcceptor::from(Arc::new(tls)))).await;
    (backend, address)
}

fn client_tls(directory: &Path, authority: &Authority, identity: ServerTls, server_name: &str) -> ClientTls {
    let ca = directory.join("ca.crt");
    std::fs::write(&ca, authority.0.pem()).expect("written");
    ClientTls { ca, cert: identity.cert, key: identity.key, server_name: server_name.to_owned() }
}

/// A client's connection to the edge `edge.test`, whose certificate the authority must have signed.
async fn connect(edge: &Edge, authority: &Authority) -> std::io::Result<TlsStream<TcpStream>> {
    let mut tls = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(edge.address()).await?;
    TlsConnector::from(Arc::new(tls)).connect(ServerName::try_from("edge.test").expect("name"), stream).await
}

#[tokio::test]
async fn certificates_are_replaced_while_the_edge_runs() {
    let directory = TempDir::new().expect("directory");
    let (stranger, authority) = (Authority::new(), Authority::new());
    let (backend, addr) =
        mutual_tls_backend(&authority, &authority.write(directory.path(), "order.test")).await;
    let identity = stranger.write(directory.path(), "edge.test");
    let tls = client_tls(directory.path(), &stranger, identity.clone(), "order.test");
    let ca = tls.ca.clone();
    let mut config = config(directory.path(), vec![upstream(tcp(addr, Some(tls)))]);
    config.tls = Some(identity);
    let edge = Edge::start_with(directory, backend, &config).await;
    let status = async |authority: &Authority| {
        let stream = connect(&edge, authority).await.ok()?;
        http2_over(stream, edge.grpc("Echo", frame(b"hi"))).await.grpc_status()
    };
    assert_eq!(status(&stranger).await, Some(14), "clients may come, the backend is not believed");
    assert_eq!(status(&authority).await, None);

    // Files that do not fit are left alone, as is what half of a change leaves for a moment.
    std::fs::write(&ca, "no certificate").expect("written");
    authority.write(edge.directory.path(), "edge.test");
    std::fs::write(&ca, authority.0.pem()).expect("written");
    let replaced = async {
        while status(&authority).await != Some(0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, replaced).await.expect("the edge keeps up with its files");
    assert_eq!(status(&stranger).await, None);
}

#[tokio::test]
async fn tls_to_clients_and_mutual_tls_to_backends() {
    let directory = TempDir::new().expect("directory");
    let authority = Authority::new();
    let (backend, addr) =
        mutual_tls_backend(&authority, &authority.write(directory.path(), "order.test")).await;
    let identity = authority.write(directory.path(), "edge.test");
    let tls = client_tls(directory.path(), &authority, identity.clone(), "order.test");
    let mut config = config(directory.path(), vec![upstream(tcp(addr, Some(tls)))]);
    config.tls = Some(identity);
    let edge = Edge::start_with(directory, backend, &config).await;

    let stream = connect(&edge, &authority).await.expect("TLS");
    let reply = http2_over(stream, edge.grpc("Echo", frame(b"hi"))).await;
    assert_eq!((reply.grpc_status(), &reply.body[..]), (Some(0), &frame(b"hi")[..]));
}

#[tokio::test]
async fn backends_with_another_name_or_authority_are_not_believed() {
    let directory = TempDir::new().expect("directory");
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = authority.write(directory.path(), "order.test");
    let (backend, addr) = mutual_tls_backend(&authority, &files).await;
    let identity = authority.write(directory.path(), "edge.test");
    let wrong_name = client_tls(directory.path(), &authority, identity.clone(), "stock.test");
    let another_name = config(directory.path(), vec![upstream(tcp(addr, Some(wrong_name)))]);
    let edge = Edge::start_with(directory, backend, &another_name).await;
    assert_eq!(edge.http2(edge.grpc("Echo", frame(b"hi"))).await.grpc_status(), Some(14));

    let directory = TempDir::new().expect("directory");
    let identity = authority.write(directory.path(), "edge.test");
    let wrong_authority = client_tls(directory.path(), &stranger, identity, "order.test");
    let another_authority = config(directory.path(), vec![upstream(tcp(addr, Some(wrong_authority)))]);
    let other = Edge::start_with(directory, Backend::new(), &another_authority).await;
    assert_eq!(other.http2(other.grpc("Echo", frame(b"hi"))).await.grpc_status(), Some(14));
}

#[tokio::test]
async fn keys_that_do_not_fit_are_refused_at_the_start() {
    let directory = TempDir::new().expect("directory");
    let authority = Authority::new();
    let (one, other) = (authority.write(directory.path(), "one"), authority.write(directory.path(), "other"));
    for tls in [
        ServerTls { cert: one.cert.clone(), key: other.key },
        ServerTls { cert: one.key.clone(), key: one.key.clone() },
        ServerTls { cert: directory.path().join("missing"), key: one.key },
    ] {
        let mut config = config(directory.path(), vec![]);
        config.tls = Some(tls);
        let error = start(&config).expect_err("refused");
        assert!(matches!(error, StartError::Config(_)), "{error}");
    }
}
