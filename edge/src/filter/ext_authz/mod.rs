//! Asks an authorization service (`envoy.service.auth.v3`) whether a call may pass.

mod attributes;
mod verdict;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as pb;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::r#type::matcher::v3::ListStringMatcher;
use envoy_types::pb::google::protobuf::Any;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use pb::ext_authz::Services;
use pb::ext_authz_per_route::Override;

use crate::body::{BodyError, Source, Transformed};
use crate::bootstrap::unpack;
use crate::call::Call;
use crate::filter::{Context, Filter, Flow};
use crate::flag::Flag;
use crate::grpc::Service;
use crate::matcher::{Fraction, StringMatcher, each};
use crate::problem::{Path, Problem};
use crate::reply::{LocalReply, Reply};
use crate::stats::{Counter, Scope};
use crate::value;
use attributes::Shown;
use verdict::ResponseChanges;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// How long Envoy waits for a service.
const TIMEOUT: Duration = Duration::from_millis(200);
const FAILURE_MODE_ALLOWED: HeaderName = HeaderName::from_static("x-envoy-auth-failure-mode-allowed");

/// The filter as one route has it.
#[derive(Debug)]
pub(crate) struct ExtAuthz {
    shared: Arc<Shared>,
    disabled: bool,
    /// What the configuration tells the service of the route.
    extensions: HashMap<String, String>,
    shows_body: bool,
}

/// What no route changes.
#[derive(Debug)]
struct Shared {
    service: Service,
    failure_allows: bool,
    failure_is_told: bool,
    status_on_error: StatusCode,
    enabled: Option<Fraction>,
    deny_at_disable: bool,
    clear_route_cache: bool,
    refuse_invalid: bool,
    allowed_headers: Option<Vec<StringMatcher>>,
    disallowed_headers: Vec<StringMatcher>,
    tell_certificate: bool,
    tell_tls: bool,
    namespaces: Vec<String>,
    route_namespaces: Vec<String>,
    body: Option<BodyRules>,
    stats: Stats,
}

/// How much of a request's body the service is shown.
#[derive(Clone, Copy, Debug)]
struct BodyRules {
    longest: usize,
    allow_partial: bool,
    as_bytes: bool,
}

/// `http.<stat_prefix>.ext_authz.…`, and the same for clusters.
#[derive(Debug)]
struct Stats {
    /// `ext_authz.<stat_prefix>`
    prefix: String,
    ok: Counter,
    denied: Counter,
    error: Counter,
    disabled: Counter,
    invalid: Counter,
    failure_mode_allowed: Counter,
}

impl Stats {
    fn new(scope: &Scope, stat_prefix: &str) -> Self {
        let prefix = match stat_prefix {
            "" => "ext_authz".to_owned(),
            own => format!("ext_authz.{own}"),
        };
        let scope = scope.scope(&prefix);
        Self {
            prefix,
            ok: scope.counter("ok"),
            denied: scope.counter("denied"),
            error: scope.counter("error"),
            disabled: scope.counter("disabled"),
            invalid: scope.counter("invalid"),
            failure_mode_allowed: scope.counter("failure_mode_allowed"),
        }
    }
}

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    let config: pb::ExtAuthz = unpack(config, at)?;
    refuse(&config, at)?;
    let at_service = at.field("grpc_service");
    let service = match &config.services {
        Some(Services::GrpcService(service)) => {
            let timeout = value::limit(service.timeout.as_ref(), Some(TIMEOUT));
            Service::compile(service, timeout, &at_service, context)?
        }
        Some(Services::HttpService(_)) => {
            return Err(at.field("http_service").problem("is not supported: use grpc_service"));
        }
        None => return Err(at_service.problem("is required")),
    };
    let status = config.status_on_error.as_ref().map_or(403, |status| status.code);
    let list = |list: &ListStringMatcher, field: &str| {
        each(&list.patterns, &at.field(field), "patterns", StringMatcher::compile)
    };
    let allowed_headers = config.allowed_headers.as_ref();
    let disallowed_headers = config.disallowed_headers.as_ref();
    let body = config.with_request_body.as_ref().map(|body| BodyRules {
        longest: body.max_request_bytes as usize,
        allow_partial: body.allow_partial_message,
        as_bytes: body.pack_as_bytes,
    });
    let shared = Shared {
        service,
        failure_allows: config.failure_mode_allow,
        failure_is_told: config.failure_mode_allow_header_add,
        status_on_error: verdict::status(status)
            .ok_or_else(|| at.field("status_on_error").field("code").problem("is no status of an answer"))?,
        enabled: config
            .filter_enabled
            .as_ref()
            .map(|enabled| Fraction::compile(enabled.default_value.as_ref())),
        deny_at_disable: config
            .deny_at_disable
            .as_ref()
            .and_then(|deny| deny.default_value)
            .is_some_and(|deny| deny.value),
        clear_route_cache: config.clear_route_cache,
        refuse_invalid: config.validate_mutations,
        allowed_headers: allowed_headers.map(|allowed| list(allowed, "allowed_headers")).transpose()?,
        disallowed_headers: disallowed_headers
            .map(|disallowed| list(disallowed, "disallowed_headers"))
            .transpose()?
            .unwrap_or_default(),
        tell_certificate: config.include_peer_certificate,
        tell_tls: config.include_tls_session,
        namespaces: config.metadata_context_namespaces,
        route_namespaces: config.route_metadata_context_namespaces,
        body,
        stats: Stats::new(context.stats, &config.stat_prefix),
    };
    let shows_body = shared.body.is_some();
    Ok(Arc::new(ExtAuthz {
        shared: Arc::new(shared),
        disabled: false,
        extensions: HashMap::new(),
        shows_body,
    }))
}

fn refuse(config: &pb::ExtAuthz, at: &Path<'_>) -> Result<(), Problem> {
    let unsupported = [
        ("typed_metadata_context_namespaces", !config.typed_metadata_context_namespaces.is_empty()),
        (
            "route_typed_metadata_context_namespaces",
            !config.route_typed_metadata_context_namespaces.is_empty(),
        ),
        ("filter_enabled_metadata", config.filter_enabled_metadata.is_some()),
        ("bootstrap_metadata_labels_key", !config.bootstrap_metadata_labels_key.is_empty()),
        ("encode_raw_headers", config.encode_raw_headers),
        ("decoder_header_mutation_rules", config.decoder_header_mutation_rules.is_some()),
        ("shadow_mode", config.shadow_mode),
    ];
    match unsupported.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(at.field(field).problem("is not supported: remove it")),
        None => Ok(()),
    }
}

impl Filter for ExtAuthz {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        if self.disabled || call.route.is_none() {
            return Flow::Continue;
        }
        let shared = &*self.shared;
        if shared.enabled.is_some_and(|enabled| !enabled.takes(call.random)) {
            shared.stats.disabled.inc();
            return if shared.deny_at_disable { Flow::Reply(shared.refusal()) } else { Flow::Continue };
        }
        Flow::Wait(Box::pin(self.check(call)))
    }

    fn response(&self, call: &mut Call, reply: &mut Reply) {
        if let Some(changes) = call.kept.remove::<ResponseChanges>() {
            changes.apply(&mut reply.headers);
        }
    }

    fn on_route(
        &self,
        config: &Any,
        at: &Path<'_>,
        _context: &Context<'_>,
    ) -> Result<Arc<dyn Filter>, Problem> {
        let config: pb::ExtAuthzPerRoute = unpack(config, at)?;
        let shared = Arc::clone(&self.shared);
        let shows_body = shared.body.is_some();
        let filter = match config.r#override {
            Some(Override::Disabled(disabled)) => {
                Self { shared, disabled, extensions: HashMap::new(), shows_body }
            }
            Some(Override::CheckSettings(settings)) => {
                let at = at.field("check_settings");
                if settings.with_request_body.is_some() {
                    return Err(at.field("with_request_body").problem("is supported for all routes only"));
                }
                if settings.service_override.is_some() {
                    return Err(at.problem("a service of a route's own is not supported"));
                }
                Self {
                    shared,
                    disabled: false,
                    extensions: settings.context_extensions,
                    shows_body: shows_body && !settings.disable_request_body_buffering,
                }
            }
            None => return Err(at.problem("needs one of disabled, check_settings")),
        };
        Ok(Arc::new(filter))
    }
}

impl ExtAuthz {
    async fn check(&self, call: &mut Call) -> Result<(), LocalReply> {
        let shared = &*self.shared;
        let shown = match shared.body.filter(|_| self.shows_body) {
            Some(rules) => read_body(call, rules).await?,
            None => None,
        };
        let question = attributes::question(self, call, shown);
        let answer = shared.service.ask::<_, CheckResponse>(CHECK, &question, call);
        match answer.await {
            Ok(answer) => shared.decide(call, answer),
            Err(error) => {
                tracing::debug!(%error, "the authorization service did not answer");
                shared.failed(call, shared.refusal())
            }
        }
    }
}

impl Shared {
    fn tells(&self, header: &str) -> bool {
        self.allowed_headers
            .as_ref()
            .is_none_or(|allowed| allowed.iter().any(|matcher| matcher.matches(header)))
            && !self.disallowed_headers.iter().any(|matcher| matcher.matches(header))
    }

    /// What a client is told where nobody could be asked.
    fn refusal(&self) -> LocalReply {
        LocalReply::new(self.status_on_error, "", "ext_authz_error")
            .with_flag(Flag::UnauthorizedExternalService)
    }

    /// The service has not decided.
    fn failed(&self, call: &mut Call, refusal: LocalReply) -> Result<(), LocalReply> {
        self.stats.error.inc();
        call.count(&self.stats.prefix, "error");
        if !self.failure_allows {
            return Err(refusal);
        }
        self.stats.failure_mode_allowed.inc();
        call.count(&self.stats.prefix, "failure_mode_allowed");
        if self.failure_is_told {
            call.request.headers.append(FAILURE_MODE_ALLOWED, HeaderValue::from_static("true"));
        }
        Ok(())
    }
}

/// Reads as much of a request's body as the service is shown; it goes upstream all the same.
async fn read_body(call: &mut Call, rules: BodyRules) -> Result<Option<Shown>, LocalReply> {
    if http_body::Body::is_end_stream(&call.body) {
        return Ok(None);
    }
    let mut rest = std::mem::replace(&mut call.body, Transformed::new(Source::Empty));
    let mut first = BytesMut::new();
    while !(rules.allow_partial && first.len() >= rules.longest) {
        let frame = match rest.frame().await {
            Some(Ok(frame)) => frame,
            Some(Err(BodyError::Refused(refused))) => return Err(*refused),
            Some(Err(_)) => {
                let gone = LocalReply::new(StatusCode::BAD_REQUEST, "", "downstream_remote_disconnect");
                return Err(gone.with_flag(Flag::DownstreamConnectionTermination));
            }
            None => break,
        };
        first.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if !rules.allow_partial && first.len() > rules.longest {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(LocalReply::new(status, "Payload Too Large", "request_payload_too_large"));
        }
    }
    let first = first.freeze();
    let body = first.slice(..first.len().min(rules.longest));
    let partial = body.len() < first.len();
    call.body = Transformed::new(Source::Begun { first: Some(first), rest: Box::new(rest) });
    Ok(Some(Shown { body, partial }))
}
