//! Bootstraps from small parts: a base, and what a case changes in it.
//!
//! A key of `config:` is a place in the bootstrap (`PLACES`) whose value is merged there as in RFC 7396, or one of
//! `routes` (instead of the virtual host's), `route` (merged into the first route's action), `filters` (before the
//! router), `clusters` (each merged over a copy of the first one), `endpoints` (of a cluster: names of backends),
//! `access_log` (the format of a file's lines). Types are written without `type.googleapis.com/envoy.`; an HTTP filter
//! is `{cors: {…}}`, and so is its configuration for a route.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{tokens, yaml};

const LISTENER: &str = "/static_resources/listeners/0";
const CHAIN: &str = "/static_resources/listeners/0/filter_chains/0";
const HCM: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const ROUTES: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config";
const VHOST: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0";
const CLUSTER: &str = "/static_resources/clusters/0";

const PLACES: [(&str, &str); 7] = [
    ("bootstrap", ""),
    ("listener", LISTENER),
    ("chain", CHAIN),
    ("hcm", HCM),
    ("route_config", ROUTES),
    ("vhost", VHOST),
    ("cluster", CLUSTER),
];

/// A filter's name, the type of its configuration, and that of its configuration for a route.
const FILTERS: [(&str, &str, &str); 13] = [
    ("adaptive_concurrency", "AdaptiveConcurrency", "AdaptiveConcurrency"),
    ("compressor", "Compressor", "CompressorPerRoute"),
    ("cors", "Cors", "CorsPolicy"),
    ("ext_authz", "ExtAuthz", "ExtAuthzPerRoute"),
    ("fault", "HTTPFault", "HTTPFault"),
    ("grpc_stats", "FilterConfig", "FilterConfig"),
    ("grpc_web", "GrpcWeb", "GrpcWeb"),
    ("header_mutation", "HeaderMutation", "HeaderMutationPerRoute"),
    ("health_check", "HealthCheck", "HealthCheck"),
    ("jwt_authn", "JwtAuthentication", "PerRouteConfig"),
    ("local_ratelimit", "LocalRateLimit", "LocalRateLimit"),
    ("ratelimit", "RateLimit", "RateLimitPerRoute"),
    ("rbac", "RBAC", "RBACPerRoute"),
];

pub(crate) fn compose(base: &str, overrides: &Value) -> Result<Value, String> {
    let mut bootstrap = load(base)?;
    apply(&mut bootstrap, overrides)?;
    expand(&mut bootstrap);
    tokens::fill(&mut bootstrap);
    Ok(bootstrap)
}

fn load(base: &str) -> Result<Value, String> {
    let path = Path::new("../tests/edge/bases").join(format!("{base}.yaml"));
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let base = yaml::read(&text)?;
    let mut bootstrap = match base["extends"].as_str() {
        Some(parent) => load(parent)?,
        None => Value::Null,
    };
    apply(&mut bootstrap, &base["config"])?;
    Ok(bootstrap)
}

fn apply(bootstrap: &mut Value, overrides: &Value) -> Result<(), String> {
    let none = Map::new();
    let overrides = overrides.as_object().unwrap_or(&none);
    let template = bootstrap.pointer(CLUSTER).cloned();
    for (place, pointer) in PLACES {
        if let Some(patch) = overrides.get(place) {
            merge(bootstrap.pointer_mut(pointer).ok_or(format!("the base has no {place}"))?, patch);
        }
    }
    for (key, value) in overrides.iter().filter(|(key, _)| PLACES.iter().all(|(place, _)| place != key)) {
        let at = |bootstrap: &'_ mut Value, pointer: &str| bootstrap.pointer_mut(pointer).map(std::mem::take);
        match key.as_str() {
            "routes" => bootstrap.pointer_mut(VHOST).ok_or("no virtual host")?["routes"] = value.clone(),
            "route" => merge(
                &mut bootstrap.pointer_mut(VHOST).ok_or("no virtual host")?["routes"][0]["route"],
                value,
            ),
            "access_log" => bootstrap.pointer_mut(HCM).ok_or("no HTTP")?["access_log"] = access_log(value),
            "filters" => {
                let pointer = format!("{HCM}/http_filters");
                let Some(Value::Array(mut filters)) = at(bootstrap, &pointer) else {
                    return Err("no filters".into());
                };
                let router = filters.pop();
                filters.extend(value.as_array().cloned().unwrap_or_default());
                filters.extend(router);
                *bootstrap.pointer_mut(&pointer).ok_or("no filters")? = Value::Array(filters);
            }
            "clusters" => {
                for patch in value.as_array().into_iter().flatten() {
                    let mut cluster = template.clone().ok_or("the base has no cluster")?;
                    merge(&mut cluster, patch);
                    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut();
                    clusters.ok_or("the base has no clusters")?.push(cluster);
                }
            }
            other => return Err(format!("{other} is no place in a bootstrap")),
        }
    }
    Ok(())
}

/// RFC 7396: objects are merged, null takes away, everything else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn access_log(format: &Value) -> Value {
    let format = match format {
        Value::Null => Value::Null,
        Value::String(text) => json!({ "text_format_source": { "inline_string": text } }),
        fields => json!({ "json_format": fields }),
    };
    let mut config =
        json!({ "@type": "extensions.access_loggers.file.v3.FileAccessLog", "path": "<dir>/access.log" });
    if !format.is_null() {
        config["log_format"] = format;
    }
    json!([{ "name": "file", "typed_config": config }])
}

/// Writes out what the files abbreviate.
fn expand(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(expand),
        Value::Object(fields) => {
            if let Some(Value::String(kind)) = fields.get_mut("@type") {
                if !kind.contains('/') {
                    *kind = format!("type.googleapis.com/envoy.{kind}");
                }
            }
            if let Some(Value::Array(filters)) = fields.get_mut("http_filters") {
                filters.iter_mut().for_each(expand_filter);
            }
            if let Some(Value::Object(filters)) = fields.get_mut("typed_per_filter_config") {
                *filters = std::mem::take(filters).into_iter().map(expand_route_filter).collect();
            }
            // Of a cluster, not of its load assignment.
            if fields.contains_key("connect_timeout") {
                if let Some(endpoints) = fields.remove("endpoints") {
                    fields.insert("load_assignment".to_owned(), load_assignment(&fields["name"], &endpoints));
                }
            }
            fields.values_mut().for_each(expand);
        }
        _ => {}
    }
}

fn expand_filter(filter: &mut Value) {
    let Some((name, config)) = filter.as_object().and_then(|fields| fields.iter().next()) else { return };
    if let Some((_, kind, _)) = FILTERS.iter().find(|(known, ..)| known == name) {
        let typed_config = typed(config, name, kind);
        *filter = json!({ "name": format!("envoy.filters.http.{name}"), "typed_config": typed_config });
    }
}

fn expand_route_filter((name, config): (String, Value)) -> (String, Value) {
    match FILTERS.iter().find(|(known, ..)| *known == name) {
        Some((_, _, kind)) => (format!("envoy.filters.http.{name}"), typed(&config, &name, kind)),
        None => (name, config),
    }
}

fn typed(config: &Value, filter: &str, kind: &str) -> Value {
    let mut typed = if config.is_object() { config.clone() } else { json!({}) };
    typed["@type"] = format!("extensions.filters.http.{filter}.v3.{kind}").into();
    typed
}

fn load_assignment(cluster: &Value, endpoints: &Value) -> Value {
    let endpoints = endpoints.as_array().into_iter().flatten().map(|endpoint| match endpoint {
        Value::String(backend) => json!({ "endpoint": { "address": address(&format!("<{backend}>")) } }),
        other => other.clone(),
    });
    json!({ "cluster_name": cluster, "endpoints": [{ "lb_endpoints": endpoints.collect::<Vec<_>>() }] })
}

fn address(port: &str) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}
