//! What is made of a request before any filter sees it: a head that can be read in one way, and its route.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, StatusCode, Version};
use http_body::Body as _;

use crate::call::Call;
use crate::downstream::hcm::Hcm;
use crate::downstream::normalize;
use crate::reply::LocalReply;

/// Brings the head into the form that everything behind it expects, and finds its route.
pub(crate) fn arrive(call: &mut Call, hcm: &Hcm) -> Result<(), LocalReply> {
    if call.request.authority.is_empty() {
        if call.version == Version::HTTP_10 && !hcm.default_host.is_empty() {
            call.request.authority = HeaderValue::from_str(&hcm.default_host)
                .map_err(|_| LocalReply::new(StatusCode::BAD_REQUEST, "", "missing_host_header"))?;
        } else {
            return Err(LocalReply::new(StatusCode::BAD_REQUEST, "", "missing_host_header"));
        }
    }
    let authority = call.request.authority.clone();
    call.request.authority = hcm.path.authority(authority, call.connection.local.port());
    normalize::check_names(hcm, &mut call.request.headers, call.version)?;
    normalize::drop_nominated(&mut call.request.headers);
    if let Some(path) = hcm.path.path(&call.request.path, call.is_grpc())? {
        call.request.path = path;
    }
    call.remote = normalize::client(&hcm.identity, &call.request.headers, &call.connection);
    normalize::annotate(
        &hcm.identity,
        &mut call.request.headers,
        &call.connection,
        call.remote,
        &hcm.routes.internal_only_headers,
    );
    if let Some(scheme) = &hcm.scheme {
        call.request.scheme = scheme.clone();
        normalize::tell_scheme(&mut call.request.headers, scheme);
    }
    let protocol = normalize::wanted_upgrade(&mut call.request.headers);
    find_route(call, hcm);
    if let Some(tracer) = &hcm.tracer {
        tracer.begin(call);
    }
    if let Some(protocol) = protocol {
        may_upgrade(call, hcm, &protocol)?;
    } else if call.upgrade.take().is_some() && call.body.is_end_stream() {
        call.meter.end(Instant::now());
    }
    Ok(())
}

/// Finds the call's route, and the cluster that it leads to.
pub(crate) fn find_route(call: &mut Call, hcm: &Hcm) {
    call.route = hcm.routes.find(&call.request, &call.connection, call.random);
    call.upstream.cluster = call.cluster().map(|cluster| Arc::clone(&cluster.name));
}

/// Whether the connection may go over to `protocol`: as the route says, else as the connection manager does.
fn may_upgrade(call: &Call, hcm: &Hcm, protocol: &HeaderValue) -> Result<(), LocalReply> {
    let protocol = protocol.to_str().unwrap_or_default();
    let route = call.route.as_ref().and_then(|route| route.forward()?.upgrades.allows(protocol));
    let allowed = route.or(hcm.upgrades.allows(protocol)).unwrap_or(false);
    match allowed && call.upgrade.is_some() {
        true => Ok(()),
        false => Err(LocalReply::new(StatusCode::FORBIDDEN, "", "upgrade_failed")),
    }
}
