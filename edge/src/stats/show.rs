//! Figures as `/stats` shows them: text and JSON.

use std::fmt::Write;

use regex::Regex;
use serde_json::{Value, json};

use super::histogram::QUANTILES;
use super::{Histogram, Stat, Stats};

/// Which figures are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) filter: Option<Regex>,
    pub(crate) invert: bool,
    /// Only what was ever written.
    pub(crate) used_only: bool,
    pub(crate) kind: Option<Kind>,
}

/// The kinds of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counters,
    Gauges,
    Histograms,
    /// Envoy has figures that are texts; here there are none.
    TextReadouts,
}

impl Wanted {
    /// The figures that are wanted, by name.
    pub(super) fn of(&self, stats: &Stats) -> Vec<(String, Stat)> {
        let mut all = stats.all();
        all.retain(|(name, stat)| self.takes(name, stat));
        all
    }

    fn takes(&self, name: &str, stat: &Stat) -> bool {
        let (kind, used) = match stat {
            Stat::Counter(counter) => (Kind::Counters, counter.value() != 0),
            Stat::Gauge(gauge) => (Kind::Gauges, gauge.value() != 0),
            Stat::Histogram(histogram) => (Kind::Histograms, histogram.cumulative().total() != 0),
        };
        self.kind.is_none_or(|wanted| wanted == kind)
            && (used || !self.used_only)
            && self.filter.as_ref().is_none_or(|filter| filter.is_match(name) != self.invert)
    }
}

impl Stats {
    /// A line for each figure; histograms come last.
    pub(crate) fn text(&self, wanted: &Wanted) -> String {
        let (mut numbers, mut histograms) = (String::new(), String::new());
        for (name, stat) in wanted.of(self) {
            // Writing to a String cannot fail.
            let _ = match &stat {
                Stat::Counter(counter) => writeln!(numbers, "{name}: {}", counter.value()),
                Stat::Gauge(gauge) => writeln!(numbers, "{name}: {}", gauge.value()),
                Stat::Histogram(histogram) => writeln!(histograms, "{name}: {}", quantiles(histogram)),
            };
        }
        numbers + &histograms
    }

    pub(crate) fn json(&self, wanted: &Wanted) -> Value {
        let (mut stats, mut computed) = (Vec::new(), Vec::new());
        for (name, stat) in wanted.of(self) {
            match &stat {
                Stat::Counter(counter) => stats.push(json!({ "name": name, "value": counter.value() })),
                Stat::Gauge(gauge) => stats.push(json!({ "name": name, "value": gauge.value() })),
                Stat::Histogram(histogram) => {
                    computed.push(json!({ "name": name, "values": values(histogram) }))
                }
            }
        }
        if !computed.is_empty() {
            let histograms = json!({ "supported_quantiles": QUANTILES, "computed_quantiles": computed });
            stats.push(json!({ "histograms": histograms }));
        }
        json!({ "stats": stats })
    }
}

/// `P50(interval,cumulative)` and so on.
fn quantiles(histogram: &Histogram) -> String {
    let (interval, cumulative) = (histogram.interval(), histogram.cumulative());
    let value = |value: Option<f64>| value.map_or_else(|| "nan".to_owned(), |value| value.to_string());
    if cumulative.total() == 0 {
        return "No recorded values".to_owned();
    }
    let shown = QUANTILES.map(|percent| {
        let (interval, cumulative) = (interval.quantile(percent), cumulative.quantile(percent));
        format!("P{percent}({},{})", value(interval), value(cumulative))
    });
    shown.join(" ")
}

fn values(histogram: &Histogram) -> Vec<Value> {
    let (interval, cumulative) = (histogram.interval(), histogram.cumulative());
    let quantile = |percent| json!({ "interval": interval.quantile(percent), "cumulative": cumulative.quantile(percent) });
    QUANTILES.map(quantile).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Stats {
        let stats = Stats::default();
        let cluster = stats.scope("cluster.backend");
        cluster.counter("upstream_rq_total").add(3);
        cluster.counter("upstream_rq_retry");
        cluster.gauge("upstream_cx_active").set(1);
        cluster.histogram("upstream_rq_time").record(9);
        stats.next_interval();
        cluster.histogram("a_time");
        stats
    }

    #[test]
    fn text_has_histograms_last() {
        let lines = "cluster.backend.upstream_cx_active: 1\ncluster.backend.upstream_rq_retry: 0\n\
                     cluster.backend.upstream_rq_total: 3\ncluster.backend.a_time: No recorded values\n\
                     cluster.backend.upstream_rq_time: P0(9.05,9.05) P25(9.05,9.05) P50(9.05,9.05) \
                     P75(9.05,9.05) P90(9.05,9.05) P95(9.05,9.05) P99(9.05,9.05) P99.5(9.05,9.05) \
                     P99.9(9.05,9.05) P100(9.05,9.05)\n";
        assert_eq!(stats().text(&Wanted::default()), lines);
    }

    #[test]
    fn what_is_not_wanted_is_not_shown() {
        let names = |wanted: &Wanted| {
            let text = stats().text(wanted);
            text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let filter = Some(Regex::new("upstream_rq").unwrap());
        let wanted = Wanted { filter, used_only: true, ..Wanted::default() };
        assert_eq!(names(&wanted), ["cluster.backend.upstream_rq_total", "cluster.backend.upstream_rq_time"]);
        assert_eq!(names(&Wanted { invert: true, ..wanted }), ["cluster.backend.upstream_cx_active"]);
        let gauges = Wanted { kind: Some(Kind::Gauges), ..Wanted::default() };
        assert_eq!(names(&gauges), ["cluster.backend.upstream_cx_active"]);
    }

    #[test]
    fn json_has_envoys_shape() {
        let json = stats().json(&Wanted::default());
        assert_eq!(json["stats"][0], json!({ "name": "cluster.backend.upstream_cx_active", "value": 1 }));
        let histograms = &json["stats"][3]["histograms"];
        assert_eq!(histograms["supported_quantiles"].as_array().unwrap().len(), 10);
        let time = &histograms["computed_quantiles"][1];
        assert_eq!(time["name"], "cluster.backend.upstream_rq_time");
        assert_eq!(time["values"][0], json!({ "interval": 9.05, "cumulative": 9.05 }));
    }
}
