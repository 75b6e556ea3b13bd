//! Certificates and authorities that change while calls go on.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::edge::{Config, Edge};
use crate::ends;
use crate::reload::Load;

/// An authority, and the leaves that it signs for both sides.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("certificate");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn leaf(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(["edge.example".to_owned()]).expect("names");
        (params.signed_by(&key, &self.issuer).expect("certificate"), key)
    }

    /// A transport socket with a leaf of this authority, in files of `directory`.
    pub(crate) fn server(&self, directory: &Path) -> Value {
        self.renew(directory);
        let file = |name: &str| json!({"filename": directory.join(name)});
        json!({"name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [
                    {"certificate_chain": file("edge.crt"), "private_key": file("edge.key")},
                ],
            },
        }})
    }

    /// Writes another leaf.
    fn renew(&self, directory: &Path) {
        let (certificate, key) = self.leaf();
        fs::write(directory.join("edge.crt"), certificate.pem()).expect("written");
        fs::write(directory.join("edge.key"), key.serialize_pem()).expect("written");
    }

    /// A client that trusts this authority and shows nothing.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::new(self.trusting().with_no_client_auth())
    }

    /// A client that trusts this authority and shows a leaf of `own`.
    fn client_of(&self, own: &Self) -> Arc<ClientConfig> {
        let (certificate, key) = own.leaf();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        let config = self.trusting().with_client_auth_cert(vec![certificate.der().clone()], key);
        let mut config = config.expect("client");
        // Each connection shows its certificate anew.
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }

    fn trusting(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        builder.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots)
    }
}

#[tokio::test]
async fn a_hundred_leaves_lose_no_call() {
    let backend = Backend::start().await;
    let (authority, directory) = (Authority::new("edge"), tempfile::tempdir().expect("directory"));
    let chain = json!({"transport_socket": authority.server(directory.path())});
    let config = Config { chain, ..Config::default() };
    let edge = Edge::start(&backend, &config).await;
    let client = authority.client();
    let load = Load::start(edge.address(), move || Some(Arc::clone(&client)));
    for _ in 0..100 {
        load.goes_on(2).await;
        authority.renew(directory.path());
        ends(edge.running.reload(config.load(&backend))).await.expect("another leaf");
    }
    fs::write(directory.path().join("edge.key"), "no key").expect("written");
    ends(edge.running.reload(config.load(&backend))).await.expect_err("what cannot be used changes nothing");
    load.goes_on(2).await;
    load.stop().await;
}

#[tokio::test]
async fn ten_bundles_lose_no_call() {
    let backend = Backend::start().await;
    let (authority, directory) = (Authority::new("edge"), tempfile::tempdir().expect("directory"));
    let mut socket = authority.server(directory.path());
    let bundle = directory.path().join("clients.crt");
    socket["typed_config"]["require_client_certificate"] = true.into();
    socket["typed_config"]["common_tls_context"]["validation_context"] =
        json!({"trusted_ca": {"filename": bundle}});
    let mut clients = Authority::new("clients");
    fs::write(&bundle, clients.certificate.pem()).expect("written");
    let config = Config { chain: json!({"transport_socket": socket}), ..Config::default() };
    let edge = Edge::start(&backend, &config).await;
    let shown = Arc::new(Mutex::new(authority.client_of(&clients)));
    let load = {
        let shown = Arc::clone(&shown);
        Load::start(edge.address(), move || Some(Arc::clone(&shown.lock().expect("client"))))
    };
    for _ in 0..10 {
        load.goes_on(3).await;
        // First both are believed, then clients change, then only the new one is.
        let next = Authority::new("clients");
        fs::write(&bundle, clients.certificate.pem() + &next.certificate.pem()).expect("written");
        ends(edge.running.reload(config.load(&backend))).await.expect("both bundles");
        *shown.lock().expect("client") = authority.client_of(&next);
        load.goes_on(3).await;
        fs::write(&bundle, next.certificate.pem()).expect("written");
        ends(edge.running.reload(config.load(&backend))).await.expect("the next bundle");
        clients = next;
    }
    load.goes_on(3).await;
    load.stop().await;
}
