//! TLS towards upstreams: who we say we are, and whom we believe.

use std::sync::Arc;

use arc_swap::ArcSwap;
use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use pb::certificate_validation_context::TrustChainVerification;
use pb::common_tls_context::ValidationContextType;
use pb::{CommonTlsContext, UpstreamTlsContext};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::host::{Host, Target};
use super::read::refuse;
use super::settings::Protocol;
use crate::bootstrap::{type_name, unpack};
use crate::problem::{Path, Problem};
use crate::stats::Scope;
use crate::tls::stats::HandshakeStats;
use crate::tls::verify::{Pins, roots};
use crate::tls::{certificate, parameters, validation};
use crate::value::number;

const UPSTREAM: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const RAW: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

/// The TLS of a cluster's connections.
#[derive(Debug)]
pub(super) struct Tls {
    context: UpstreamTlsContext,
    alpn: Vec<Vec<u8>>,
    current: ArcSwap<ClientConfig>,
    pub(super) handshakes: HandshakeStats,
}

impl Tls {
    /// Reads a transport socket; none and a raw buffer mean no TLS.
    pub(super) fn compile(
        socket: Option<&TransportSocket>,
        protocol: Protocol,
        at: &Path<'_>,
        stats: &Scope,
    ) -> Result<Option<Self>, Problem> {
        let Some(socket) = socket else { return Ok(None) };
        let at = at.field("typed_config");
        let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
            return Err(at.problem(format!("is missing: give the type {UPSTREAM}")));
        };
        match type_name(&any.type_url) {
            UPSTREAM => {}
            RAW => return Ok(None),
            other => return Err(at.problem(format!("{other} is not supported: only {UPSTREAM} is"))),
        }
        let context: UpstreamTlsContext = unpack(any, &at)?;
        let common = context.common_tls_context.clone().unwrap_or_default();
        check(&common, &at.field("common_tls_context"))?;
        let mut alpn: Vec<Vec<u8>> =
            common.alpn_protocols.iter().map(|name| name.clone().into_bytes()).collect();
        if alpn.is_empty() || protocol == Protocol::Negotiated {
            alpn = match protocol {
                Protocol::Http1 => vec![b"http/1.1".to_vec()],
                Protocol::Http2 => vec![b"h2".to_vec()],
                Protocol::Negotiated => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
                Protocol::Downstream => Vec::new(),
            };
        }
        let current = ArcSwap::from(build(&context, &alpn, &at)?);
        Ok(Some(Self { context, alpn, current, handshakes: HandshakeStats::new(stats) }))
    }

    /// Reads the files anew; where they are no good, those that were read before stay.
    pub(super) fn reload(&self, at: &Path<'_>) -> Result<(), Problem> {
        self.current.store(build(&self.context, &self.alpn, at)?);
        Ok(())
    }

    /// The files that certificates come from.
    pub(super) fn files(&self) -> Vec<&str> {
        self.context.common_tls_context.as_ref().map(crate::tls::files).unwrap_or_default()
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.current.load_full()
    }

    /// The name that a host is called by in the handshake. An address is not sent.
    pub(super) fn name(&self, host: &Host) -> ServerName<'static> {
        let name = if self.context.auto_host_sni { &host.spec.hostname } else { &self.context.sni };
        if let Ok(name) = ServerName::try_from(name.as_str()) {
            return name.to_owned();
        }
        match &host.spec.target {
            Target::Tcp(address) => ServerName::IpAddress(address.ip().into()),
            Target::Unix(_) => ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        }
    }
}

fn check(common: &CommonTlsContext, at: &Path<'_>) -> Result<(), Problem> {
    refuse!(
        common,
        at,
        tls_certificate_sds_secret_configs,
        tls_certificate_provider_instance,
        custom_tls_certificate_selector,
        tls_certificate_certificate_provider,
        tls_certificate_certificate_provider_instance,
        custom_handshaker,
    );
    if common.tls_certificates.len() > 1 {
        return Err(at.field("tls_certificates").problem("must be at most one towards an upstream"));
    }
    let at = at.field("validation_context");
    match &common.validation_context_type {
        None => {}
        Some(ValidationContextType::ValidationContext(context)) => {
            refuse!(
                context,
                at,
                ca_certificate_provider_instance,
                system_root_certs,
                verify_certificate_spki,
                require_signed_certificate_timestamp,
                crl,
                allow_expired_certificate,
                custom_validator_config,
                only_verify_leaf_cert_crl,
                max_verify_depth,
            );
        }
        Some(_) => return Err(at.problem("only validation_context is supported: secrets come from files")),
    }
    Ok(())
}

fn build(
    context: &UpstreamTlsContext,
    alpn: &[Vec<u8>],
    at: &Path<'_>,
) -> Result<Arc<ClientConfig>, Problem> {
    let at_common = at.field("common_tls_context");
    let common = context.common_tls_context.clone().unwrap_or_default();
    let provider = Arc::new(parameters::provider(common.tls_params.as_ref(), &at_common)?);
    let algorithms = provider.signature_verification_algorithms;
    let pinned = validation(&common).cloned().unwrap_or_default();
    let at_validation = at_common.field("validation_context");
    let mut roots = roots(&pinned, &at_validation)?;
    if pinned.trust_chain_verification() == TrustChainVerification::AcceptUntrusted {
        roots = None;
    } else if roots.is_none() {
        tracing::warn!(at = %at_validation, "without trusted_ca any server's certificate is accepted");
    }
    let by_name = context.auto_sni_san_validation;
    let servers = Servers { roots, pins: Pins::compile(&pinned, &at_validation)?, by_name, algorithms };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&parameters::versions(common.tls_params.as_ref()))
        .map_err(|error| at_common.field("tls_params").problem(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(servers));
    let mut config = match common.tls_certificates.first() {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let identity = certificate::identity(own, &at_common.field("tls_certificates").index(0))?;
            let key = (*identity.key).clone();
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    config.alpn_protocols = alpn.to_vec();
    if number(context.max_session_keys.as_ref(), 1) == 0 {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// Verifies servers as Envoy does: the chain, and of the names only those that are asked for.
#[derive(Debug)]
struct Servers {
    roots: Option<Arc<RootCertStore>>,
    pins: Pins,
    by_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(leaf)?;
        if let Some(roots) = &self.roots {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        if self.by_name {
            verify_server_name(&certificate, name)?;
        }
        self.pins.check(leaf)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
