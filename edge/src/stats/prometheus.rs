//! Figures in Prometheus' text format, with what Envoy takes out of their names as labels.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

use regex::Regex;

use super::show::Wanted;
use super::{Histogram, Stat, Stats};

/// Milliseconds.
const LIMITS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Labels, and where in a name they are: the first group is taken out, the second one is the label's value.
static TAGS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let tags = [
        ("envoy_response_code", r"_rq(_(\d{3}))$"),
        ("envoy_response_code_class", r"_rq_((\d))xx$"),
        ("envoy_http_conn_manager_prefix", r"^http\.((.*?)\.)"),
        ("envoy_http_conn_manager_prefix", r"^listener\..*?\.http\.((.*?)\.)"),
        ("envoy_listener_address", r"^listener\.(([\d._]+|\[?[\da-fA-F:_\[\]]+)\.)"),
        // A gRPC service has dots in its name: the method is what follows the last one but that of the figure.
        ("envoy_grpc_bridge_method", r"^cluster\..*?\.grpc\..+(\.([^.]+))\.[^.]+$"),
        ("envoy_grpc_bridge_service", r"^cluster\..*?\.grpc(\.(.+))\.[^.]+$"),
        ("envoy_virtual_cluster", r"^vhost\..*?\.vcluster\.((.*?)\.)"),
        ("envoy_virtual_host", r"^vhost\.((.*?)\.)"),
        ("envoy_ssl_cipher", r"^listener\..*?\.ssl\.ciphers(\.(.*?))$"),
        ("envoy_local_http_ratelimit_prefix", r"^((.*?)\.)http_local_rate_limit\."),
        ("envoy_cluster_name", r"^cluster\.((.*?)\.)"),
    ];
    tags.into_iter().filter_map(|(tag, pattern)| Some((tag, Regex::new(pattern).ok()?))).collect()
});

/// A figure's name without labels, and its labels as they are written.
fn extract(name: &str) -> (String, String) {
    let mut rest = name.to_owned();
    let mut labels = Vec::new();
    for (tag, pattern) in &*TAGS {
        let Some(found) = pattern.captures(&rest) else { continue };
        let (Some(taken), Some(value)) = (found.get(1), found.get(2)) else { continue };
        labels.push(format!("{tag}=\"{}\"", value.as_str().replace('\\', r"\\").replace('"', "\\\"")));
        let taken = taken.range();
        rest.replace_range(taken, "");
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    (format!("envoy_{}", rest.chars().map(plain).collect::<String>()), labels.join(","))
}

impl Stats {
    pub(crate) fn prometheus(&self, wanted: &Wanted) -> String {
        let kinds = ["counter", "gauge", "histogram"];
        let mut families: [BTreeMap<String, String>; 3] = Default::default();
        for (name, stat) in wanted.of(self) {
            let (name, labels) = extract(&name);
            let family = match &stat {
                Stat::Counter(_) => &mut families[0],
                Stat::Gauge(_) => &mut families[1],
                Stat::Histogram(_) => &mut families[2],
            };
            let lines = family.entry(name.clone()).or_default();
            // Writing to a String cannot fail.
            let _ = match &stat {
                Stat::Counter(counter) => writeln!(lines, "{name}{{{labels}}} {}", counter.value()),
                Stat::Gauge(gauge) => writeln!(lines, "{name}{{{labels}}} {}", gauge.value()),
                Stat::Histogram(histogram) => {
                    write_histogram(lines, &name, &labels, histogram);
                    Ok(())
                }
            };
        }
        let mut text = String::new();
        for (kind, family) in kinds.iter().zip(families) {
            for (name, lines) in family {
                // Writing to a String cannot fail.
                let _ = write!(text, "# TYPE {name} {kind}\n{lines}");
            }
        }
        text
    }
}

fn write_histogram(lines: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let counts = histogram.cumulative();
    let total = counts.total();
    let more = if labels.is_empty() { "" } else { "," };
    let mut bucket = |limit: &str, count: u64| {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{name}_bucket{{{labels}{more}le=\"{limit}\"}} {count}");
    };
    for limit in LIMITS {
        bucket(&limit.to_string(), counts.up_to(limit));
    }
    bucket("+Inf", total);
    let _ = writeln!(lines, "{name}_sum{{{labels}}} {}", counts.sum());
    let _ = writeln!(lines, "{name}_count{{{labels}}} {total}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right side is what Envoy 1.40 makes of the same names, but for gRPC services with dots in their names.
    #[test]
    fn labels_are_envoys() {
        for (name, expected) in [
            (
                "cluster.backend.upstream_rq_200",
                r#"envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="backend"}"#,
            ),
            (
                "cluster.backend.upstream_rq_2xx",
                r#"envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="backend"}"#,
            ),
            (
                "cluster.backend.upstream_rq_total",
                r#"envoy_cluster_upstream_rq_total{envoy_cluster_name="backend"}"#,
            ),
            (
                "cluster.backend.circuit_breakers.default.cx_open",
                r#"envoy_cluster_circuit_breakers_default_cx_open{envoy_cluster_name="backend"}"#,
            ),
            (
                "http.ingress.downstream_rq_5xx",
                r#"envoy_http_downstream_rq_xx{envoy_response_code_class="5",envoy_http_conn_manager_prefix="ingress"}"#,
            ),
            (
                "listener.127.0.0.1_28080.downstream_cx_total",
                r#"envoy_listener_downstream_cx_total{envoy_listener_address="127.0.0.1_28080"}"#,
            ),
            (
                "listener.127.0.0.1_28080.http.in.downstream_rq_2xx",
                r#"envoy_listener_http_downstream_rq_xx{envoy_response_code_class="2",envoy_http_conn_manager_prefix="in",envoy_listener_address="127.0.0.1_28080"}"#,
            ),
            ("listener.admin.downstream_cx_total", "envoy_listener_admin_downstream_cx_total{}"),
            ("cluster_manager.active_clusters", "envoy_cluster_manager_active_clusters{}"),
            (
                "cluster.b.grpc.retail.v1.Catalog.Get.success",
                r#"envoy_cluster_grpc_success{envoy_grpc_bridge_method="Get",envoy_grpc_bridge_service="retail.v1.Catalog",envoy_cluster_name="b"}"#,
            ),
        ] {
            let (name, labels) = extract(name);
            assert_eq!(format!("{name}{{{labels}}}"), expected);
        }
    }

    #[test]
    fn kinds_come_in_order_and_histograms_in_buckets() {
        let stats = Stats::default();
        stats.scope("cluster.b").gauge("membership_total").set(1);
        stats.scope("cluster.b").counter("upstream_rq_404").inc();
        stats.scope("cluster.a").counter("upstream_rq_200").inc();
        stats.scope("server").histogram("initialization_time_ms").record(33);
        let text = stats.prometheus(&Wanted::default());
        let begin = "# TYPE envoy_cluster_upstream_rq counter\n\
            envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"a\"} 1\n\
            envoy_cluster_upstream_rq{envoy_response_code=\"404\",envoy_cluster_name=\"b\"} 1\n\
            # TYPE envoy_cluster_membership_total gauge\n\
            envoy_cluster_membership_total{envoy_cluster_name=\"b\"} 1\n\
            # TYPE envoy_server_initialization_time_ms histogram\n\
            envoy_server_initialization_time_ms_bucket{le=\"0.5\"} 0\n";
        assert!(text.starts_with(begin), "{text}");
        assert!(
            text.contains("_bucket{le=\"25\"} 0\nenvoy_server_initialization_time_ms_bucket{le=\"50\"} 1\n")
        );
        assert!(text.ends_with("_bucket{le=\"+Inf\"} 1\nenvoy_server_initialization_time_ms_sum{} 33.492537313432834\nenvoy_server_initialization_time_ms_count{} 1\n"), "{text}");
    }
}
