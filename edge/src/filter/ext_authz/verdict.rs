//! What the authorization service decides, done to a call.

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::Shared;
use crate::call::Call;
use crate::flag::Flag;
use crate::head::{Head, joined};
use crate::reply::LocalReply;
use crate::value;

const NAMESPACE: &str = "envoy.filters.http.ext_authz";

/// The status of an answer, where a number is one.
pub(super) fn status(code: i32) -> Option<StatusCode> {
    let code = u16::try_from(code).ok().filter(|code| (200..600).contains(code))?;
    StatusCode::from_u16(code).ok()
}

/// What the service does to the response of a call that it lets pass.
#[derive(Clone, Debug, Default)]
pub(super) struct ResponseChanges(Vec<(HeaderName, HeaderValue, HeaderAppendAction)>);

impl ResponseChanges {
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        for (name, value, action) in self.0 {
            let present = headers.contains_key(&name);
            match action {
                HeaderAppendAction::AppendIfExistsOrAdd => drop(headers.append(name, value)),
                HeaderAppendAction::AddIfAbsent if present => {}
                HeaderAppendAction::OverwriteIfExists if !present => {}
                _ => drop(headers.insert(name, value)),
            }
        }
    }
}

/// A header cannot be what the service wants it to be.
#[derive(Debug)]
struct Invalid;

impl Shared {
    pub(super) fn decide(&self, call: &mut Call, answer: CheckResponse) -> Result<(), LocalReply> {
        let allowed = answer.status.is_none_or(|status| status.code == 0);
        let mut facts = answer.dynamic_metadata;
        if let Some(HttpResponse::OkResponse(ok)) = &answer.http_response {
            #[expect(deprecated, reason = "services of old tell their facts there, and Envoy prefers them")]
            let own = ok.dynamic_metadata.clone();
            facts = own.or(facts);
        }
        for (key, fact) in facts.iter().flat_map(value::object) {
            call.note(NAMESPACE, &key, fact);
        }
        match answer.http_response {
            Some(HttpResponse::OkResponse(ok)) if allowed => self.allow(call, ok),
            _ if allowed => self.allow(call, OkHttpResponse::default()),
            Some(HttpResponse::ErrorResponse(error)) => {
                let refusal = self.reply(error, self.status_on_error, "ext_authz_error")?;
                self.failed(call, refusal)
            }
            Some(HttpResponse::DeniedResponse(denied)) => Err(self.deny(call, denied)),
            _ => Err(self.deny(call, DeniedHttpResponse::default())),
        }
    }

    fn allow(&self, call: &mut Call, ok: OkHttpResponse) -> Result<(), LocalReply> {
        let changed = !ok.headers.is_empty()
            || !ok.headers_to_remove.is_empty()
            || !ok.query_parameters_to_set.is_empty()
            || !ok.query_parameters_to_remove.is_empty();
        for option in &ok.headers {
            if change(&mut call.request, option).is_err() {
                self.invalid()?;
            }
        }
        for name in &ok.headers_to_remove {
            if let Ok(name) = HeaderName::try_from(name)
                && name != HOST
            {
                call.request.headers.remove(name);
            }
        }
        let mut changes = ResponseChanges::default();
        for option in &ok.response_headers_to_add {
            match parts(option) {
                Ok((name, value)) => changes.0.push((name, value, action(option))),
                Err(Invalid) => self.invalid()?,
            }
        }
        call.kept.insert(changes);
        if !ok.query_parameters_to_set.is_empty() || !ok.query_parameters_to_remove.is_empty() {
            let set = ok.query_parameters_to_set.iter().map(|set| (&*set.key, &*set.value));
            call.request.change_query(set, ok.query_parameters_to_remove.iter().map(String::as_str));
        }
        call.reroute |= changed && self.clear_route_cache;
        self.stats.ok.inc();
        call.count(&self.stats.prefix, "ok");
        Ok(())
    }

    fn deny(&self, call: &Call, denied: DeniedHttpResponse) -> LocalReply {
        self.stats.denied.inc();
        call.count(&self.stats.prefix, "denied");
        let reply = match self.reply(denied, StatusCode::FORBIDDEN, "ext_authz_denied") {
            Ok(reply) => reply,
            Err(invalid) => return invalid,
        };
        if let Some(cluster) = call.cluster() {
            cluster.stats.answered(reply.status.as_u16());
        }
        reply
    }

    /// The service's own words.
    fn reply(
        &self,
        said: DeniedHttpResponse,
        usual: StatusCode,
        details: &'static str,
    ) -> Result<LocalReply, LocalReply> {
        let status = said.status.and_then(|said| status(said.code)).unwrap_or(usual);
        let mut reply =
            LocalReply::new(status, said.body, details).with_flag(Flag::UnauthorizedExternalService);
        for option in &said.headers {
            match parts(option) {
                Ok(header) => reply.headers.push(header),
                Err(Invalid) => self.invalid()?,
            }
        }
        Ok(reply)
    }

    /// What cannot stand in a header is left out, unless it shall be refused.
    fn invalid(&self) -> Result<(), LocalReply> {
        if !self.refuse_invalid {
            return Ok(());
        }
        self.stats.invalid.inc();
        let refused = LocalReply::new(StatusCode::INTERNAL_SERVER_ERROR, "", "ext_authz_invalid");
        Err(refused.with_flag(Flag::UnauthorizedExternalService))
    }
}

fn parts(option: &HeaderValueOption) -> Result<(HeaderName, HeaderValue), Invalid> {
    let header = option.header.as_ref().ok_or(Invalid)?;
    let name = HeaderName::try_from(&header.key).map_err(|_| Invalid)?;
    Ok((name, text(option)?))
}

fn text(option: &HeaderValueOption) -> Result<HeaderValue, Invalid> {
    let header = option.header.as_ref().ok_or(Invalid)?;
    let raw = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
    HeaderValue::from_bytes(raw).map_err(|_| Invalid)
}

#[expect(deprecated, reason = "services of old say it so")]
fn appends(option: &HeaderValueOption) -> Option<bool> {
    option.append.as_ref().map(|append| append.value)
}

fn action(option: &HeaderValueOption) -> HeaderAppendAction {
    match appends(option) {
        Some(true) => HeaderAppendAction::AppendIfExistsOrAdd,
        Some(false) => HeaderAppendAction::OverwriteIfExistsOrAdd,
        None => option.append_action(),
    }
}

/// Sets a header of the request; `append` adds to one that is there, and only then.
fn change(request: &mut Head, option: &HeaderValueOption) -> Result<(), Invalid> {
    let key = option.header.as_ref().map_or("", |header| &header.key).to_ascii_lowercase();
    let value = text(option)?;
    match key.as_str() {
        ":authority" | "host" => request.authority = value,
        ":method" => request.method = Method::from_bytes(value.as_bytes()).map_err(|_| Invalid)?,
        ":path" => request.path = PathAndQuery::try_from(value.as_bytes()).map_err(|_| Invalid)?,
        _ => {
            let name = HeaderName::try_from(key).map_err(|_| Invalid)?;
            if appends(option) != Some(true) {
                request.headers.insert(name, value);
            } else if let Some(there) = joined(&request.headers, &name) {
                let both = [&there, value.as_bytes()].join(&b',');
                request.headers.insert(name, HeaderValue::from_bytes(&both).map_err(|_| Invalid)?);
            }
        }
    }
    Ok(())
}
