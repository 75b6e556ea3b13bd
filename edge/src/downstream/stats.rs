//! The figures of connections and requests, under Envoy's names.

use crate::stats::{Counter, Gauge, Histogram, Scope};

/// `http.<stat_prefix>.…`
#[derive(Debug)]
pub(crate) struct HcmStats {
    pub(crate) scope: Scope,
    pub(crate) connections: Counter,
    pub(crate) connections_active: Gauge,
    pub(crate) connections_ended: Counter,
    pub(crate) connection_length: Histogram,
    pub(crate) tls: Counter,
    pub(crate) tls_active: Gauge,
    http1: ProtocolStats,
    http2: ProtocolStats,
    pub(crate) requests: Counter,
    pub(crate) requests_active: Gauge,
    pub(crate) request_time: Histogram,
    pub(crate) completed: Counter,
    /// 1xx to 5xx.
    pub(crate) classes: [Counter; 5],
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    pub(crate) idle_timeouts: Counter,
    pub(crate) header_timeouts: Counter,
    pub(crate) premature_resets: Counter,
    pub(crate) no_route: Counter,
}

impl HcmStats {
    pub(super) fn new(scope: Scope) -> Self {
        let class = |class: usize| scope.counter(&format!("downstream_rq_{}xx", class + 1));
        Self {
            connections: scope.counter("downstream_cx_total"),
            connections_active: scope.gauge("downstream_cx_active"),
            connections_ended: scope.counter("downstream_cx_destroy"),
            connection_length: scope.histogram("downstream_cx_length_ms"),
            tls: scope.counter("downstream_cx_ssl_total"),
            tls_active: scope.gauge("downstream_cx_ssl_active"),
            http1: ProtocolStats::new(&scope, "http1"),
            http2: ProtocolStats::new(&scope, "http2"),
            requests: scope.counter("downstream_rq_total"),
            requests_active: scope.gauge("downstream_rq_active"),
            request_time: scope.histogram("downstream_rq_time"),
            completed: scope.counter("downstream_rq_completed"),
            classes: std::array::from_fn(class),
            received: scope.counter("downstream_cx_rx_bytes_total"),
            sent: scope.counter("downstream_cx_tx_bytes_total"),
            idle_timeouts: scope.counter("downstream_cx_idle_timeout"),
            header_timeouts: scope.counter("downstream_rq_header_timeout"),
            premature_resets: scope.counter("downstream_rq_too_many_premature_resets"),
            no_route: scope.counter("no_route"),
            scope,
        }
    }

    /// What is counted of the protocol that a connection speaks.
    pub(crate) fn of(&self, http2: bool) -> &ProtocolStats {
        if http2 { &self.http2 } else { &self.http1 }
    }
}

/// `….downstream_cx_http2_…` and its like.
#[derive(Debug)]
pub(crate) struct ProtocolStats {
    pub(crate) connections: Counter,
    pub(crate) connections_active: Gauge,
    pub(crate) requests: Counter,
}

impl ProtocolStats {
    fn new(scope: &Scope, protocol: &str) -> Self {
        Self {
            connections: scope.counter(&format!("downstream_cx_{protocol}_total")),
            connections_active: scope.gauge(&format!("downstream_cx_{protocol}_active")),
            requests: scope.counter(&format!("downstream_rq_{protocol}_total")),
        }
    }
}
