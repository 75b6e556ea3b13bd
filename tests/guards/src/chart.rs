//! The Helm chart, judged by Helm itself, by the schemas of Kubernetes and by what its parts say of each other.

use std::{fs, process::Command};

use crate::workspace::{expect_none, root};

#[test]
fn chart_is_what_helm_and_kubernetes_can_run() {
    let output = Command::new("python3")
        .arg(root().join("tests/python/check_chart.py"))
        .arg(root().join("charts/omnimesh"))
        .output()
        .expect("python3 is needed by the tests: `make test` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Nothing here builds the image; what it says twice is compared.
#[test]
fn the_image_is_what_the_chart_runs() {
    let text = |path: &str| fs::read_to_string(root().join(path)).expect(path);
    let (image, pod) = (text("Dockerfile"), text("charts/omnimesh/templates/deployment.yaml"));
    let (config, toolchain) = (text("charts/omnimesh/templates/_config.tpl"), text("rust-toolchain.toml"));
    let value = |text: &str, key: &str| {
        let (_, after) = text.split_once(key).expect(key);
        after.lines().next().unwrap_or_default().trim_matches('"').to_owned()
    };
    let (user, group) = (value(&pod, "runAsUser: "), value(&pod, "runAsGroup: "));
    let (data_dir, listen) = (value(&config, "data_dir = "), value(&config, "listen = "));
    let (port, channel) = (listen.rsplit(':').next().expect("a port"), value(&toolchain, "channel = "));
    let lines = [
        format!("FROM rust:{channel}-bookworm AS build"),
        format!("ENV RUSTUP_TOOLCHAIN={channel} CARGO_TARGET_DIR=/target"),
        format!("USER {user}:{group}"),
        format!("ENV OMNIMESH_DATA_DIR={data_dir}"),
        format!("VOLUME {data_dir}"),
        format!("EXPOSE {port}"),
        "ENTRYPOINT [\"omnimesh\"]".to_owned(),
    ];
    expect_none(
        "The Dockerfile lacks a line that the chart or the toolchain asks for",
        "say the same in Dockerfile as in charts/omnimesh/templates and rust-toolchain.toml",
        lines.iter().filter(|line| !image.lines().any(|found| found == **line)),
    );
}
