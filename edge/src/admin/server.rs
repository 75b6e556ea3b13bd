//! The process itself: whether it serves, how it ends, and what it is.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::runtime::Handle;

use super::command::Query;
use super::{Admin, Reply};
use crate::gateway::Core;

/// Begins the intervals of histograms, and tells of the process in `server.…`.
pub(super) async fn watch(core: Arc<Core>, interval: Duration) {
    let scope = core.stats.scope("server");
    scope.gauge("live").set(1);
    scope.gauge("concurrency").set(i64::try_from(core.options.concurrency).unwrap_or(i64::MAX));
    let (uptime, state) = (scope.gauge("uptime"), scope.gauge("state"));
    let connections = scope.gauge("total_connections");
    let memory = ["allocated", "heap_size", "physical_size"].map(|of| scope.gauge(&format!("memory_{of}")));
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        uptime.set(signed(core.started.elapsed().as_secs()));
        state.set(core.drainer.drain().leaving().into());
        connections.set(signed(core.connections() as u64));
        for (gauge, bytes) in memory.iter().zip(occupied()) {
            gauge.set(signed(bytes));
        }
        core.stats.next_interval();
    }
}

fn signed(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn state(admin: &Admin) -> &'static str {
    if admin.core.drainer.drain().leaving() { "DRAINING" } else { "LIVE" }
}

pub(super) fn ready(admin: &Admin, _: &Query) -> Reply {
    let state = state(admin);
    let status = if state == "LIVE" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Reply { status, ..Reply::text(format!("{state}\n")) }
}

pub(super) fn fail_health_checks(admin: &Admin, fail: bool) -> Reply {
    admin.core.drainer.fail_health_checks(fail);
    Reply::text("OK\n")
}

pub(super) fn drain_listeners(admin: &Admin, query: &Query) -> Reply {
    let skip_exit = query.has("skip_exit");
    if skip_exit && !query.has("graceful") {
        return Reply::bad_request("skip_exit requires graceful\n");
    }
    if !query.has("graceful") {
        admin.core.close_listeners();
        return Reply::text("OK\n");
    }
    admin.core.drainer.begin();
    if !skip_exit {
        let core = Arc::clone(&admin.core);
        Handle::current().spawn(async move {
            tokio::time::sleep(core.options.drain_time).await;
            core.close_listeners();
        });
    }
    Reply::text("OK\n")
}

pub(super) fn quit(admin: &Admin, _: &Query) -> Reply {
    admin.core.quit.cancel();
    Reply::text("OK\n")
}

pub(super) fn reopen_logs(admin: &Admin, _: &Query) -> Reply {
    admin.core.logs.reopen();
    Reply::text("OK\n")
}

pub(super) fn server_info(admin: &Admin, _: &Query) -> Reply {
    let uptime = format!("{}s", admin.core.started.elapsed().as_secs());
    let node = admin.core.serving().bootstrap.node.clone().unwrap_or_default();
    Reply::json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": state(admin),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": {
            "concurrency": admin.core.options.concurrency,
            "drain_time": format!("{}s", admin.core.options.drain_time.as_secs()),
            "mode": "Serve",
        },
        "node": { "id": node.id, "cluster": node.cluster, "user_agent_name": "omnimesh" },
    }))
}

pub(super) fn memory(_: &Admin, _: &Query) -> Reply {
    let [allocated, heap_size, physical] = occupied().map(|bytes| bytes.to_string());
    Reply::json(&json!({
        "allocated": allocated,
        "heap_size": heap_size,
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": physical,
    }))
}

/// The memory of the process as the system counts it, for the allocator is not ours to ask: what is in use of what was
/// asked for, all that was, and what takes room in the machine.
fn occupied() -> [u64; 3] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ["RssAnon:", "VmData:", "VmRSS:"].map(|name| {
        let kilobytes = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        kilobytes.and_then(|number| number.trim().parse().ok()).unwrap_or(0_u64) * 1024
    })
}

/// There is no runtime here: what could be changed by it has the value of the configuration.
pub(super) fn runtime(_: &Admin, _: &Query) -> Reply {
    Reply::json(&json!({ "layers": [], "entries": {} }))
}
