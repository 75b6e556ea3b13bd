//! What a file of a case holds.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::body::Body;
use crate::observation::{Observation, text};
use crate::{config, tokens, yaml};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What must hold, in one sentence.
    #[expect(dead_code, reason = "for the reader of the file")]
    about: String,
    /// A file of `bases`, without its extension.
    #[serde(default)]
    pub(crate) extends: Option<String>,
    /// The whole bootstrap as text, or overrides of the base's (`config.rs`).
    #[serde(default)]
    pub(crate) config: Value,
    #[serde(default)]
    pub(crate) backends: BTreeMap<String, Backend>,
    #[serde(default)]
    pub(crate) requests: Vec<Step>,
    /// Counters and gauges after the last request.
    #[serde(default)]
    pub(crate) stats: BTreeMap<String, u64>,
    /// What changes from run to run, beside what always does.
    #[serde(default)]
    pub(crate) mask: Vec<Mask>,
    /// Facts that Envoy's observation must hold: they test this harness.
    #[serde(default)]
    pub(crate) expect: BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) differs: Vec<Difference>,
    /// What is still missing: the case must go wrong until this line is taken away.
    #[serde(default)]
    pub(crate) open: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Mask {
    /// A regular expression, wherever it stands.
    Text(String),
    /// A whole value; `*` stands for any text.
    At { at: String },
}

/// A difference that is meant. Listed and gone is as wrong as there and not listed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Difference {
    /// The path of what differs, or several; `*` stands for any text.
    pub(crate) at: Paths,
    /// Our value, where `*` stands for any text, too; null when we have none.
    pub(crate) ours: Value,
    #[expect(dead_code, reason = "for the reader of the file")]
    because: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Paths {
    One(String),
    Several(Vec<String>),
}

impl Paths {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &String> {
        match self {
            Self::One(path) => std::slice::from_ref(path).iter(),
            Self::Several(paths) => paths.iter(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backend {
    #[serde(default)]
    pub(crate) tls: Option<BackendTls>,
    /// In their order; the last one is repeated. None at all: see `backend::default_answer`.
    #[serde(default)]
    pub(crate) answers: Vec<Answer>,
    /// Paths whose requests are not part of what was seen, as their number depends on time.
    #[serde(default)]
    pub(crate) unseen: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackendTls {
    pub(crate) certificate: String,
    /// Whether clients must show a certificate of the tests' authority.
    #[serde(default)]
    pub(crate) mutual: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Answer {
    /// Answers requests for this path only.
    pub(crate) path: Option<String>,
    /// How often, when it is not the last one.
    pub(crate) times: Option<usize>,
    pub(crate) status: Option<u16>,
    pub(crate) headers: BTreeMap<String, Value>,
    pub(crate) body: Body,
    /// gRPC messages; they bring the content type and `grpc-status: 0` along.
    pub(crate) messages: Option<Body>,
    pub(crate) trailers: BTreeMap<String, Value>,
    /// Ends the stream with the headers: gRPC's "Trailers-Only".
    pub(crate) trailers_only: BTreeMap<String, Value>,
    /// A response of Envoy's rate limit or authorization service.
    pub(crate) service: Option<Value>,
    /// Sends what it received back, with `early` piece by piece.
    pub(crate) echo: bool,
    /// Answers before it read the request.
    pub(crate) early: bool,
    /// Waits for a step `release`: before the headers (`start`), before the body or before the end.
    pub(crate) hold: Option<Hold>,
    /// Ends the stream with RST_STREAM and this code, over HTTP/1 by closing the connection.
    pub(crate) reset: Option<String>,
    /// Closes the connection after what was sent.
    pub(crate) close: bool,
}

impl Answer {
    /// Has nothing to send before it resets or closes.
    pub(crate) fn is_bare(&self) -> bool {
        self.status.is_none() && self.headers.is_empty() && self.body.is_empty() && self.messages.is_none()
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hold {
    Start,
    Body,
    End,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) enum Step {
    Send(Box<Request>),
    /// Lets the answers of a backend go on that hold.
    Release(String),
    /// Waits until statistics have these values.
    Wait(BTreeMap<String, u64>),
    /// Waits until backends saw so many requests.
    Seen(BTreeMap<String, usize>),
}

impl TryFrom<Value> for Step {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let only = |key: &str| value.get(key).cloned();
        let step = if let Some(backend) = only("release") {
            serde_json::from_value(backend).map(Self::Release)
        } else if let Some(values) = only("wait") {
            serde_json::from_value(values).map(Self::Wait)
        } else if let Some(numbers) = only("seen") {
            serde_json::from_value(numbers).map(Self::Seen)
        } else {
            serde_json::from_value(value).map(Self::Send)
        };
        step.map_err(|error| error.to_string())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// `h1 GET /path`, `h2 POST /path`, `grpc /path`, `grpc-web h1 /path`, `grpc-web-text h2 /path` or `raw`.
    pub(crate) send: String,
    /// Its name in the observation instead of its number.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// A listener's name, or `admin`.
    #[serde(default)]
    pub(crate) to: Option<String>,
    #[serde(default)]
    pub(crate) tls: Option<ClientTls>,
    /// The name of a connection to use again; without it each request has its own.
    #[serde(default)]
    pub(crate) on: Option<String>,
    /// Null takes a header away that the protocol brings along.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) body: Body,
    /// gRPC messages, framed as the protocol does.
    #[serde(default)]
    pub(crate) messages: Option<Body>,
    #[serde(default)]
    pub(crate) trailers: BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) chunked: bool,
    /// Resets the stream (HTTP/1: closes the connection) with this code.
    #[serde(default)]
    pub(crate) reset: Option<Reset>,
    /// Leaves the request open until the response ended.
    #[serde(default)]
    pub(crate) half_open: bool,
    /// How many responses `raw` reads.
    #[serde(default = "one")]
    pub(crate) responses: usize,
    /// Waits afterwards whether the server closes the connection.
    #[serde(default)]
    pub(crate) closes: bool,
    #[serde(default = "one")]
    pub(crate) repeat: usize,
    /// Counts equal replies instead of listing them.
    #[serde(default)]
    pub(crate) tally: bool,
    /// Goes on with the next step at once.
    #[serde(default)]
    pub(crate) background: bool,
    /// Of a JSON body only its fields and their types are compared.
    #[serde(default)]
    pub(crate) shape: bool,
    /// What of the reply is compared; without it everything.
    #[serde(default)]
    pub(crate) only: Vec<String>,
}

fn one() -> usize {
    1
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reset {
    pub(crate) code: String,
    pub(crate) after: ResetAfter,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ResetAfter {
    /// A backend saw the request.
    Seen,
    /// The response's headers came.
    Headers,
    /// Its first bytes came.
    Data,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientTls {
    #[serde(default)]
    pub(crate) sni: Option<String>,
    #[serde(default)]
    pub(crate) certificate: Option<String>,
    #[serde(default)]
    pub(crate) alpn: Option<Vec<String>>,
    /// `1.2` or `1.3`; both without it.
    #[serde(default)]
    pub(crate) version: Option<String>,
}

impl Case {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let mut case = yaml::read(&text)?;
        tokens::fill(&mut case);
        serde_json::from_value(case).map_err(|error| error.to_string())
    }

    /// What Envoy's observation should hold and does not.
    pub(crate) fn unexpected(&self, observed: &Observation) -> Vec<String> {
        let facts = self.expect.iter().map(|(path, value)| (path.clone(), text(value)));
        let stats = self.stats.iter().map(|(name, value)| (format!("stats.{name}"), Some(value.to_string())));
        let unmet = facts.chain(stats).filter(|(path, value)| observed.get(path) != value.as_deref());
        let line = |(path, value): (String, _)| {
            format!("{path}\n    expected: {value:?}\n    Envoy:    {:?}", observed.get(&path))
        };
        unmet.map(line).collect()
    }

    /// The bootstrap, its placeholders still in it.
    pub(crate) fn bootstrap(&self) -> Result<Value, String> {
        match &self.config {
            Value::String(text) => Ok(Value::String(text.clone())),
            overrides => config::compose(self.extends.as_deref().unwrap_or("plain"), overrides),
        }
    }
}
