//! TLS towards clients: whose certificate is shown, and which clients' certificates are believed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::core::v3::{DataSource, TransportSocket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use pb::common_tls_context::ValidationContextType;
use pb::{CertificateValidationContext, CommonTlsContext, DownstreamTlsContext};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::bootstrap;
use crate::call::{PeerCertificate, TlsFacts};
use crate::problem::{Path, Problem};
use crate::tls::certificate::{self, Identity};
use crate::tls::{self, parameters};
use crate::value;

/// A filter chain's TLS, made again whenever its files change.
#[derive(Debug)]
pub(crate) struct ServerTls {
    source: DownstreamTlsContext,
    current: ArcSwap<Ready>,
}

/// Whether a transport socket is the one without TLS.
pub(crate) fn is_plaintext(socket: &TransportSocket) -> bool {
    matches!(&socket.config_type, Some(ConfigType::TypedConfig(any))
        if any.type_url.ends_with("/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"))
}

/// What the files held when they were read last.
#[derive(Debug)]
struct Ready {
    config: Arc<ServerConfig>,
    local_uris: Vec<String>,
    verifies: bool,
}

impl ServerTls {
    pub(crate) fn compile(socket: &TransportSocket, at: &Path<'_>) -> Result<Self, Problem> {
        let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
            return Err(at.problem("a transport socket needs typed_config with its \"@type\""));
        };
        let at = at.field("typed_config");
        let source: DownstreamTlsContext = bootstrap::unpack(any, &at)?;
        let current = ArcSwap::from_pointee(ready(&source, &at)?);
        Ok(Self { source, current })
    }

    /// Reads the files again. What cannot be used leaves everything as it was.
    pub(crate) fn reload(&self, at: &Path<'_>) -> Result<(), Problem> {
        self.current.store(Arc::new(ready(&self.source, at)?));
        Ok(())
    }

    /// The files that it is made of.
    pub(crate) fn files(&self) -> Vec<&str> {
        self.source.common_tls_context.as_ref().map(tls::files).unwrap_or_default()
    }

    /// Whether clients have to say whom they want.
    pub(crate) fn requires_sni(&self) -> bool {
        value::flag(self.source.require_sni.as_ref(), false)
    }

    /// What is asked of clients, apart from the certificates, which are rotated.
    pub(crate) fn demands(&self) -> DownstreamTlsContext {
        let mut demands = self.source.clone();
        if let Some(common) = &mut demands.common_tls_context {
            common.tls_certificates.clear();
            if let Some(ValidationContextType::ValidationContext(context)) =
                &mut common.validation_context_type
            {
                for bundle in [&mut context.trusted_ca, &mut context.crl] {
                    *bundle = bundle.take().map(|_| DataSource::default());
                }
            }
        }
        demands
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// What a finished handshake tells.
    pub(crate) fn facts(&self, connection: &rustls::ServerConnection) -> TlsFacts {
        let ready = self.current.load();
        let chain = connection.peer_certificates().unwrap_or_default();
        TlsFacts {
            sni: connection.server_name().map(str::to_owned),
            version: match connection.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: connection
                .negotiated_cipher_suite()
                .map(|suite| format!("{:?}", suite.suite()))
                .unwrap_or_default(),
            peer: certificate::peer(chain).map(|peer| PeerCertificate { verified: ready.verifies, ..peer }),
            local_uris: ready.local_uris.clone(),
        }
    }
}

fn ready(source: &DownstreamTlsContext, at: &Path<'_>) -> Result<Ready, Problem> {
    let at = at.field("common_tls_context");
    let common = source.common_tls_context.clone().unwrap_or_default();
    let provider = Arc::new(parameters::provider(common.tls_params.as_ref(), &at)?);
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&parameters::versions(common.tls_params.as_ref()))
        .map_err(|error| at.field("tls_params").problem(error.to_string()))?;
    let required = value::flag(source.require_client_certificate.as_ref(), false);
    let (context, context_at) = (tls::validation(&common), at.field("validation_context"));
    let verifies = context.is_some_and(|context| context.trusted_ca.is_some());
    let builder = match (context, required) {
        (None, false) => builder.with_no_client_auth(),
        (context, required) => builder.with_client_cert_verifier(tls::verify::clients(
            context.unwrap_or(&CertificateValidationContext::default()),
            required,
            &context_at,
        )?),
    };
    let identities = identities(&common, &at)?;
    let local_uris = identities.first().map(|first| first.uris.clone()).unwrap_or_default();
    let mut config = builder.with_cert_resolver(Arc::new(BySni(identities)));
    config.alpn_protocols = common.alpn_protocols.iter().map(|name| name.clone().into_bytes()).collect();
    if !source.disable_stateful_session_resumption
        && let Ok(tickets) = ring::Ticketer::new()
    {
        config.ticketer = tickets;
        config.send_tls13_tickets = 1;
    }
    Ok(Ready { config: Arc::new(config), local_uris, verifies })
}

fn identities(common: &CommonTlsContext, at: &Path<'_>) -> Result<Vec<Identity>, Problem> {
    let at = at.field("tls_certificates");
    if common.tls_certificates.is_empty() {
        return Err(at.problem("a server needs a certificate and its key"));
    }
    let certificates = common.tls_certificates.iter().enumerate();
    certificates.map(|(i, certificate)| certificate::identity(certificate, &at.index(i))).collect()
}

/// Shows the certificate that carries the name a client asks for; the first one to everybody else.
#[derive(Debug)]
struct BySni(Vec<Identity>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.0.iter().find(|identity| identity.serves(name)));
        named.or(self.0.first()).map(|identity| Arc::clone(&identity.key))
    }
}
