//! The commands by path, and how they are asked.

use std::fmt::Write;

use super::{Admin, Reply, certs, clusters, config_dump, logging, server, stats};

/// Something that can be asked for.
pub(super) struct Command {
    pub(super) path: &'static str,
    /// Whether it needs POST.
    pub(super) changes: bool,
    about: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    pub(super) run: fn(&Admin, &Query) -> Reply,
}

const fn shows(path: &'static str, about: &'static str, run: fn(&Admin, &Query) -> Reply) -> Command {
    Command { path, changes: false, about, parameters: &[], run }
}

const fn changes(path: &'static str, about: &'static str, run: fn(&Admin, &Query) -> Reply) -> Command {
    Command { changes: true, ..shows(path, about, run) }
}

impl Command {
    const fn takes(self, parameters: &'static [(&'static str, &'static str)]) -> Self {
        Self { parameters, ..self }
    }
}

const FILTERS: [(&str, &str); 3] = [
    ("usedonly", "Only include stats that have been written by system since restart"),
    ("filter", "Regular expression for filtering stats"),
    ("invert_filter", "Invert the filter regex"),
];

/// In order of their paths.
const COMMANDS: &[Command] = &[
    shows("/", "Admin home page", |_, _| Reply::html(home())),
    shows("/certs", "print certs on machine", certs::certs),
    shows("/clusters", "upstream cluster status", clusters::clusters).takes(&[
        ("filter", "Regular expression for filtering clusters by name"),
        ("format", "File format to use; One of (text, json)"),
    ]),
    shows("/config_dump", "dump current configs", config_dump::config_dump).takes(&[
        ("resource", "The resource to dump, such as static_clusters"),
        ("name_regex", "Dump only configurations whose names match"),
    ]),
    changes("/drain_listeners", "drain listeners", server::drain_listeners).takes(&[
        ("graceful", "Let connections end for the drain time before listeners close"),
        ("skip_exit", "Drain connections, but never close listeners"),
        ("inboundonly", "Every listener here is inbound: the same as without"),
    ]),
    changes("/healthcheck/fail", "cause the server to fail health checks", |admin, _| {
        server::fail_health_checks(admin, true)
    }),
    changes("/healthcheck/ok", "cause the server to pass health checks", |admin, _| {
        server::fail_health_checks(admin, false)
    }),
    shows("/help", "print out list of admin commands", |_, _| Reply::text(help())),
    shows("/hot_restart_version", "print the hot restart compatibility version", |_, _| {
        Reply::text("disabled")
    }),
    shows("/listeners", "print listener info", clusters::listeners)
        .takes(&[("format", "File format to use; One of (text, json)")]),
    changes("/logging", "query/change logging levels", logging::logging).takes(&[
        ("paths", "Change several targets: <target1>:<level1>,<target2>:<level2>"),
        ("level", "The level of all targets; One of (trace, debug, info, warning, error, critical, off)"),
    ]),
    shows("/memory", "print current allocation/heap usage", server::memory),
    changes("/quitquitquit", "exit the server", server::quit),
    shows("/ready", "print server state, return 200 if LIVE, otherwise return 503", server::ready),
    changes("/reopen_logs", "reopen access logs", server::reopen_logs),
    changes("/reset_counters", "reset all counters to zero", stats::reset_counters),
    shows("/runtime", "print runtime values", server::runtime),
    shows("/server_info", "print server version/status information", server::server_info),
    shows("/stats", "print server stats", stats::stats).takes(&[
        FILTERS[0],
        FILTERS[1],
        FILTERS[2],
        ("format", "Format to use; One of (text, json, prometheus)"),
        ("type", "Stat types to include; One of (All, Counters, Histograms, Gauges, TextReadouts)"),
    ]),
    shows("/stats/prometheus", "print server stats in prometheus format", stats::prometheus).takes(&FILTERS),
];

pub(super) fn find(path: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.path == path)
}

pub(super) fn help() -> String {
    let mut help = "admin commands are:\n".to_owned();
    for command in COMMANDS {
        let post = if command.changes { " (POST)" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(help, "  {}{post}: {}", command.path, command.about);
        for (name, about) in command.parameters {
            let _ = writeln!(help, "      {name}: {about}");
        }
    }
    help
}

/// What changes something is a button, so that nothing changes for a browser's looking ahead.
fn home() -> String {
    let mut rows = String::new();
    for Command { path, changes, about, .. } in COMMANDS {
        let name = path.trim_start_matches('/');
        let link = if *changes {
            format!("<form action=\"{name}\" method=\"post\"><button>{name}</button></form>")
        } else {
            format!("<a href=\"{name}\">{name}</a>")
        };
        // Writing to a String cannot fail.
        let _ = writeln!(rows, "<tr><td>{link}</td><td>{about}</td></tr>");
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>Omnimesh edge</title></head>\n<body>\n<table>\n\
         <thead><tr><th>Command</th><th>Description</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n\
         </body>\n</html>\n"
    )
}

/// The parameters of a command.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn all(&self) -> &[(String, String)] {
        &self.0
    }
}

/// Takes percent-encoding off.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['%', '+']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let code = rest.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        let (byte, len) = match (rest.as_bytes()[at], code) {
            (b'%', Some(byte)) => (byte, 3),
            (b'+', _) => (b' ', 1),
            (other, _) => (other, 1),
        };
        bytes.push(byte);
        rest = &rest[at + len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}
