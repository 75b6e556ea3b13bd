//! What the admin interface shows of clusters.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::host::{Host, Stated, Target};
use super::settings::Protocol;
use super::{Cluster, Clusters};
use crate::problem::{Path, Problem};

impl Cluster {
    /// Whether its hosts are spoken to over HTTP/2, as far as that is settled beforehand.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.core.settings.protocol == Protocol::Http2
    }

    /// The lines of `/clusters`.
    pub(crate) fn describe(&self) -> String {
        let (name, mut text) = (&self.name, String::new());
        // Writing to a String cannot fail.
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{name}::{key}::{value}");
        };
        line("observability_name", name);
        if self.core.detector.is_some() {
            for kind in ["success_rate", "local_origin_success_rate"] {
                line(&format!("outlier::{kind}_average"), &-1);
                line(&format!("outlier::{kind}_ejection_threshold"), &-1);
            }
        }
        for level in self.core.breakers.levels() {
            for (key, limit) in level.limits() {
                line(&format!("{}_priority::{key}", level.name), &limit);
            }
        }
        line("added_via_api", &false);
        for host in self.core.members.hosts() {
            for (key, value) in facts(&host) {
                line(&format!("{}::{key}", host.address), &value);
            }
        }
        text
    }

    /// One of the `cluster_statuses` of `/clusters?format=json`.
    pub(crate) fn facts(&self) -> Value {
        let hosts: Vec<_> = self.core.members.hosts().iter().map(|host| host_facts(host)).collect();
        let thresholds = self.core.breakers.levels().iter().map(|level| {
            let mut facts: Map<_, _> =
                level.limits().into_iter().map(|(key, limit)| (key.to_owned(), limit.into())).collect();
            if level.name == "high" {
                facts.insert("priority".to_owned(), "HIGH".into());
            }
            Value::Object(facts)
        });
        json!({
            "name": &*self.name,
            "host_statuses": hosts,
            "circuit_breakers": { "thresholds": thresholds.collect::<Vec<_>>() },
            "observability_name": &*self.name,
        })
    }
}

fn facts(host: &Host) -> Vec<(&'static str, String)> {
    let (stats, spec) = (&host.stats, &host.spec);
    vec![
        ("cx_active", stats.cx_active.value().to_string()),
        ("cx_connect_fail", stats.cx_connect_fail.value().to_string()),
        ("cx_total", stats.cx_total.value().to_string()),
        ("rq_active", host.active().to_string()),
        ("rq_error", stats.rq_error.value().to_string()),
        ("rq_pending_active", stats.rq_pending_active.value().to_string()),
        ("rq_success", stats.rq_success.value().to_string()),
        ("rq_timeout", stats.rq_timeout.value().to_string()),
        ("rq_total", stats.rq_total.value().to_string()),
        ("hostname", spec.hostname.clone()),
        ("health_flags", host.health_flags()),
        ("weight", spec.weight.to_string()),
        ("region", spec.region.clone()),
        ("zone", spec.zone.clone()),
        ("sub_zone", spec.sub_zone.clone()),
        ("canary", false.to_string()),
        ("priority", spec.priority.to_string()),
        ("success_rate", "-1".to_owned()),
        ("local_origin_success_rate", "-1".to_owned()),
    ]
}

fn host_facts(host: &Host) -> Value {
    let address = match &host.spec.target {
        Target::Tcp(address) => {
            json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
        }
        Target::Unix(path) => json!({ "pipe": { "path": path } }),
    };
    let stats = &host.stats;
    let counters = [
        ("cx_connect_fail", &stats.cx_connect_fail),
        ("cx_total", &stats.cx_total),
        ("rq_error", &stats.rq_error),
        ("rq_success", &stats.rq_success),
        ("rq_timeout", &stats.rq_timeout),
        ("rq_total", &stats.rq_total),
    ];
    let counters = counters.map(|(name, counter)| (json!({ "name": name }), counter.value()));
    let gauges = [
        ("cx_active", stats.cx_active.value()),
        ("rq_active", host.active().into()),
        ("rq_pending_active", stats.rq_pending_active.value()),
    ];
    let gauges = gauges
        .map(|(name, value)| (json!({ "type": "GAUGE", "name": name }), u64::try_from(value).unwrap_or(0)));
    let shown = counters.into_iter().chain(gauges).map(|(mut stat, value)| {
        // As in all JSON of protobuf, zero goes without saying.
        if value > 0 {
            stat["value"] = value.to_string().into();
        }
        stat
    });
    let mut health = json!({ "eds_health_status": match host.spec.stated {
        Stated::Healthy => "HEALTHY",
        Stated::Degraded => "DEGRADED",
        Stated::Unhealthy => "UNHEALTHY",
    }});
    for flag in host
        .health_flags()
        .split('/')
        .filter(|flag| flag.starts_with("failed_") && *flag != "failed_eds_health")
    {
        health[flag] = true.into();
    }
    let spec = &host.spec;
    let locality = [("region", &spec.region), ("zone", &spec.zone), ("sub_zone", &spec.sub_zone)];
    let locality = locality.into_iter().filter(|(_, name)| !name.is_empty());
    let mut facts = json!({
        "address": address,
        "stats": shown.collect::<Vec<_>>(),
        "health_status": health,
        "weight": spec.weight,
        "locality": locality.map(|(key, name)| (key.to_owned(), json!(name))).collect::<Map<_, _>>(),
    });
    if spec.priority > 0 {
        facts["priority"] = spec.priority.into();
    }
    if !spec.hostname.is_empty() {
        facts["hostname"] = spec.hostname.clone().into();
    }
    facts
}

impl Clusters {
    /// Every cluster in order of the names.
    pub(crate) fn all(&self) -> Vec<&Cluster> {
        let mut all: Vec<_> = self.by_name.values().map(|cluster| &**cluster).collect();
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// The files that certificates towards upstreams come from.
    pub(crate) fn files(&self) -> Vec<&str> {
        self.all()
            .into_iter()
            .filter_map(|cluster| cluster.core.tls.as_ref())
            .flat_map(|tls| tls.files())
            .collect()
    }

    /// Reads certificates anew. Where they are no good, those that were read before stay.
    pub(crate) fn reload(&self) -> Vec<Problem> {
        let root = Path::root();
        let reload = |cluster: &Cluster| {
            let at = root.field("clusters");
            let at = at.key(&cluster.name);
            cluster.core.tls.as_ref().and_then(|tls| tls.reload(&at.field("transport_socket")).err())
        };
        self.all().into_iter().filter_map(reload).collect()
    }
}
