//! An explanation, as JSON and as a page to read.

use std::fmt;

use serde::Serialize;

/// Where something stands in the file.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    pub name: String,
    /// Names of fields as Envoy's API has them.
    pub path: String,
    pub line: usize,
}

/// What becomes of a request.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// `METHOD AUTHORITY PATH`, as the listener understands it.
    pub request: String,
    pub listener: Place,
    pub filter_chain: Place,
    pub virtual_host: Option<Place>,
    /// In order; the last one takes the request if a route does.
    pub tried: Vec<TriedRoute>,
    pub filters: Vec<FilterStep>,
    pub outcome: Outcome,
}

/// A route that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct TriedRoute {
    #[serde(flatten)]
    pub place: Place,
    /// What it wants of a request's path.
    pub wants: String,
    /// What does not fit; none: it takes the request.
    pub mismatch: Option<String>,
}

/// A filter of the chain.
#[derive(Clone, Debug, Serialize)]
pub struct FilterStep {
    #[serde(flatten)]
    pub place: Place,
    #[serde(rename = "type")]
    pub kind: String,
    pub enabled: bool,
    /// Who says otherwise than the chain.
    pub overridden_by: Option<Place>,
}

/// What the route does.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Outcome {
    /// The request goes to a cluster.
    Forward {
        cluster: Place,
        /// Such as `STRICT_DNS, ROUND_ROBIN, HTTP/2`.
        about: String,
        endpoints: Vec<Endpoint>,
        /// `METHOD AUTHORITY PATH`, as the upstream sees it.
        sent: String,
        policies: Vec<(String, String)>,
    },
    Redirect {
        status: u16,
        location: String,
    },
    DirectResponse {
        status: u16,
    },
    /// The gateway answers by itself.
    Refused {
        status: u16,
        details: String,
    },
}

/// Where a cluster's hosts are.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoint {
    pub address: String,
    pub weight: u32,
}

impl Explanation {
    /// Whether a route takes the request.
    pub fn is_matched(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused { .. })
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("request", self.request.clone()),
            ("listener", self.listener.to_string()),
            ("filter chain", self.filter_chain.to_string()),
        ];
        if let Some(host) = &self.virtual_host {
            rows.push(("virtual host", host.to_string()));
        }
        for tried in &self.tried {
            let (label, why) = match &tried.mismatch {
                Some(mismatch) => ("not route", format!(": {mismatch}")),
                None => ("route", String::new()),
            };
            rows.push((label, format!("{}, {}{why}", tried.place, tried.wants)));
        }
        for filter in self.filters.iter().filter(|_| self.is_matched()) {
            let state = if filter.enabled { "on" } else { "off" };
            let by = filter.overridden_by.as_ref().map(|by| format!(", as {by} says")).unwrap_or_default();
            rows.push(("filter", format!("{}: {state}{by}", filter.place)));
        }
        self.outcome.tell(&mut rows);
        rows
    }
}

impl Outcome {
    fn tell(&self, rows: &mut Vec<(&'static str, String)>) {
        match self {
            Self::Forward { cluster, about, endpoints, sent, policies } => {
                rows.push(("cluster", format!("{cluster}: {about}")));
                for endpoint in endpoints {
                    let weight = match endpoint.weight {
                        1 => String::new(),
                        weight => format!(", weight {weight}"),
                    };
                    rows.push(("endpoint", format!("{}{weight}", endpoint.address)));
                }
                rows.push(("sent as", sent.clone()));
                rows.extend(policies.iter().map(|(name, value)| ("policy", format!("{name} {value}"))));
            }
            Self::Redirect { status, location } => rows.push(("answer", format!("{status} to {location}"))),
            Self::DirectResponse { status } => rows.push(("answer", format!("{status}, from the route"))),
            Self::Refused { status, details } => {
                rows.push(("answer", format!("{status} by the gateway itself: {details}")));
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { &self.path } else { &self.name };
        write!(f, "{name} (line {})", self.line)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for (label, value) in self.rows() {
            let shown = if label == before { "" } else { label };
            writeln!(f, "{shown:<13} {value}")?;
            before = label;
        }
        Ok(())
    }
}
