//! Who answers and who listens: `/clusters` and `/listeners`.

use std::fmt::Write;
use std::net::SocketAddr;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::command::Query;
use super::{Admin, Reply};
use crate::upstream::{ClusterStatus, HostStatus, Limits};

pub(super) fn clusters(admin: &Admin, query: &Query) -> Reply {
    let filter = match query.get("filter").map(Regex::new).transpose() {
        Ok(filter) => filter,
        Err(error) => return Reply::bad_request(format!("Invalid regex: {error}\n")),
    };
    let mut clusters = admin.core.serving().clusters.status();
    clusters.retain(|cluster| filter.as_ref().is_none_or(|filter| filter.is_match(&cluster.name)));
    if query.get("format") == Some("json") {
        let statuses: Vec<_> = clusters.iter().map(as_json).collect();
        return Reply::json(&json!({ "cluster_statuses": statuses }));
    }
    let mut text = String::new();
    for cluster in &clusters {
        write_text(cluster, &mut text);
    }
    Reply::text(text)
}

fn write_text(cluster: &ClusterStatus, text: &mut String) {
    let name = &cluster.name;
    // Writing to a String cannot fail.
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name}::{key}::{value}");
    };
    line("observability_name", name);
    for limits in &cluster.limits {
        for (key, value) in limits_of(limits) {
            line(&format!("{}_priority::{key}", limits.priority), &value);
        }
    }
    line("added_via_api", &false);
    for host in &cluster.hosts {
        let mut line =
            |key: &str, value: &dyn std::fmt::Display| line(&format!("{}::{key}", host.address), value);
        let mut figures: Vec<_> = counters_of(host).into_iter().chain(gauges_of(host)).collect();
        figures.sort_unstable();
        for (key, value) in figures {
            line(key, &value);
        }
        line("hostname", &host.hostname);
        line("health_flags", &host.health_flags);
        line("weight", &host.weight);
        line("region", &host.region);
        line("zone", &host.zone);
        line("sub_zone", &host.sub_zone);
        line("canary", &false);
        line("priority", &host.priority);
        line("success_rate", &-1);
        line("local_origin_success_rate", &-1);
    }
}

fn limits_of(limits: &Limits) -> [(&'static str, u64); 4] {
    [
        ("max_connections", limits.connections),
        ("max_pending_requests", limits.pending),
        ("max_requests", limits.requests),
        ("max_retries", limits.retries),
    ]
}

fn counters_of(host: &HostStatus) -> [(&'static str, u64); 6] {
    [
        ("cx_connect_fail", host.cx_connect_fail),
        ("cx_total", host.cx_total),
        ("rq_error", host.rq_error),
        ("rq_success", host.rq_success),
        ("rq_timeout", host.rq_timeout),
        ("rq_total", host.rq_total),
    ]
}

fn gauges_of(host: &HostStatus) -> [(&'static str, u64); 3] {
    [("cx_active", host.cx_active), ("rq_active", host.rq_active), ("rq_pending_active", 0)]
}

fn as_json(cluster: &ClusterStatus) -> Value {
    let thresholds = cluster.limits.iter().map(|limits| {
        let mut threshold: Map<_, _> =
            limits_of(limits).map(|(key, max)| (key.to_owned(), max.into())).into_iter().collect();
        if limits.priority == "high" {
            threshold.insert("priority".to_owned(), "HIGH".into());
        }
        Value::Object(threshold)
    });
    json!({
        "name": cluster.name,
        "host_statuses": cluster.hosts.iter().map(host_json).collect::<Vec<_>>(),
        "circuit_breakers": { "thresholds": thresholds.collect::<Vec<_>>() },
        "observability_name": cluster.name,
    })
}

/// As in all of Envoy's JSON, what is zero or empty is left out.
fn host_json(host: &HostStatus) -> Value {
    let stat = |name: &str, value: u64, kind: Option<&str>| {
        let mut stat = Map::from_iter([("name".to_owned(), name.into())]);
        if value > 0 {
            stat.insert("value".to_owned(), value.to_string().into());
        }
        if let Some(kind) = kind {
            stat.insert("type".to_owned(), kind.into());
        }
        Value::Object(stat)
    };
    let counters = counters_of(host).map(|(name, value)| stat(name, value, None));
    let gauges = gauges_of(host).map(|(name, value)| stat(name, value, Some("GAUGE")));
    let stats: Vec<_> = counters.into_iter().chain(gauges).collect();
    let mut health = Map::new();
    for flag in host
        .health_flags
        .split('/')
        .filter(|flag| flag.starts_with("failed_") || flag.starts_with("pending_"))
    {
        if flag != "failed_eds_health" {
            health.insert(flag.to_owned(), true.into());
        }
    }
    let stated = if host.health_flags.contains("failed_eds_health") {
        "UNHEALTHY"
    } else if host.health_flags.contains("degraded_eds_health") {
        "DEGRADED"
    } else {
        "HEALTHY"
    };
    health.insert("eds_health_status".to_owned(), stated.into());
    let locality = [("region", &host.region), ("zone", &host.zone), ("sub_zone", &host.sub_zone)];
    let locality: Map<_, _> = locality
        .iter()
        .filter(|(_, name)| !name.is_empty())
        .map(|(key, name)| ((*key).to_owned(), json!(name)))
        .collect();
    let mut status = json!({
        "address": host.socket.map_or_else(|| json!({ "pipe": { "path": host.address } }), address),
        "stats": stats,
        "health_status": health,
        "weight": host.weight,
        "locality": locality,
    });
    let optional = [
        ("hostname", json!(host.hostname), !host.hostname.is_empty()),
        ("priority", json!(host.priority), host.priority > 0),
    ];
    for (key, value, shown) in optional {
        if shown {
            status[key] = value;
        }
    }
    status
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

pub(super) fn listeners(admin: &Admin, query: &Query) -> Reply {
    let listeners = admin.core.listeners();
    if query.get("format") == Some("json") {
        let statuses =
            listeners.iter().map(|(name, at)| json!({ "name": name, "local_address": address(*at) }));
        return Reply::json(&json!({ "listener_statuses": statuses.collect::<Vec<_>>() }));
    }
    Reply::text(listeners.iter().map(|(name, address)| format!("{name}::{address}\n")).collect::<String>())
}
