//! Whose certificates are believed: an authority, and names that the certificate must carry.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use pb::CertificateValidationContext;
use pb::subject_alt_name_matcher::SanType;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::parse_x509_certificate;

use crate::matcher::StringMatcher;
use crate::problem::{Path, Problem};
use crate::tls::certificate;
use crate::value;

/// What a certificate must carry besides a valid chain. Empty: nothing.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    names: Vec<(SanType, StringMatcher)>,
    /// SHA-256 of the whole certificate, in lower-case hex.
    hashes: Vec<String>,
}

impl Pins {
    #[expect(deprecated, reason = "Envoy still reads match_subject_alt_names")]
    pub(crate) fn compile(context: &CertificateValidationContext, at: &Path<'_>) -> Result<Self, Problem> {
        let at_names = at.field("match_typed_subject_alt_names");
        let mut names = Vec::new();
        for (i, name) in context.match_typed_subject_alt_names.iter().enumerate() {
            let at = at_names.index(i);
            let matcher = name.matcher.as_ref().ok_or_else(|| at.problem("needs a matcher"))?;
            names.push((name.san_type(), StringMatcher::compile(matcher, &at.field("matcher"))?));
        }
        let at_names = at.field("match_subject_alt_names");
        for (i, matcher) in context.match_subject_alt_names.iter().enumerate() {
            for kind in [SanType::Dns, SanType::Uri] {
                names.push((kind, StringMatcher::compile(matcher, &at_names.index(i))?));
            }
        }
        let hashes = context.verify_certificate_hash.iter().map(|hash| hash.replace(':', "").to_lowercase());
        Ok(Self { names, hashes: hashes.collect() })
    }

    pub(crate) fn check(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        if !self.hashes.is_empty() {
            let digest = Sha256::digest(leaf);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            if !self.hashes.contains(&digest) {
                return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
            }
        }
        if self.names.is_empty() {
            return Ok(());
        }
        let (_, parsed) = parse_x509_certificate(leaf)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let names = certificate::names(&parsed);
        let matches = self.names.iter().any(|(kind, matcher)| {
            let carried = match kind {
                SanType::Uri => &names.uris,
                SanType::Dns => &names.dns,
                SanType::Email => &names.emails,
                SanType::IpAddress => &names.addresses,
                _ => return false,
            };
            carried.iter().any(|name| matcher.matches(name))
        });
        if matches { Ok(()) } else { Err(Error::InvalidCertificate(CertificateError::NotValidForName)) }
    }
}

/// The authorities of a validation context; `None`: nothing is verified.
pub(crate) fn roots(
    context: &CertificateValidationContext,
    at: &Path<'_>,
) -> Result<Option<Arc<RootCertStore>>, Problem> {
    let Some(source) = &context.trusted_ca else { return Ok(None) };
    let at = at.field("trusted_ca");
    let mut roots = RootCertStore::empty();
    for authority in certificate::certificates(&value::read(source, &at)?, &at)? {
        roots.add(authority).map_err(|error| at.problem(format!("not an authority: {error}")))?;
    }
    Ok(Some(Arc::new(roots)))
}

/// Revocation lists of a validation context.
pub(crate) fn revoked(
    context: &CertificateValidationContext,
    at: &Path<'_>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Problem> {
    let Some(source) = &context.crl else { return Ok(Vec::new()) };
    let at = at.field("crl");
    CertificateRevocationListDer::pem_slice_iter(&value::read(source, &at)?)
        .collect::<Result<_, _>>()
        .map_err(|error| at.problem(format!("not revocation lists in PEM: {error}")))
}

/// The verifier of clients' certificates.
pub(crate) fn clients(
    context: &CertificateValidationContext,
    required: bool,
    at: &Path<'_>,
) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let pins = Pins::compile(context, at)?;
    let chain = match roots(context, at)? {
        None => None,
        Some(roots) => {
            let provider = Arc::new(ring::default_provider());
            let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .with_crls(revoked(context, at)?)
                .allow_unknown_revocation_status();
            if !required {
                builder = builder.allow_unauthenticated();
            }
            Some(builder.build().map_err(|error| at.problem(error.to_string()))?)
        }
    };
    Ok(Arc::new(Clients {
        chain,
        required,
        pins,
        algorithms: ring::default_provider().signature_verification_algorithms,
    }))
}

/// Asks clients for certificates; without an authority it believes what they show.
#[derive(Debug)]
struct Clients {
    chain: Option<Arc<dyn ClientCertVerifier>>,
    required: bool,
    pins: Pins,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(leaf, intermediates, now)?;
        }
        self.pins.check(leaf)?;
        Ok(ClientCertVerified::assertion())
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
