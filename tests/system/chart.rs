//! The Helm chart: the binary starts as the chart's container starts it.

use std::{fs, path::Path};

use tempfile::TempDir;
use tokio::process::Command;

use crate::certificates::Authority;

#[tokio::test]
async fn the_container_of_the_chart_starts() {
    let certificate = TempDir::new().expect("a directory");
    Authority::new(certificate.path()).issue("edge", certificate.path());
    for (file, key) in [("chain.pem", "tls.crt"), ("key.pem", "tls.key")] {
        fs::rename(certificate.path().join(file), certificate.path().join(key)).expect("a key of the secret");
    }
    let root = Path::new("../..");
    let output = Command::new("python3")
        .arg(root.join("tests/python/check_chart.py"))
        .arg(root.join("charts/omnimesh"))
        .arg(env!("CARGO_BIN_EXE_omnimesh"))
        .arg(certificate.path())
        .output()
        .await
        .expect("python3 is needed by the tests: `make test` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
