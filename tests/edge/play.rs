//! One run of a case on one gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::backend::Backends;
use crate::case::{Case, Mask, Request, Step};
use crate::client::{Client, Connection, exchange};
use crate::gateway::{Addresses, Gateway};
use crate::observation::{Masks, Observation, text};
use crate::{certificates, eventually, eventually_async};

/// What both gateways meet: the same backends, certificates and bootstrap.
pub(crate) struct Stage {
    directory: TempDir,
    backends: Arc<Backends>,
    bootstrap: String,
}

impl Stage {
    pub(crate) async fn set(case: &Case) -> Result<Self, String> {
        let directory = TempDir::new().map_err(|error| error.to_string())?;
        let certificates = directory.path().join("certs");
        std::fs::create_dir(&certificates).map_err(|error| error.to_string())?;
        certificates::write(&certificates);
        let bootstrap = case.bootstrap()?;
        let mut text = match &bootstrap {
            Value::String(text) => text.clone(),
            composed => serde_json::to_string_pretty(composed).map_err(|error| error.to_string())?,
        };
        let backends = Backends::start(case, &text, &certificates).await;
        for (name, port) in backends.ports() {
            text = text.replace(&format!("\"<{name}>\""), &port.to_string());
            text = text.replace(&format!("<{name}>"), &port.to_string());
        }
        text = text.replace("<certs>", &certificates.display().to_string());
        text = text.replace("<dir>", &directory.path().display().to_string());
        Ok(Self { directory, backends: Arc::new(backends), bootstrap: text })
    }

    pub(crate) async fn play(&self, gateway: &dyn Gateway, case: &Case) -> Result<Observation, String> {
        self.backends.rewind();
        let mut observed = Observation::default();
        let running = match gateway.start(&self.bootstrap, self.directory.path()).await {
            Ok(running) => running,
            Err(refusal) => {
                observed.put("start", "refused");
                observed.remark(refusal);
                return Ok(observed);
            }
        };
        let addresses = running.addresses().clone();
        let certificates = self.directory.path().join("certs");
        let mut acts = Acts {
            client: Client::new(addresses.clone(), certificates, Arc::clone(&self.backends)),
            behind: Vec::new(),
            observed,
        };
        for (number, step) in case.requests.iter().enumerate() {
            acts.step(number, step).await?;
        }
        let mut observed = acts.finish().await?;
        for (name, value) in wait(&addresses, &case.stats).await {
            observed.put(format!("stats.{name}"), value);
        }
        observed.merge("", self.backends.observe().await);
        running.stop().await;
        read_logs(self.directory.path(), &mut observed);
        observed.mask(&self.masks(&addresses, &case.mask));
        Ok(observed)
    }

    fn masks(&self, addresses: &Addresses, own: &[Mask]) -> Masks {
        let backends =
            self.backends.ports().iter().map(|(name, port)| (port.to_string(), format!("<{name}>")));
        let listeners =
            addresses.listeners.iter().map(|(name, at)| (at.port().to_string(), format!("<{name}>")));
        let admin = (addresses.admin.port().to_string(), "<admin>".to_owned());
        let mut masks = Masks::new(backends.chain(listeners).chain([admin]).collect(), own);
        if let Some(address) = own_address() {
            masks.name(&address, "<machine>");
        }
        masks
    }
}

/// The steps of a case as they go on.
struct Acts {
    client: Client,
    /// Requests that run behind the steps after them.
    behind: Vec<(String, Request, JoinHandle<(Observation, Option<Connection>)>)>,
    observed: Observation,
}

impl Acts {
    async fn step(&mut self, number: usize, step: &Step) -> Result<(), String> {
        let backends = Arc::clone(&self.client.backends);
        match step {
            Step::Release(backend) => backends.release(backend),
            Step::Seen(numbers) => {
                let all =
                    || numbers.iter().all(|(name, number)| backends.seen(name) >= *number).then_some(());
                eventually(all).await.ok_or("a backend did not see what it should")?;
            }
            Step::Wait(values) => {
                let met = wait(&self.client.addresses, values).await;
                let wanted: BTreeMap<_, _> =
                    values.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
                if met != wanted {
                    return Err(format!("step {number} waited for {wanted:?}, but there was {met:?}"));
                }
            }
            Step::Send(request) => {
                let name = request.name.clone().unwrap_or_else(|| number.to_string());
                self.send(name, request).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, name: String, request: &Request) -> Result<(), String> {
        let mut tally: BTreeMap<String, usize> = BTreeMap::new();
        for turn in 0..request.repeat {
            let path =
                if request.repeat == 1 || request.tally { name.clone() } else { format!("{name}.{turn}") };
            let connection = match self.client.connection(request).await {
                Ok(connection) => connection,
                Err(refusal) => {
                    self.observed.put(format!("{path}.end"), refusal);
                    continue;
                }
            };
            let backends = Arc::clone(&self.client.backends);
            if request.background {
                let sent = request.clone();
                let task = tokio::spawn(async move { exchange(connection, &sent, &backends).await });
                self.behind.push((path, request.clone(), task));
                continue;
            }
            let (mut reply, connection) = exchange(connection, request, &backends).await;
            self.client.keep(request.on.as_ref(), connection);
            reduce(&mut reply, request);
            if request.tally {
                *tally.entry(reply.one_line()).or_default() += 1;
            } else {
                self.observed.merge(&format!("{path}."), reply);
            }
        }
        for (line, count) in tally {
            self.observed.put(format!("{name}.tally.{line}"), count.to_string());
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Observation, String> {
        for (path, request, task) in self.behind {
            let (mut reply, _) = task.await.map_err(|error| error.to_string())?;
            reduce(&mut reply, &request);
            self.observed.merge(&format!("{path}."), reply);
        }
        Ok(self.observed)
    }
}

/// Leaves what the request wants to be compared.
fn reduce(reply: &mut Observation, request: &Request) {
    if request.shape {
        let body = reply.take("body").and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default();
        let mut fields = BTreeMap::new();
        shape(&body, "body".to_owned(), &mut fields);
        for (path, kinds) in fields {
            reply.put(path, kinds.into_iter().collect::<Vec<_>>().join(" | "));
        }
    }
    if !request.only.is_empty() {
        reply.keep(|path| is_in(&request.only, path));
    }
}

/// The paths of all values with their types; the items of a list are one.
fn shape(value: &Value, path: String, fields: &mut BTreeMap<String, BTreeSet<String>>) {
    let kind = match value {
        Value::Object(inner) => {
            return inner.iter().for_each(|(key, value)| shape(value, format!("{path}.{key}"), fields));
        }
        Value::Array(items) => return items.iter().for_each(|item| shape(item, format!("{path}[]"), fields)),
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(name) if path.ends_with(".@type") => name,
        Value::String(_) => "string",
    };
    fields.entry(path).or_default().insert(kind.to_owned());
}

fn is_in(only: &[String], path: &str) -> bool {
    let is_below =
        |kept: &String| path.strip_prefix(kept.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']));
    only.iter().any(|kept| path == kept || is_below(kept))
}

/// Polls until statistics have these values, and returns those that they have then.
async fn wait(addresses: &Addresses, values: &BTreeMap<String, u64>) -> BTreeMap<String, String> {
    let met = || async {
        let stats = addresses.stats().await;
        values.iter().all(|(name, value)| stats.get(name) == Some(value)).then_some(())
    };
    if values.is_empty() || eventually_async(met).await.is_some() {
        return values.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
    }
    let stats = addresses.stats().await;
    let shown = |name: &String| stats.get(name).map_or("absent".to_owned(), u64::to_string);
    values.keys().map(|name| (name.clone(), shown(name))).collect()
}

/// The address of this machine towards others, which gateways put in place of a loopback address. No packet is sent.
fn own_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

/// The lines of the access log, field by field where they are JSON, and the log is gone for the next run.
fn read_logs(directory: &Path, observed: &mut Observation) {
    let path = directory.join("access.log");
    let Ok(lines) = std::fs::read_to_string(&path) else { return };
    std::fs::remove_file(&path).ok();
    for (number, line) in lines.lines().enumerate() {
        match serde_json::from_str::<BTreeMap<String, Value>>(line) {
            Ok(fields) => {
                for (name, value) in fields {
                    observed.put(format!("log#{number}.{name}"), text(&value).unwrap_or("null".to_owned()));
                }
            }
            Err(_) => observed.put(format!("log#{number}"), line),
        }
    }
}
