//! TLS towards upstreams: whom we believe, and who we say we are.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::core::v3::{DataSource, TransportSocket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstreams;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::util::pack_any;
use pb::common_tls_context::ValidationContextType;
use pb::subject_alt_name_matcher::SanType;
use pb::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, TlsCertificate, UpstreamTlsContext,
};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType as Name};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;
use upstreams::http_protocol_options::{AutoHttpConfig, UpstreamProtocolOptions};

use super::servers::{cluster, echo, http1_config, http2_config, listen, whole};
use crate::upstream::FailureKind;

const CATALOG: &str = "spiffe://omnimesh.test/ns/retail/sa/catalog";

/// The transport socket of a TLS context.
pub(super) fn socket(context: &UpstreamTlsContext) -> TransportSocket {
    TransportSocket {
        name: "tls".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(context.clone()))),
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn leaf(&self, names: &[Name]) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("a certificate"), key)
    }

    fn roots(&self) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        Arc::new(roots)
    }
}

fn catalog() -> [Name; 2] {
    [
        Name::URI(CATALOG.try_into().expect("a name")),
        Name::DnsName("catalog.test".try_into().expect("a name")),
    ]
}

/// An echoing HTTP/2 server over TLS.
async fn server(authority: &Authority, names: &[Name], clients: Option<&Authority>) -> std::net::SocketAddr {
    let (certificate, key) = authority.leaf(names);
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots(), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).expect("a server");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (listener, address) = listen().await;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(socket).await else { return };
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(echo(request, respond));
                }
            });
        }
    });
    address
}

fn inline(text: String) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineString(text)), ..Default::default() })
}

fn name(kind: SanType, pattern: MatchPattern) -> SubjectAltNameMatcher {
    let matcher = Some(StringMatcher { match_pattern: Some(pattern), ignore_case: false });
    SubjectAltNameMatcher { san_type: kind as i32, matcher, ..Default::default() }
}

fn context(validation: CertificateValidationContext) -> UpstreamTlsContext {
    let validation = Some(ValidationContextType::ValidationContext(validation));
    let common = CommonTlsContext { validation_context_type: validation, ..Default::default() };
    UpstreamTlsContext {
        sni: "anything.test".to_owned(),
        common_tls_context: Some(common),
        ..Default::default()
    }
}

fn trusting(authority: &Authority, names: Vec<SubjectAltNameMatcher>) -> UpstreamTlsContext {
    context(CertificateValidationContext {
        trusted_ca: inline(authority.0.pem()),
        match_typed_subject_alt_names: names,
        ..Default::default()
    })
}

#[tokio::test]
async fn a_server_is_believed_by_its_authority_and_its_names() {
    use MatchPattern::{Contains, Exact, Prefix, Suffix};
    let (authority, stranger) = (Authority::new(), Authority::new());
    let address = server(&authority, &catalog(), None).await;
    let uri = |pattern| vec![name(SanType::Uri, pattern)];
    let cases = [
        ("no names asked for", trusting(&authority, Vec::new()), true),
        ("the URI", trusting(&authority, uri(Exact(CATALOG.to_owned()))), true),
        ("a prefix", trusting(&authority, uri(Prefix("spiffe://omnimesh.test/".to_owned()))), true),
        ("a suffix", trusting(&authority, uri(Suffix("/catalog".to_owned()))), true),
        ("a part", trusting(&authority, uri(Contains("retail".to_owned()))), true),
        ("another URI", trusting(&authority, uri(Exact("spiffe://omnimesh.test/pos".to_owned()))), false),
        (
            "the right name of the wrong kind",
            trusting(&authority, vec![name(SanType::Dns, Exact(CATALOG.to_owned()))]),
            false,
        ),
        (
            "one of two",
            trusting(
                &authority,
                vec![
                    name(SanType::Uri, Exact("x".to_owned())),
                    name(SanType::Dns, Exact("catalog.test".to_owned())),
                ],
            ),
            true,
        ),
        ("another authority", trusting(&stranger, Vec::new()), false),
        ("no authority", context(CertificateValidationContext::default()), true),
        (
            "the name that is called, which it has not",
            UpstreamTlsContext { auto_sni_san_validation: true, ..trusting(&authority, Vec::new()) },
            false,
        ),
        (
            "the name that is called",
            UpstreamTlsContext {
                auto_sni_san_validation: true,
                sni: "catalog.test".to_owned(),
                ..trusting(&authority, Vec::new())
            },
            true,
        ),
    ];
    for (what, context, believed) in cases {
        let mut config = http2_config(&[address]);
        config.transport_socket = Some(socket(&context));
        let backend = cluster(&config);
        match whole(&backend, "hello").await {
            Ok((_, body)) => assert!(believed && body == "hello", "{what}"),
            Err(failure) => {
                assert!(!believed, "{what}: {failure}");
                assert_eq!(failure.kind, FailureKind::ConnectFailure, "{what}");
                assert!(failure.reason.starts_with("TLS_error:|"), "{what}: {}", failure.reason);
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_asks_who_we_are_is_shown_our_certificate() {
    let authority = Authority::new();
    let address = server(&authority, &catalog(), Some(&authority)).await;
    let (certificate, key) =
        authority.leaf(&[Name::URI("spiffe://omnimesh.test/edge".try_into().expect("a name"))]);
    for shown in [false, true] {
        let mut context = trusting(&authority, Vec::new());
        if shown {
            let own = TlsCertificate {
                certificate_chain: inline(certificate.pem()),
                private_key: inline(key.serialize_pem()),
                ..Default::default()
            };
            context.common_tls_context.as_mut().expect("a context").tls_certificates = vec![own];
        }
        let mut config = http2_config(&[address]);
        config.transport_socket = Some(socket(&context));
        assert_eq!(whole(&cluster(&config), "hello").await.is_ok(), shown);
    }
}

#[tokio::test]
async fn the_handshake_settles_the_protocol() {
    let authority = Authority::new();
    let address = server(&authority, &catalog(), None).await;
    let mut config = http1_config(&[address]);
    config.transport_socket = Some(socket(&trusting(&authority, Vec::new())));
    let options = upstreams::HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::AutoConfig(AutoHttpConfig::default())),
        ..Default::default()
    };
    config.typed_extension_protocol_options =
        [("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), pack_any(options))].into();
    let backend = cluster(&config);
    for _ in 0..3 {
        assert_eq!(whole(&backend, "hello").await.expect("an answer").1, "hello");
    }
    assert_eq!(
        (backend.stats.upstream_cx_http2_total.value(), backend.stats.upstream_cx_total.value()),
        (1, 1)
    );
}
