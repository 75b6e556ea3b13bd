//! The figures of a cluster, under Envoy's names.

use std::sync::OnceLock;

use crate::stats::{Counter, Gauge, Histogram, Scope};

macro_rules! figures {
    (counters { $($counter:ident)* } gauges { $($gauge:ident)* } histograms { $($histogram:ident)* }) => {
        #[derive(Debug)]
        pub(crate) struct ClusterStats {
            $(pub(crate) $counter: Counter,)*
            $(pub(crate) $gauge: Gauge,)*
            $(pub(super) $histogram: Histogram,)*
            classes: [Counter; 5],
            codes: Box<[OnceLock<Counter>]>,
            scope: Scope,
        }

        impl ClusterStats {
            pub(super) fn new(scope: Scope) -> Self {
                Self {
                    $($counter: scope.counter(stringify!($counter)),)*
                    $($gauge: scope.gauge(stringify!($gauge)),)*
                    $($histogram: scope.histogram(stringify!($histogram)),)*
                    classes: [1, 2, 3, 4, 5].map(|class| scope.counter(&format!("upstream_rq_{class}xx"))),
                    codes: (100..600).map(|_| OnceLock::new()).collect(),
                    scope,
                }
            }
        }
    };
}

figures! {
    counters {
        lb_healthy_panic
        membership_change
        retry_or_shadow_abandoned
        update_attempt
        update_empty
        update_failure
        update_no_rebuild
        update_success
        upstream_cx_close_notify
        upstream_cx_connect_fail
        upstream_cx_connect_timeout
        upstream_cx_destroy
        upstream_cx_destroy_local
        upstream_cx_destroy_remote
        upstream_cx_destroy_remote_with_active_rq
        upstream_cx_destroy_with_active_rq
        upstream_cx_http1_total
        upstream_cx_http2_total
        upstream_cx_idle_timeout
        upstream_cx_max_duration_reached
        upstream_cx_max_requests
        upstream_cx_none_healthy
        upstream_cx_overflow
        upstream_cx_protocol_error
        upstream_cx_rx_bytes_total
        upstream_cx_total
        upstream_cx_tx_bytes_total
        upstream_rq_cancelled
        upstream_rq_completed
        upstream_rq_max_duration_reached
        upstream_rq_pending_failure_eject
        upstream_rq_pending_overflow
        upstream_rq_pending_total
        upstream_rq_per_try_timeout
        upstream_rq_retry
        upstream_rq_retry_limit_exceeded
        upstream_rq_retry_overflow
        upstream_rq_retry_success
        upstream_rq_rx_reset
        upstream_rq_timeout
        upstream_rq_total
        upstream_rq_tx_reset
    }
    gauges {
        max_host_weight
        membership_degraded
        membership_healthy
        membership_total
        upstream_cx_active
        upstream_rq_active
        upstream_rq_pending_active
    }
    histograms {
        upstream_cx_connect_ms
        upstream_cx_length_ms
        upstream_rq_time
    }
}

impl ClusterStats {
    /// Counts an answer by its status.
    pub(crate) fn answered(&self, status: u16) {
        let Some(slot) = status.checked_sub(100).and_then(|at| self.codes.get(usize::from(at))) else {
            return;
        };
        self.upstream_rq_completed.inc();
        self.classes[usize::from(status / 100 - 1)].inc();
        slot.get_or_init(|| self.scope.counter(&format!("upstream_rq_{status}"))).inc();
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }
}
