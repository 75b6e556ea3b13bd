//! The operators' interface: readiness, metrics and taking an edge out of its load balancer, as Envoy's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

/// Renders the process's metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

const TEXT: &str = "text/plain; charset=utf-8";

pub(crate) struct Admin {
    metrics: RenderMetrics,
    started: Instant,
    draining: Arc<AtomicBool>,
}

impl Admin {
    /// `draining` is shared with whoever else takes the edge out of service.
    pub(crate) fn new(metrics: RenderMetrics, draining: Arc<AtomicBool>) -> Self {
        Self { metrics, started: Instant::now(), draining }
    }

    fn state(&self) -> &'static str {
        if self.draining.load(Ordering::Relaxed) { "DRAINING" } else { "LIVE" }
    }

    fn ready(&self) -> Reply {
        let draining = self.draining.load(Ordering::Relaxed);
        let status = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        Reply { status, ..Reply::text(format!("{}\n", self.state())) }
    }

    fn set_draining(&self, draining: bool) -> Reply {
        self.draining.store(draining, Ordering::Relaxed);
        Reply::text("OK\n".to_owned())
    }

    fn server_info(&self) -> Reply {
        let uptime = format!("{}s", self.started.elapsed().as_secs());
        let info = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "state": self.state(),
            "uptime_current_epoch": uptime,
            "uptime_all_epochs": uptime,
        });
        Reply { content_type: "application/json", ..Reply::text(format!("{info:#}\n")) }
    }
}

struct Reply {
    status: StatusCode,
    content_type: &'static str,
    allow: Option<&'static str>,
    body: String,
}

impl Reply {
    fn text(body: String) -> Self {
        Self { status: StatusCode::OK, content_type: TEXT, allow: None, body }
    }

    fn refuse(status: StatusCode, allow: Option<&'static str>, body: &str) -> Self {
        Self { status, allow, ..Self::text(body.to_owned()) }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let reads = request.method == Method::GET;
        let changes = request.method == Method::POST;
        let reply = match request.uri.path() {
            "/ready" if reads => self.ready(),
            "/stats/prometheus" if reads => Reply::text((self.metrics)()),
            "/server_info" if reads => self.server_info(),
            "/healthcheck/fail" if changes => self.set_draining(true),
            "/healthcheck/ok" if changes => self.set_draining(false),
            "/ready" | "/stats/prometheus" | "/server_info" => {
                Reply::refuse(StatusCode::METHOD_NOT_ALLOWED, Some("GET"), "use GET\n")
            }
            "/healthcheck/fail" | "/healthcheck/ok" => {
                Reply::refuse(StatusCode::METHOD_NOT_ALLOWED, Some("POST"), "use POST\n")
            }
            _ => Reply::refuse(StatusCode::NOT_FOUND, None, "there is no such admin endpoint\n"),
        };
        let mut response = Response::builder()
            .status(reply.status)
            .header(CONTENT_TYPE, reply.content_type)
            .header(CONTENT_LENGTH, reply.body.len());
        if let Some(allow) = reply.allow {
            response = response.header(ALLOW, allow);
        }
        response.body(reply.body.into_bytes()).unwrap_or_default()
    }
}
