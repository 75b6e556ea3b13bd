//! Figures of gRPC calls by service and method, with the statuses that clients were told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::filter_config::PerMethodStatSpecifier;
use envoy_types::pb::google::protobuf::Any;

use crate::body::Transform;
use crate::bootstrap::unpack;
use crate::call::Call;
use crate::filter::{Context, Filter, Flow};
use crate::problem::{Path, Problem};
use crate::reply::{LocalReply, Reply, is_grpc};
use crate::stats::{Counter, Scope};

const NAMESPACE: &str = "envoy.filters.http.grpc_stats";
/// A message's compression flag and its length.
const PREFIX: usize = 5;
/// How many statuses gRPC has.
const STATUSES: usize = 17;

/// Counts calls and their messages under `cluster.<name>.grpc`.
#[derive(Debug)]
pub(crate) struct GrpcStats {
    methods: Methods,
    replace_dots: bool,
    emit_state: bool,
    scope: Scope,
    /// By cluster, then by service and method as the path has them.
    figures: Mutex<HashMap<Arc<str>, HashMap<String, Arc<Figures>>>>,
}

/// Which methods have figures of their own.
#[derive(Debug)]
enum Methods {
    None,
    All,
    /// Those of these paths.
    Listed(Vec<String>),
}

#[derive(Debug)]
struct Figures {
    success: Counter,
    failure: Counter,
    total: Counter,
    request_messages: Counter,
    response_messages: Counter,
    statuses: [Mutex<Option<Counter>>; STATUSES],
    scope: Scope,
}

/// What is counted of one call.
#[derive(Clone, Debug)]
struct Counted {
    figures: Arc<Figures>,
    requests: Arc<AtomicU64>,
    responses: Arc<AtomicU64>,
}

pub(crate) fn make(config: &Any, at: &Path<'_>, context: &Context<'_>) -> Result<Arc<dyn Filter>, Problem> {
    Ok(Arc::new(GrpcStats::compile(&unpack(config, at)?, at, context.stats)?))
}

impl Filter for GrpcStats {
    fn request<'a>(&'a self, call: &'a mut Call) -> Flow<'a> {
        if !call.is_grpc() {
            return Flow::Continue;
        }
        let cluster = call.route.as_ref().and_then(|route| route.forward()?.cluster(call));
        let Some(cluster) = cluster else { return Flow::Continue };
        let figures = self.figures(&cluster, call.request.path_only());
        let (requests, responses) = (Arc::default(), Arc::default());
        let messages = Messages::new(&requests, &figures.request_messages);
        let counted = Counted { figures, requests, responses };
        call.body.push(Box::new(messages));
        call.kept.insert(counted);
        Flow::Continue
    }

    fn response(&self, call: &mut Call, reply: &mut Reply) {
        if let Some(counted) = call.kept.get::<Counted>()
            && is_grpc(&reply.headers)
            && !http_body::Body::is_end_stream(&reply.body)
        {
            let messages = Messages::new(&counted.responses, &counted.figures.response_messages);
            reply.body.push(Box::new(messages));
        }
    }

    fn ended(&self, call: &mut Call) {
        let Some(counted) = call.kept.get::<Counted>().cloned() else { return };
        if let Some(status) = call.ended.grpc_status {
            counted.figures.end(status);
        }
        if self.emit_state {
            for (name, count) in
                [("request_message_count", &counted.requests), ("response_message_count", &counted.responses)]
            {
                // As JSON writes 64 bits.
                call.note(NAMESPACE, name, count.load(Ordering::Relaxed).to_string().into());
            }
        }
    }
}

impl GrpcStats {
    fn compile(config: &FilterConfig, at: &Path<'_>, scope: &Scope) -> Result<Self, Problem> {
        if config.enable_upstream_stats {
            return Err(at.field("enable_upstream_stats").problem("is not supported: remove it"));
        }
        let methods = match &config.per_method_stat_specifier {
            Some(PerMethodStatSpecifier::StatsForAllMethods(all)) if all.value => Methods::All,
            Some(PerMethodStatSpecifier::IndividualMethodStatsAllowlist(list)) => {
                let paths = list.services.iter().flat_map(|service| {
                    service.method_names.iter().map(|method| format!("/{}/{method}", service.name))
                });
                Methods::Listed(paths.collect())
            }
            _ => Methods::None,
        };
        Ok(Self {
            methods,
            replace_dots: config.replace_dots_in_grpc_service_name,
            emit_state: config.emit_filter_state,
            scope: scope.clone(),
            figures: Mutex::default(),
        })
    }

    /// The figures of a call, which are made when they are first needed.
    fn figures(&self, cluster: &str, path: &str) -> Arc<Figures> {
        let named = match &self.methods {
            Methods::None => false,
            Methods::All => true,
            Methods::Listed(paths) => paths.iter().any(|listed| listed == path),
        };
        let method = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let method = method.filter(|(service, method)| named && !service.is_empty() && !method.is_empty());
        let key = if method.is_some() { path } else { "" };
        let mut all = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(figures) = all.get(cluster).and_then(|methods| methods.get(key)) {
            return Arc::clone(figures);
        }
        let scope = self.scope.beside(format!("cluster.{}.grpc", cluster.replace(':', "_")));
        let figures = Arc::new(Figures::new(match method {
            Some((service, method)) if self.replace_dots => {
                scope.scope(&format!("{}.{method}", service.replace('.', "_")))
            }
            Some((service, method)) => scope.scope(&format!("{service}.{method}")),
            None => scope,
        }));
        all.entry(cluster.into()).or_default().insert(key.to_owned(), Arc::clone(&figures));
        figures
    }
}

impl Figures {
    fn new(scope: Scope) -> Self {
        Self {
            success: scope.counter("success"),
            failure: scope.counter("failure"),
            total: scope.counter("total"),
            request_messages: scope.counter("request_message_count"),
            response_messages: scope.counter("response_message_count"),
            statuses: std::array::from_fn(|_| Mutex::default()),
            scope,
        }
    }

    /// Counts a call that has ended.
    fn end(&self, status: i32) {
        self.total.inc();
        if status == 0 {
            self.success.inc()
        } else {
            self.failure.inc()
        }
        match usize::try_from(status).ok().and_then(|status| self.statuses.get(status)) {
            Some(known) => {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                known.get_or_insert_with(|| self.scope.counter(&status.to_string())).inc();
            }
            None => self.scope.counter(&status.to_string()).inc(),
        }
    }
}

/// Counts messages as they pass, by the lengths they begin with.
struct Messages {
    of_call: Arc<AtomicU64>,
    of_method: Counter,
    /// What has been read of a message's prefix.
    prefix: [u8; PREFIX],
    filled: usize,
    /// Bytes of the message that are still to come.
    left: u64,
}

impl Messages {
    fn new(of_call: &Arc<AtomicU64>, of_method: &Counter) -> Self {
        let (of_call, of_method) = (Arc::clone(of_call), of_method.clone());
        Self { of_call, of_method, prefix: [0; PREFIX], filled: 0, left: 0 }
    }
}

impl Transform for Messages {
    fn data(&mut self, data: Bytes) -> Result<Bytes, LocalReply> {
        let mut rest = &data[..];
        while !rest.is_empty() {
            if self.left > 0 {
                let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                self.left -= skipped as u64;
                rest = &rest[skipped..];
                continue;
            }
            if self.filled == 0 {
                self.of_call.fetch_add(1, Ordering::Relaxed);
                self.of_method.inc();
            }
            let taken = rest.len().min(PREFIX - self.filled);
            self.prefix[self.filled..self.filled + taken].copy_from_slice(&rest[..taken]);
            self.filled += taken;
            rest = &rest[taken..];
            if self.filled == PREFIX {
                let [_, a, b, c, d] = self.prefix;
                self.left = u32::from_be_bytes([a, b, c, d]).into();
                self.filled = 0;
            }
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::GrpcMethodList;
    use envoy_types::pb::envoy::config::core::v3::grpc_method_list::Service;
    use envoy_types::pb::google::protobuf::BoolValue;

    use super::*;
    use crate::stats::{Stat, Stats};

    fn counted(specifier: PerMethodStatSpecifier, replace_dots: bool, path: &str) -> Vec<String> {
        let stats = Stats::default();
        let config = FilterConfig {
            per_method_stat_specifier: Some(specifier),
            replace_dots_in_grpc_service_name: replace_dots,
            ..FilterConfig::default()
        };
        let filter = GrpcStats::compile(&config, &Path::root(), &stats.scope("http.web")).unwrap();
        filter.figures("backend", path).end(5);
        filter.figures("backend", path).end(0);
        let counters = stats.all().into_iter().filter_map(|(name, stat)| match stat {
            Stat::Counter(counter) if counter.value() > 0 => Some(format!("{name}: {}", counter.value())),
            _ => None,
        });
        counters.collect()
    }

    #[test]
    fn methods_are_counted_under_their_names() {
        let all = || PerMethodStatSpecifier::StatsForAllMethods(BoolValue { value: true });
        let service = Service { name: "pkg.Svc".into(), method_names: vec!["Call".into()] };
        let listed = || {
            let services = vec![service.clone()];
            PerMethodStatSpecifier::IndividualMethodStatsAllowlist(GrpcMethodList { services })
        };
        for (specifier, replace_dots, path, prefix) in [
            (all(), false, "/pkg.Svc/Call", "pkg.Svc.Call."),
            (all(), true, "/pkg.Svc/Call", "pkg_Svc.Call."),
            (all(), false, "/nothing", ""),
            (listed(), false, "/pkg.Svc/Call", "pkg.Svc.Call."),
            (listed(), false, "/pkg.Svc/Other", ""),
        ] {
            let expected = ["0: 1", "5: 1", "failure: 1", "success: 1", "total: 2"]
                .map(|name| format!("cluster.backend.grpc.{prefix}{name}"));
            assert_eq!(counted(specifier, replace_dots, path), expected, "{path}");
        }
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut body = Vec::new();
        for length in [0_u8, 1, 7] {
            body.extend_from_slice(&[0, 0, 0, 0, length]);
            body.extend(std::iter::repeat_n(9, length.into()));
        }
        for size in 1..=body.len() {
            let count = Arc::default();
            let mut messages = Messages::new(&count, &Counter::default());
            for chunk in body.chunks(size) {
                let chunk = Bytes::copy_from_slice(chunk);
                assert_eq!(messages.data(chunk.clone()).ok(), Some(chunk));
            }
            assert_eq!(count.load(Ordering::Relaxed), 3, "chunks of {size}");
        }
    }
}
