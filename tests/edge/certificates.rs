//! The tests' authority, the certificates it signed and a stranger's, as files.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::client::WebPkiServerVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::case::{BackendTls, ClientTls};

/// Those who hold a certificate, each with a name in DNS and one in SPIFFE.
const HOLDERS: [&str; 4] = ["edge", "shop", "catalog", "pos"];

/// The same keys for a whole run, as cases compare digests of certificates.
pub(crate) fn write(directory: &Path) {
    let authority = authority("Omnimesh test authority");
    std::fs::write(directory.join("ca.crt"), authority.as_ref().pem()).expect("written");
    for holder in HOLDERS {
        issue(&authority, directory, holder, "omnimesh.test");
    }
    let foreign = self::authority("A foreign authority");
    std::fs::write(directory.join("foreign.crt"), foreign.as_ref().pem()).expect("written");
    issue(&foreign, directory, "stranger", "stranger.test");
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).expect("params");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority")
}

fn issue(authority: &CertifiedIssuer<'static, KeyPair>, directory: &Path, holder: &str, domain: &str) {
    let names = vec![format!("{holder}.test"), format!("{holder}.internal")];
    let mut params = CertificateParams::new(names).expect("params");
    let spiffe = format!("spiffe://{domain}/ns/retail/sa/{holder}");
    params.subject_alt_names.push(SanType::URI(spiffe.try_into().expect("a URI")));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, holder);
    let key = KeyPair::generate().expect("key");
    let certificate = params.signed_by(&key, authority).expect("certificate");
    std::fs::write(directory.join(format!("{holder}.crt")), certificate.pem()).expect("written");
    std::fs::write(directory.join(format!("{holder}.key")), key.serialize_pem()).expect("written");
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(directory: &Path) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("ca.crt")).expect("authority")).expect("root");
    Arc::new(roots)
}

fn chain(directory: &Path, holder: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate =
        CertificateDer::from_pem_file(directory.join(format!("{holder}.crt"))).expect("certificate");
    (vec![certificate], PrivateKeyDer::from_pem_file(directory.join(format!("{holder}.key"))).expect("key"))
}

pub(crate) fn server(directory: &Path, tls: &BackendTls) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(directory), provider()).build();
    let builder = builder.expect("versions");
    let builder = if tls.mutual {
        builder.with_client_cert_verifier(verifier.expect("verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let (chain, key) = chain(directory, &tls.certificate);
    let mut config = builder.with_single_cert(chain, key).expect("certificate");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

pub(crate) fn client(directory: &Path, tls: &ClientTls, alpn: &str) -> Arc<ClientConfig> {
    let versions: &[&SupportedProtocolVersion] = match tls.version.as_deref() {
        Some("1.2") => &[&rustls::version::TLS12],
        Some("1.3") => &[&rustls::version::TLS13],
        _ => rustls::DEFAULT_VERSIONS,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(directory), provider()).build();
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let builder = builder.expect("versions").with_webpki_verifier(verifier.expect("verifier"));
    let mut config = match &tls.certificate {
        None => builder.with_no_client_auth(),
        Some(holder) => {
            let (chain, key) = chain(directory, holder);
            builder.with_client_auth_cert(chain, key).expect("certificate")
        }
    };
    config.alpn_protocols = match &tls.alpn {
        Some(protocols) => protocols.iter().map(|protocol| protocol.clone().into_bytes()).collect(),
        None => vec![alpn.as_bytes().to_vec()],
    };
    Arc::new(config)
}

/// Whose certificate this is.
pub(crate) fn holder(directory: &Path, certificate: &CertificateDer<'_>) -> String {
    let is_of = |holder: &&&str| {
        let known = CertificateDer::from_pem_file(directory.join(format!("{holder}.crt")));
        known.is_ok_and(|known| known == *certificate)
    };
    HOLDERS.iter().find(is_of).map_or("unknown", |holder| *holder).to_owned()
}
