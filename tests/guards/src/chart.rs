//! The Helm chart, judged by Helm itself, by the schemas of Kubernetes and by what its parts say of each other.

use std::process::Command;

use crate::workspace::root;

#[test]
fn chart_is_what_helm_and_kubernetes_can_run() {
    let output = Command::new("python3")
        .arg(root().join("tests/python/check_chart.py"))
        .arg(root().join("charts/omnimesh"))
        .output()
        .expect("python3 is needed by the tests: `make test` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
