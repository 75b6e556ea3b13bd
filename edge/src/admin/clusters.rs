//! Who answers and who listens: `/clusters` and `/listeners`.

use std::sync::Arc;

use regex::Regex;
use serde_json::json;

use super::command::Query;
use super::{Admin, Reply};

pub(super) fn clusters(admin: &Admin, query: &Query) -> Reply {
    let filter = match query.get("filter").map(Regex::new).transpose() {
        Ok(filter) => filter,
        Err(error) => return Reply::bad_request(format!("Invalid regex: {error}\n")),
    };
    let clusters = Arc::clone(&admin.core.serving().clusters);
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| filter.is_match(name));
    let clusters = clusters.all().into_iter().filter(|cluster| wanted(&cluster.name));
    if query.get("format") == Some("json") {
        return Reply::json(
            &json!({ "cluster_statuses": clusters.map(|cluster| cluster.facts()).collect::<Vec<_>>() }),
        );
    }
    Reply::text(clusters.map(|cluster| cluster.describe()).collect::<String>())
}

pub(super) fn listeners(admin: &Admin, query: &Query) -> Reply {
    let listeners = admin.core.listeners();
    if query.get("format") == Some("json") {
        let statuses = listeners.iter().map(|(name, at)| {
            let address = json!({ "address": at.ip().to_string(), "port_value": at.port() });
            json!({ "name": name, "local_address": { "socket_address": address } })
        });
        return Reply::json(&json!({ "listener_statuses": statuses.collect::<Vec<_>>() }));
    }
    Reply::text(listeners.iter().map(|(name, address)| format!("{name}::{address}\n")).collect::<String>())
}
