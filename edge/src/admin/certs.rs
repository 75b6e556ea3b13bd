//! `/certs`: the certificates in use, from the files that the configuration names.

use std::time::SystemTime;

use envoy_types::pb::envoy::config::core::v3::{DataSource, TransportSocket, transport_socket::ConfigType};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use jiff::Timestamp;
use pb::common_tls_context::ValidationContextType;
use pb::{CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext};
use serde_json::{Map, Value, json};
use x509_parser::parse_x509_certificate;

use super::command::Query;
use super::{Admin, Reply};
use crate::bootstrap::unpack;
use crate::problem::Path;
use crate::tls::certificate;
use crate::value;

pub(super) fn certs(admin: &Admin, _: &Query) -> Reply {
    let resources = admin.core.serving().bootstrap.static_resources.clone().unwrap_or_default();
    let chains = resources
        .listeners
        .iter()
        .flat_map(|listener| listener.filter_chains.iter().chain(&listener.default_filter_chain))
        .filter_map(|chain| chain.transport_socket.as_ref());
    let clusters = resources.clusters.iter().filter_map(|cluster| cluster.transport_socket.as_ref());
    let certificates: Vec<_> =
        chains.chain(clusters).filter_map(common).map(|common| shown(&common)).collect();
    Reply::json(&json!({ "certificates": certificates }))
}

fn common(socket: &TransportSocket) -> Option<CommonTlsContext> {
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else { return None };
    let at = Path::root();
    let downstream =
        unpack::<DownstreamTlsContext>(any, &at).ok().and_then(|context| context.common_tls_context);
    downstream.or_else(|| unpack::<UpstreamTlsContext>(any, &at).ok()?.common_tls_context)
}

fn shown(common: &CommonTlsContext) -> Value {
    let ca = match &common.validation_context_type {
        Some(ValidationContextType::ValidationContext(context)) => context.trusted_ca.as_ref(),
        _ => None,
    };
    let own = common.tls_certificates.iter().filter_map(|certificate| certificate.certificate_chain.as_ref());
    let mut all = Map::new();
    for (key, sources) in [("ca_cert", ca.into_iter().collect::<Vec<_>>()), ("cert_chain", own.collect())] {
        let certificates: Vec<_> = sources.into_iter().filter_map(describe).collect();
        all.insert(key.to_owned(), certificates.into());
    }
    all.into()
}

/// What the first certificate of a source says.
fn describe(source: &DataSource) -> Option<Value> {
    let at = Path::root();
    let pem = value::read(source, &at).ok()?;
    let certificates = certificate::certificates(&pem, &at).ok()?;
    let (_, parsed) = parse_x509_certificate(certificates.first()?).ok()?;
    let names = certificate::names(&parsed);
    let of =
        |kind: &'static str, names: Vec<String>| names.into_iter().map(move |name| json!({ kind: name }));
    let names = of("dns", names.dns).chain(of("uri", names.uris)).chain(of("ip_address", names.addresses));
    let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let time = |seconds| Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default();
    let now = Timestamp::try_from(SystemTime::now()).ok()?.as_second();
    Some(json!({
        "path": value::file(source).unwrap_or("<inline>"),
        "serial_number": parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "subject_alt_names": names.collect::<Vec<_>>(),
        "days_until_expiration": ((until - now).max(0) / 86_400).to_string(),
        "valid_from": time(from),
        "expiration_time": time(until),
    }))
}
