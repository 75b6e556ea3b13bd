//! Upstreams that do what a case says and keep what they saw. A connection is HTTP/2 when it begins like that.

mod http1;
pub(crate) mod http2;
pub(crate) mod plan;
mod services;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::case::{self, Answer, Case};
use crate::http1::Reader;
use crate::observation::Observation;
use crate::{certificates, eventually};

pub(crate) struct Backends {
    running: BTreeMap<String, Arc<State>>,
    ports: Vec<(String, u16)>,
    /// Bound and not listening, so that nobody else takes the port that refuses connections.
    _dead: TcpSocket,
}

struct State {
    name: String,
    spec: case::Backend,
    tls: Option<TlsAcceptor>,
    play: Mutex<Play>,
    certificates: std::path::PathBuf,
}

/// What one gateway's run used up and left.
struct Play {
    records: Vec<Record>,
    used: Vec<usize>,
    gate: Arc<Semaphore>,
}

impl Play {
    fn new(answers: usize) -> Self {
        Self { records: Vec::new(), used: vec![0; answers], gate: Arc::new(Semaphore::new(0)) }
    }
}

#[derive(Clone, Default)]
struct Record {
    observed: Observation,
    is_complete: bool,
}

impl Backends {
    /// Starts a backend for each name that the case describes or its bootstrap mentions.
    pub(crate) async fn start(case: &Case, bootstrap: &str, certificates: &Path) -> Self {
        let mut specs = case.backends.clone();
        let mentioned = regex::Regex::new("<([a-z][a-z0-9_]*)>").expect("a pattern");
        for name in mentioned.captures_iter(bootstrap).map(|found| found[1].to_owned()) {
            if !["dead", "certs", "dir"].contains(&name.as_str()) {
                specs.entry(name).or_default();
            }
        }
        let dead = TcpSocket::new_v4().expect("socket");
        dead.bind("127.0.0.1:0".parse().expect("address")).expect("bound");
        let mut ports = vec![("dead".to_owned(), dead.local_addr().expect("address").port())];
        let mut running = BTreeMap::new();
        for (name, spec) in specs {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
            ports.push((name.clone(), listener.local_addr().expect("address").port()));
            let tls = spec.tls.as_ref().map(|tls| certificates::server(certificates, tls).into());
            let play = Mutex::new(Play::new(spec.answers.len()));
            let certificates = certificates.to_owned();
            let state = Arc::new(State { name: name.clone(), spec, tls, play, certificates });
            tokio::spawn(accept(listener, Arc::clone(&state)));
            running.insert(name, state);
        }
        Self { running, ports, _dead: dead }
    }

    /// Where everything listens, by the name that placeholders have.
    pub(crate) fn ports(&self) -> &[(String, u16)] {
        &self.ports
    }

    /// Forgets a run: the next gateway meets the same behaviour.
    pub(crate) fn rewind(&self) {
        for state in self.running.values() {
            *state.play.lock().expect("play") = Play::new(state.spec.answers.len());
        }
    }

    pub(crate) fn release(&self, name: &str) {
        self.running[name].play.lock().expect("play").gate.close();
    }

    pub(crate) fn seen(&self, name: &str) -> usize {
        self.running[name].play.lock().expect("play").records.len()
    }

    pub(crate) fn seen_by_all(&self) -> usize {
        self.running.keys().map(|name| self.seen(name)).sum()
    }

    /// What each backend saw, once all of it came.
    pub(crate) async fn observe(&self) -> Observation {
        let all_complete = || {
            let complete = |state: &Arc<State>| {
                state.play.lock().expect("play").records.iter().all(|record| record.is_complete)
            };
            self.running.values().all(complete).then_some(())
        };
        eventually(all_complete).await;
        let mut observation = Observation::default();
        for (name, state) in &self.running {
            let records = state.play.lock().expect("play").records.clone();
            for (number, record) in records.into_iter().enumerate() {
                observation.merge(&format!("{name}#{number}."), record.observed);
                if !record.is_complete {
                    observation.put(format!("{name}#{number}.end"), "open");
                }
            }
        }
        observation
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        stream.set_nodelay(true).expect("option");
        tokio::spawn(async move {
            let Some(acceptor) = &state.tls else {
                return serve(stream, Observation::default(), state).await;
            };
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let mut peer = Observation::default();
            let (_, session) = stream.get_ref();
            if let Some(name) = session.server_name() {
                peer.put("tls.sni", name);
            }
            if let Some([certificate, ..]) = session.peer_certificates() {
                peer.put("tls.client", certificates::holder(&state.certificates, certificate));
            }
            serve(stream, peer, state).await;
        });
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Observation,
    state: Arc<State>,
) {
    let mut reader = Reader::new(stream);
    let Ok(begin) = reader.peek(3).await else { return };
    if begin.starts_with(b"PRI") {
        http2::serve(reader, peer, state).await;
    } else {
        http1::serve(reader, peer, state).await;
    }
}

impl State {
    /// Notes a request whose headers came, and finds its answer. None: a path that is not to be seen.
    fn begin(
        &self,
        path: &str,
        kind: Kind,
        observed: Observation,
    ) -> (Option<usize>, Answer, Arc<Semaphore>) {
        let mut play = self.play.lock().expect("play");
        let unseen = self.spec.unseen.iter().any(|unseen| unseen == path);
        let number = (!unseen).then(|| {
            play.records.push(Record { observed, is_complete: false });
            play.records.len() - 1
        });
        let fits = |answer: &Answer| answer.path.as_deref().is_none_or(|wanted| wanted == path);
        let fitting: Vec<usize> =
            (0..self.spec.answers.len()).filter(|at| fits(&self.spec.answers[*at])).collect();
        let is_left = |at: &&usize| play.used[**at] < self.spec.answers[**at].times.unwrap_or(1);
        let chosen = fitting.iter().find(is_left).or(fitting.last()).copied();
        let answer = match chosen {
            Some(at) => {
                play.used[at] += 1;
                self.spec.answers[at].clone()
            }
            None => default_answer(&self.name, kind),
        };
        let gate = Arc::clone(&play.gate);
        (number, answer, gate)
    }

    /// Notes what came after the headers.
    fn complete(&self, number: Option<usize>, rest: Observation) {
        let Some(number) = number else { return };
        let mut play = self.play.lock().expect("play");
        if let Some(record) = play.records.get_mut(number) {
            record.observed.merge("", rest);
            record.is_complete = true;
        }
    }
}

/// What a server takes a request for.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Grpc,
    /// Says that it is gRPC and is not, such as gRPC-Web.
    Malformed,
    Other,
}

/// gRPC calls get their messages back, what is not quite gRPC a reset, everything else the backend's name.
fn default_answer(name: &str, kind: Kind) -> Answer {
    match kind {
        Kind::Grpc => Answer { echo: true, messages: Some(Default::default()), ..Answer::default() },
        Kind::Malformed => Answer { reset: Some("INTERNAL_ERROR".to_owned()), ..Answer::default() },
        Kind::Other => Answer {
            headers: [("content-type".to_owned(), "text/plain".into())].into(),
            body: serde_json::Value::from(format!("{name}\n")).into(),
            ..Answer::default()
        },
    }
}
