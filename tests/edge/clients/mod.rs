//! Real clients against the edge: each program brings its own calls, and all call the same service (`echo.rs`) through
//! the same bootstrap (`envoy.yaml`).
//!
//! With `OMNIMESH_TEST_CLIENTS_OF=envoy` they call Envoy instead, to tell a fault of ours from one of theirs.

mod echo;
mod native;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;
use tokio::process::Command;

use crate::certificates;
use crate::gateway::{Envoy, Gateway, Omnimesh, Running};

/// How long a client may take for all of its calls.
const PATIENCE: Duration = Duration::from_secs(240);

/// A program and what it is given.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("grpcio", &["python3", "-m", "unittest", "-v", "grpcio_test"]),
    ("grpc_web", &["node", "--test", "grpc_web.test.mjs"]),
    ("connect_node", &["node", "--test", "connect_node.test.mjs"]),
    ("chromium", &["node", "--test", "chromium.test.mjs"]),
];

type Ran<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

pub(crate) fn trials() -> Vec<Trial> {
    let programs =
        PROGRAMS.map(|(name, program)| trial(name.to_owned(), move |stage| Box::pin(stage.run(program))));
    let natives = native::CALLS.map(|(name, call)| trial(format!("tonic/{name}"), move |stage| call(stage)));
    programs.into_iter().chain(natives).collect()
}

fn trial(name: String, act: impl for<'a> FnOnce(&'a Stage) -> Ran<'a> + Send + 'static) -> Trial {
    Trial::test(format!("clients/{name}"), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("runtime").block_on(async {
            let stage = Stage::set().await.map_err(Failed::from)?;
            let ran = tokio::time::timeout(PATIENCE, act(&stage)).await;
            let ran = ran.unwrap_or_else(|_| Err("it does not end".to_owned())).map_err(Failed::from);
            stage.gateway.stop().await;
            ran
        })
    })
}

/// A service behind a gateway.
struct Stage {
    directory: TempDir,
    gateway: Box<dyn Running>,
}

impl Stage {
    async fn set() -> Result<Self, String> {
        let directory = TempDir::new().map_err(|error| error.to_string())?;
        certificates::write(directory.path());
        let backend = echo::start().await;
        let bootstrap =
            std::fs::read_to_string(home().join("envoy.yaml")).map_err(|error| error.to_string())?;
        let bootstrap = bootstrap
            .replace("<backend>", &backend.port().to_string())
            .replace("<certs>", &directory.path().display().to_string());
        #[expect(clippy::disallowed_methods, reason = "this is the binary that reads its configuration")]
        let gateway: Box<dyn Gateway> = match std::env::var("OMNIMESH_TEST_CLIENTS_OF").as_deref() {
            Ok("envoy") => Box::new(Envoy::find()?),
            _ => Box::new(Omnimesh),
        };
        let gateway = gateway.start(&bootstrap, directory.path()).await?;
        Ok(Self { directory, gateway })
    }

    fn port(&self, listener: &str) -> u16 {
        self.gateway.addresses().of(Some(listener)).port()
    }

    fn certificates(&self) -> &Path {
        self.directory.path()
    }

    /// Runs a program of this folder; its output is shown if it fails.
    async fn run(&self, program: &[&str]) -> Result<(), String> {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).current_dir(home()).stdin(Stdio::null()).kill_on_drop(true);
        command.env("EDGE_CERTIFICATES", self.certificates());
        for listener in ["plain", "tls", "mtls"] {
            command.env(format!("EDGE_{}", listener.to_uppercase()), self.port(listener).to_string());
        }
        let output = command.output().await;
        let output = output.map_err(|error| format!("{}: {error}; `make test` installs it", program[0]))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{}\n{}", said(&output.stdout), said(&output.stderr))),
        }
    }
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/edge/clients")
}
