//! How handshakes ended, under Envoy's names.

use std::io;

use rustls::{CertificateError, Error};

use crate::stats::{Counter, Scope};

/// `….ssl.…` of a listener or a cluster.
#[derive(Debug)]
pub(crate) struct HandshakeStats {
    succeeded: Counter,
    failed: Counter,
    no_certificate: Counter,
    untrusted: Counter,
    other_name: Counter,
    other_certificate: Counter,
}

impl HandshakeStats {
    pub(crate) fn new(scope: &Scope) -> Self {
        let scope = scope.scope("ssl");
        Self {
            succeeded: scope.counter("handshake"),
            failed: scope.counter("connection_error"),
            no_certificate: scope.counter("fail_verify_no_cert"),
            untrusted: scope.counter("fail_verify_error"),
            other_name: scope.counter("fail_verify_san"),
            other_certificate: scope.counter("fail_verify_cert_hash"),
        }
    }

    pub(crate) fn count<T>(&self, handshake: &io::Result<T>) {
        let Err(error) = handshake else { return self.succeeded.inc() };
        let counter = match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
            Some(Error::NoCertificatesPresented) => &self.no_certificate,
            Some(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => &self.other_name,
            Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
                &self.other_certificate
            }
            Some(Error::InvalidCertificate(_)) => &self.untrusted,
            _ => &self.failed,
        };
        counter.inc();
    }
}
