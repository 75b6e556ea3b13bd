//! `/stats`, in three formats, and setting counters back.

use regex::Regex;

use super::command::Query;
use super::{Admin, Reply};
use crate::stats::{Kind, Wanted};

pub(super) fn stats(admin: &Admin, query: &Query) -> Reply {
    let wanted = match wanted(query) {
        Ok(wanted) => wanted,
        Err(refused) => return refused,
    };
    let stats = &admin.core.stats;
    match query.get("format") {
        None | Some("text") => Reply::text(stats.text(&wanted)),
        Some("json") => Reply::json(&stats.json(&wanted)),
        Some("prometheus") => Reply::text(stats.prometheus(&wanted)),
        Some(_) => Reply::bad_request("usage: /stats?format=(json|prometheus|text)\n\n"),
    }
}

pub(super) fn prometheus(admin: &Admin, query: &Query) -> Reply {
    match wanted(query) {
        Ok(wanted) => {
            let own = admin.core.stats.prometheus(&wanted);
            let process = admin.core.options.render_metrics.as_ref();
            Reply::text(own + &process.map(|render| render()).unwrap_or_default())
        }
        Err(refused) => refused,
    }
}

pub(super) fn reset_counters(admin: &Admin, _: &Query) -> Reply {
    admin.core.stats.reset_counters();
    Reply::text("OK\n")
}

/// What a query asks for.
fn wanted(query: &Query) -> Result<Wanted, Reply> {
    let filter = query.get("filter").filter(|filter| !filter.is_empty()).map(Regex::new).transpose();
    let filter = filter.map_err(|error| Reply::bad_request(format!("Invalid regex: {error}\n")))?;
    let kind = match query.get("type") {
        None | Some("All") => None,
        Some("Counters") => Some(Kind::Counters),
        Some("Gauges") => Some(Kind::Gauges),
        Some("Histograms") => Some(Kind::Histograms),
        Some("TextReadouts") => Some(Kind::TextReadouts),
        Some(_) => return Err(Reply::bad_request("invalid &type= param")),
    };
    Ok(Wanted { filter, invert: query.has("invert_filter"), used_only: query.has("usedonly"), kind })
}
