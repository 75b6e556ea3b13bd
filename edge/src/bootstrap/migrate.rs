//! Files for Envoy's v2 API, and files that configure extensions by name alone, rewritten for the v3 API.

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use prost::Name;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

use super::{names, refuse, schema::Schema, tree::Tree, yaml};
use crate::problem::Problem;

const UPSTREAM: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const TLS: &str = "envoy.extensions.transport_sockets.tls.v3";
const FILE_LOG: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";

/// The same configuration in today's form, in the order of the file, without its comments. What cannot be rewritten
/// is told as `load` tells it, of the rewritten file.
pub fn migrate(text: &str) -> Result<String, Vec<Problem>> {
    let root = yaml::parse(text).map_err(|problem| vec![problem])?;
    let schema = Schema::read().map_err(|problem| vec![problem])?;
    let mut tree = Tree::from(&*root);
    if let Some(kind) = schema.pool.get_message_by_name(&Bootstrap::full_name()) {
        message(&schema.pool, &kind, &mut tree);
    }
    let migrated = tree.to_yaml();
    let (decoder, ..) = super::decode(&migrated, &Bootstrap::full_name())?;
    // The lines are those of a file that nobody has.
    refuse(decoder.problems.into_iter().map(|problem| Problem { line: None, ..problem }).collect())?;
    Ok(migrated)
}

type Entries = Vec<(String, Tree)>;

fn message(pool: &DescriptorPool, kind: &MessageDescriptor, tree: &mut Tree) {
    let Some(entries) = tree.entries() else { return };
    if kind.oneofs().any(|oneof| oneof.name() == "config_type") {
        extension(entries);
    }
    match kind.full_name() {
        "envoy.config.bootstrap.v3.Admin" => admin(entries),
        "envoy.config.cluster.v3.Cluster" => cluster(entries),
        "envoy.config.listener.v3.FilterChain" => tls(entries, "DownstreamTlsContext"),
        "envoy.config.route.v3.CorsPolicy" => cors(entries),
        "envoy.config.route.v3.HeaderMatcher" => {
            replace(entries, "regex_match", "string_match", |regex| Tree::map([("safe_regex", safe(regex))]));
        }
        "envoy.config.route.v3.RouteMatch" => replace(entries, "regex", "safe_regex", safe),
        "envoy.config.route.v3.RouteAction" => {
            replace(entries, "max_grpc_timeout", "max_stream_duration", |most| {
                Tree::map([("grpc_timeout_header_max", most)])
            });
        }
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager" => {
            replace(entries, "idle_timeout", "common_http_protocol_options", |timeout| {
                Tree::map([("idle_timeout", timeout)])
            });
        }
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing" => {
            entries.retain(|(key, _)| key != "operation_name");
        }
        "envoy.type.matcher.v3.RegexMatcher" => entries.retain(|(key, _)| key != "google_re2"),
        "envoy.config.ratelimit.v3.RateLimitServiceConfig"
        | "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz" => {
            entries.retain(|(key, _)| key != "transport_api_version" && key != "use_alpha");
            entries.push(("transport_api_version".to_owned(), Tree::text("V3")));
        }
        _ => {}
    }
    for (key, value) in entries {
        let field = kind.get_field_by_name(key).or_else(|| kind.get_field_by_json_name(key));
        if let Some(field) = field {
            inside(pool, &field, value);
        }
    }
}

fn inside(pool: &DescriptorPool, field: &FieldDescriptor, value: &mut Tree) {
    let Kind::Message(kind) = field.kind() else { return };
    if kind.is_map_entry() {
        let Kind::Message(kind) = kind.map_entry_value_field().kind() else { return };
        for (key, value) in value.entries().into_iter().flatten() {
            if let Some(name) = names::today(key) {
                *key = name.to_owned();
            }
            single(pool, &kind, value);
        }
        return;
    }
    match value {
        Tree::List(items) => items.iter_mut().for_each(|item| single(pool, &kind, item)),
        value => single(pool, &kind, value),
    }
}

fn single(pool: &DescriptorPool, kind: &MessageDescriptor, value: &mut Tree) {
    if kind.full_name() != "google.protobuf.Any" {
        return message(pool, kind, value);
    }
    let Some(entries) = value.entries() else { return };
    let Some(url) = entries.iter_mut().find(|(key, _)| key == "@type").map(|(_, url)| url) else { return };
    let name = url.as_text().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
    let inner = pool.get_message_by_name(name).or_else(|| names::successor(pool, name));
    if let Some(inner) = inner {
        *url = type_url(inner.full_name());
        message(pool, &inner, value);
    }
}

fn type_url(kind: &str) -> Tree {
    Tree::text(format!("type.googleapis.com/{kind}"))
}

/// Today's name, and a configuration that says of what type it is.
fn extension(entries: &mut Entries) {
    let name = entries.iter_mut().find(|(key, _)| key == "name").map(|(_, name)| name);
    let Some(kind) = name.as_ref().and_then(|name| names::kind(name.as_text()?)) else { return };
    if let Some(name) = name
        && let Some(today) = name.as_text().and_then(names::today)
    {
        *name = Tree::text(today);
    }
    let config = entries.iter().position(|(key, _)| key == "config" || key == "typed_config");
    let (at, config) = match config {
        Some(at) => (at, entries.remove(at).1),
        None if entries.iter().any(|(key, _)| key == "config_discovery") => return,
        None => (entries.len(), Tree::Map(Vec::new())),
    };
    let mut config = match config {
        Tree::Map(config) => config,
        _ => Vec::new(),
    };
    if config.iter().all(|(key, _)| key != "@type") {
        config.insert(0, ("@type".to_owned(), type_url(kind)));
    }
    entries.insert(at, ("typed_config".to_owned(), Tree::Map(config)));
}

fn admin(entries: &mut Entries) {
    replace(entries, "access_log_path", "access_log", |path| {
        let config = Tree::map([("@type", type_url(FILE_LOG)), ("path", path)]);
        let log = Tree::map([("name", Tree::text("envoy.access_loggers.file")), ("typed_config", config)]);
        Tree::List(vec![log])
    });
}

fn cluster(entries: &mut Entries) {
    let name = entries.iter().find(|(key, _)| key == "name").map(|(_, name)| name.clone());
    replace(entries, "hosts", "load_assignment", |hosts| {
        let endpoint = |address| Tree::map([("endpoint", Tree::map([("address", address)]))]);
        let endpoints = Tree::List(hosts.into_items().into_iter().map(endpoint).collect());
        Tree::map([
            ("cluster_name", name.unwrap_or_else(|| Tree::text(""))),
            ("endpoints", Tree::List(vec![Tree::map([("lb_endpoints", endpoints)])])),
        ])
    });
    tls(entries, "UpstreamTlsContext");
    if entries.iter().all(|(key, _)| key != "typed_extension_protocol_options") {
        protocols(entries);
    }
}

/// What a cluster said of its protocol, under the extension that says it now.
fn protocols(entries: &mut Entries) {
    let at = entries
        .iter()
        .position(|(key, _)| key.ends_with("http_protocol_options") || key == "http2_protocol_options");
    let mut options = vec![("@type".to_owned(), type_url(UPSTREAM))];
    let mut take = |key: &str| take(entries, key).map(|value| (key.to_owned(), value));
    let (http1, http2) = (take("http_protocol_options"), take("http2_protocol_options"));
    let mut common = take("common_http_protocol_options");
    if let Some(most) = take("max_requests_per_connection") {
        let (_, common) =
            common.get_or_insert_with(|| ("common_http_protocol_options".to_owned(), Tree::map([])));
        if let Some(common) = common.entries() {
            common.push(most);
        }
    }
    options.extend(common);
    options.extend(take("upstream_http_protocol_options"));
    let downstream =
        take("protocol_selection").is_some_and(|(_, how)| how.as_text() != Some("USE_CONFIGURED_PROTOCOL"));
    if options.len() == 1 && http1.is_none() && http2.is_none() && !downstream {
        return;
    }
    let (choice, chosen) = if downstream {
        ("use_downstream_protocol_config", http1.into_iter().chain(http2).collect())
    } else {
        let explicit = http2.or(http1).unwrap_or_else(|| ("http_protocol_options".to_owned(), Tree::map([])));
        ("explicit_http_config", vec![explicit])
    };
    options.push((choice.to_owned(), Tree::Map(chosen)));
    let extension = Tree::Map(vec![(UPSTREAM.to_owned(), Tree::Map(options))]);
    let at = at.unwrap_or(entries.len()).min(entries.len());
    entries.insert(at, ("typed_extension_protocol_options".to_owned(), extension));
}

fn tls(entries: &mut Entries, context: &str) {
    replace(entries, "tls_context", "transport_socket", |tls| {
        let mut config = vec![("@type".to_owned(), type_url(&format!("{TLS}.{context}")))];
        if let Tree::Map(tls) = tls {
            config.extend(tls);
        }
        Tree::map([("name", Tree::text("envoy.transport_sockets.tls")), ("typed_config", Tree::Map(config))])
    });
}

fn cors(entries: &mut Entries) {
    replace(entries, "allow_origin", "allow_origin_string_match", |origins| {
        // "*" meant any origin, which no exact match does.
        let matcher = |origin: Tree| match origin.as_text() {
            Some("*") => Tree::map([("safe_regex", safe(Tree::text(".*")))]),
            _ => Tree::map([("exact", origin)]),
        };
        Tree::List(origins.into_items().into_iter().map(matcher).collect())
    });
    replace(entries, "allow_origin_regex", "allow_origin_string_match", |origins| {
        let matcher = |origin| Tree::map([("safe_regex", safe(origin))]);
        Tree::List(origins.into_items().into_iter().map(matcher).collect())
    });
    if let Some(Tree::Scalar(yaml::Scalar::Bool(false))) = take(entries, "enabled") {
        let none =
            Tree::map([("default_value", Tree::map([("numerator", Tree::Scalar(yaml::Scalar::Int(0)))]))]);
        entries.push(("filter_enabled".to_owned(), none));
    }
}

fn safe(regex: Tree) -> Tree {
    Tree::map([("regex", regex)])
}

fn take(entries: &mut Entries, key: &str) -> Option<Tree> {
    let at = entries.iter().position(|(name, _)| name == key)?;
    Some(entries.remove(at).1)
}

/// Puts a field's successor where the field stood, or joins it with what the file says there already.
fn replace(entries: &mut Entries, key: &str, successor: &str, rewrite: impl FnOnce(Tree) -> Tree) {
    let Some(at) = entries.iter().position(|(name, _)| name == key) else { return };
    let (_, old) = entries.remove(at);
    let new = match (take(entries, successor), rewrite(old)) {
        (Some(Tree::Map(mut known)), Tree::Map(more)) => {
            known.extend(more);
            Tree::Map(known)
        }
        (Some(Tree::List(mut known)), Tree::List(more)) => {
            known.extend(more);
            Tree::List(known)
        }
        (_, new) => new,
    };
    entries.insert(at.min(entries.len()), (successor.to_owned(), new));
}
