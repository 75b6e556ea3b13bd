//! `/config_dump`: the configuration that serves, without its secrets.

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use http::StatusCode;
use jiff::Timestamp;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, ExtensionDescriptor, ReflectMessage, SerializeOptions, Value as Field};
use regex::Regex;
use serde_json::{Map, Value, json};

use super::command::Query;
use super::{Admin, Reply};
use crate::bootstrap::{descriptors, type_name};

const REDACTED: &str = "[redacted]";
const TYPE: &str = "type.googleapis.com/envoy.admin.v3.";
/// What a control plane would have given, where there is one.
const NEVER: [&str; 9] = [
    "dynamic_active_clusters",
    "dynamic_warming_clusters",
    "dynamic_listeners",
    "dynamic_route_configs",
    "inline_scoped_route_configs",
    "dynamic_scoped_route_configs",
    "static_secrets",
    "dynamic_active_secrets",
    "dynamic_warming_secrets",
];

pub(super) fn config_dump(admin: &Admin, query: &Query) -> Reply {
    if query.has("mask") {
        return Reply::bad_request("mask is not supported: take the fields out of the answer\n");
    }
    let names = match query.get("name_regex").map(Regex::new).transpose() {
        Ok(names) => names,
        Err(error) => return Reply::bad_request(format!("Invalid regex: {error}\n")),
    };
    let bootstrap = admin.core.serving().bootstrap.clone();
    let Some(bootstrap) = as_json(&bootstrap) else {
        return Reply {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Reply::text("the configuration cannot be shown\n")
        };
    };
    let updated =
        Timestamp::try_from(admin.core.start_time).map(|time| format!("{time:.3}")).unwrap_or_default();
    let dump = Dump { bootstrap, names, updated };
    match query.get("resource") {
        Some("bootstrap") => Reply::bad_request("bootstrap is not a repeated field: use no resource\n"),
        None => Reply::json(&json!({ "configs": dump.all() })),
        Some(resource) => match dump.resource(resource) {
            Some(configs) if configs.is_empty() => Reply::json(&json!({})),
            Some(configs) => Reply::json(&json!({ "configs": configs })),
            None => {
                let body = format!("{resource} not found in config dump");
                Reply { status: StatusCode::NOT_FOUND, ..Reply::text(body) }
            }
        },
    }
}

/// A configuration as Envoy writes it, names and enums as in the API, secrets left out.
fn as_json(bootstrap: &Bootstrap) -> Option<Value> {
    let pool = descriptors().ok()?;
    let sensitive = pool.get_extension_by_name("udpa.annotations.sensitive")?;
    let kind = pool.get_message_by_name(&Bootstrap::full_name())?;
    let mut message = DynamicMessage::decode(kind, &*bootstrap.encode_to_vec()).ok()?;
    redact(&mut message, &sensitive, false);
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).ok()
}

/// Takes out what is sensitive: fields that the API marks so and everything inside them, and passwords in URLs.
fn redact(message: &mut DynamicMessage, sensitive: &ExtensionDescriptor, inside: bool) {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        redact_any(message, sensitive, inside);
        return;
    }
    let fields: Vec<_> = message.fields().map(|(field, _)| field).collect();
    for field in fields {
        let options = field.options();
        let inside = inside || options.get_extension(sensitive).as_bool() == Some(true);
        redact_field(message.get_field_mut(&field), sensitive, inside);
    }
}

fn redact_field(field: &mut Field, sensitive: &ExtensionDescriptor, inside: bool) {
    match field {
        Field::Message(message) => redact(message, sensitive, inside),
        Field::List(items) => items.iter_mut().for_each(|item| redact_field(item, sensitive, inside)),
        Field::Map(entries) => entries.values_mut().for_each(|value| redact_field(value, sensitive, inside)),
        Field::String(text) if inside => REDACTED.clone_into(text),
        Field::String(text) if text.contains("://") => *text = storage::redacted(text),
        Field::Bytes(bytes) if inside => *bytes = REDACTED.into(),
        _ => {}
    }
}

/// Opens what is packed, and packs it again.
fn redact_any(any: &mut DynamicMessage, sensitive: &ExtensionDescriptor, inside: bool) {
    let text = |field: Option<std::borrow::Cow<'_, Field>>| {
        field.and_then(|field| field.as_str().map(str::to_owned))
    };
    let Some(url) = text(any.get_field_by_name("type_url")) else { return };
    let pool = any.descriptor().parent_pool().clone();
    let name = type_name(&url);
    let value =
        any.get_field_by_name("value").and_then(|value| value.as_bytes().cloned()).unwrap_or_default();
    let inner = pool.get_message_by_name(name).and_then(|kind| DynamicMessage::decode(kind, value).ok());
    // What cannot be opened cannot be shown to be harmless.
    let packed = inner.map(|mut inner| {
        redact(&mut inner, sensitive, inside);
        inner.encode_to_vec()
    });
    any.set_field_by_name("value", Field::Bytes(packed.unwrap_or_default().into()));
}

/// A configuration that is shown part by part.
struct Dump {
    bootstrap: Value,
    names: Option<Regex>,
    updated: String,
}

impl Dump {
    fn all(&self) -> Vec<Value> {
        let part = |kind: &str, key: &str, items: Vec<Value>| {
            let mut dump = Map::from_iter([("@type".to_owned(), json!(format!("{TYPE}{kind}")))]);
            if !items.is_empty() {
                dump.insert(key.to_owned(), items.into());
            }
            Value::Object(dump)
        };
        let mut all = Vec::new();
        if self.names.is_none() {
            let (bootstrap, updated) = (&self.bootstrap, &self.updated);
            let kind = format!("{TYPE}BootstrapConfigDump");
            all.push(json!({ "@type": kind, "bootstrap": bootstrap, "last_updated": updated }));
        }
        all.push(part("ClustersConfigDump", "static_clusters", self.clusters()));
        all.push(part("ListenersConfigDump", "static_listeners", self.listeners()));
        all.push(part("ScopedRoutesConfigDump", "", Vec::new()));
        all.push(part("RoutesConfigDump", "static_route_configs", self.routes()));
        all.push(part("SecretsConfigDump", "", Vec::new()));
        all
    }

    /// The parts of one name, each with its type.
    fn resource(&self, name: &str) -> Option<Vec<Value>> {
        let (kind, parts) = match name {
            "static_clusters" => ("ClustersConfigDump.StaticCluster", self.clusters()),
            "static_listeners" => ("ListenersConfigDump.StaticListener", self.listeners()),
            "static_route_configs" => ("RoutesConfigDump.StaticRouteConfig", self.routes()),
            never if NEVER.contains(&never) => ("", Vec::new()),
            _ => return None,
        };
        Some(parts.into_iter().map(|part| typed(part, &format!("{TYPE}{kind}"))).collect())
    }

    fn clusters(&self) -> Vec<Value> {
        self.parts("cluster", "cluster.v3.Cluster", list(&self.bootstrap["static_resources"]["clusters"]))
    }

    fn listeners(&self) -> Vec<Value> {
        self.parts("listener", "listener.v3.Listener", list(&self.bootstrap["static_resources"]["listeners"]))
    }

    fn routes(&self) -> Vec<Value> {
        let listeners = list(&self.bootstrap["static_resources"]["listeners"]);
        let chains = listeners.flat_map(|listener| {
            list(&listener["filter_chains"]).chain(listener.get("default_filter_chain"))
        });
        let managers = chains.flat_map(|chain| list(&chain["filters"])).map(|filter| &filter["typed_config"]);
        let routes = managers.filter_map(|manager| manager.get("route_config"));
        self.parts("route_config", "route.v3.RouteConfiguration", routes)
    }

    fn parts<'v>(&self, key: &str, kind: &str, parts: impl Iterator<Item = &'v Value>) -> Vec<Value> {
        let wanted = |part: &&Value| {
            let name = part["name"].as_str().unwrap_or_default();
            self.names.as_ref().is_none_or(|names| names.is_match(name))
        };
        let kind = format!("type.googleapis.com/envoy.config.{kind}");
        let part = |part: &Value| json!({ key: typed(part.clone(), &kind), "last_updated": self.updated });
        parts.filter(wanted).map(part).collect()
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn typed(mut value: Value, kind: &str) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.insert("@type".to_owned(), kind.into());
    }
    value
}
