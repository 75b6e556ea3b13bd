//! The command line: what is wrong with it is said in a line, before anything starts.

use std::{fs, io, net::TcpListener, process::Stdio};

use tokio::{process::Command, time::timeout};

use crate::{
    deployment::{DEMO, Deployment},
    process::{Ended, PATIENCE, Process, omnimesh},
};

/// Refused: nothing on standard output, one line on standard error that begins with the program's name.
fn assert_refused(ended: &Ended, says: &str) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");
    let line = ended.stderr.strip_suffix('\n').expect("a line");
    assert!(line.starts_with("omnimesh: ") && !line.contains('\n'), "{line}");
    assert!(line.contains(says), "`{says}` is not said by: {line}");
    let reason = line.rsplit(": ").next().expect("a reason");
    assert_eq!(line.matches(reason).count(), 1, "said twice: {line}");
}

async fn up(deployment: &Deployment, flags: &[&str]) -> Ended {
    deployment.up(&[flags, &["--exit-when-ready"]].concat()).ended().await
}

#[tokio::test]
async fn wrong_configuration_is_refused() {
    let deployment = Deployment::embedded();
    let cases = [
        ("colour = 1", "colour"),
        ("[edge]\nlisten_on = \"127.0.0.1:0\"", "edge.listen_on"),
        ("[edge]\nlisten = \"nowhere\"", "edge.listen"),
        ("[storage", "line 1"),
        ("[mesh.certificate]\nca = \"ca\"\nchain = \"chain\"\nkey = \"key\"", "ca: cannot read certificates"),
        ("[[ingest.source]]", "ingest.source"),
        (
            "[[ingest.sources]]\nsystem = \"My ERP\"\nentity = []",
            "ingest.sources.0.system: `My ERP` is no name",
        ),
    ];
    for (text, says) in cases {
        let file = deployment.path().join("wrong.toml");
        fs::write(&file, text).expect("a configuration");
        let file = file.to_str().expect("a path in UTF-8");
        assert_refused(&up(&deployment, &["--config", file]).await, says);
    }
    assert_refused(&up(&deployment, &["--config", "absent.toml"]).await, "absent.toml");
}

#[tokio::test]
async fn addresses_that_cannot_be_served_are_refused() {
    let deployment = Deployment::embedded();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    for (flags, says) in [
        (["--listen", &taken, "--admin", "127.0.0.1:0"], "choose another with --listen"),
        (["--listen", "127.0.0.1:0", "--admin", &taken], "choose another with --admin"),
        (["--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0"], "without TLS"),
        (["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"], "must be a loopback address"),
    ] {
        let ended = deployment.start("up", &flags).ended().await;
        assert_refused(&ended, says);
        let left = fs::read_dir(deployment.path()).expect("a directory").count();
        assert_eq!(left, 0, "nothing was started");
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_refused() {
    let deployment = Deployment::embedded();
    let file = deployment.path().join("file");
    fs::write(&file, "").expect("a file");
    for path in [file.join("below"), file] {
        let path = path.to_str().expect("a path in UTF-8");
        assert_refused(&omnimesh(["up", "--data-dir", path]).await, "cannot use the data directory");
    }
    let absent = deployment.path().join("absent");
    for command in ["status", "verify"] {
        let path = absent.to_str().expect("a path in UTF-8");
        assert_refused(&omnimesh([command, "--data-dir", path]).await, "there is no data directory");
        assert!(!absent.exists(), "{command} only reads");
    }
}

#[tokio::test]
async fn a_second_process_on_a_directory_is_refused() {
    let deployment = Deployment::embedded();
    let mut first = deployment.up(&[]);
    first.ready().await;
    assert_refused(&up(&deployment, &[]).await, "another omnimesh process runs on");
    assert_refused(&up(&deployment, &DEMO).await, "another omnimesh process runs on");
    assert_eq!(first.stop("TERM").await.code, Some(0));
    assert_eq!(up(&deployment, &[]).await.code, Some(0), "the directory is free again");
}

/// Whoever only reads is in nobody's way, and nobody in his.
#[tokio::test]
async fn reading_takes_no_lock() {
    let deployment = Deployment::embedded();
    assert_eq!(up(&deployment, &[]).await.code, Some(0));
    let lock = fs::File::open(deployment.path().join("run/lock")).expect("the lock's file");
    lock.try_lock().expect("nothing runs");
    let status = deployment.start("status", &[]).ended().await;
    assert_eq!(status.code, Some(1), "{}", status.stderr);
    assert!(status.stderr.contains("nothing runs on"), "{}", status.stderr);
    deployment.verify().await;
    assert_refused(&up(&deployment, &[]).await, "another omnimesh process runs on");
    let left: Vec<_> = fs::read_dir(deployment.path().join("run")).expect("run").collect();
    assert_eq!(left.len(), 1, "beside the lock nothing stays: {left:?}");
}

#[tokio::test]
async fn a_health_check_tells_whether_the_services_answer() {
    let deployment = Deployment::embedded();
    let ready = async || deployment.start("status", &["--ready"]).ended().await;
    let before = ready().await;
    assert_eq!((before.code, &*before.stdout), (Some(1), ""), "{before:?}");
    let mut process = deployment.up(&[]);
    process.ready().await;
    let running = ready().await;
    assert_eq!((running.code, &*running.stdout, &*running.stderr), (Some(0), "", ""));
    process.kill().await;
    assert_eq!(ready().await.code, Some(1), "what a killed process leaves is not taken for one");
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_refused() {
    for (url, says) in [
        ("mysql://localhost/omnimesh", "is no database URL"),
        ("mysql://root:secret@localhost/omnimesh", "mysql://root:***@localhost"),
        ("postgres://nobody:secret@127.0.0.1:1/none", "127.0.0.1:1"),
    ] {
        let deployment = Deployment::embedded();
        let ended = up(&deployment, &["--database-url", url]).await;
        assert_refused(&ended, says);
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn no_command_shows_a_password() {
    const URL: &str = "postgres://nobody:secret@127.0.0.1:1/none";
    let deployment = Deployment::embedded();
    let file = deployment.path().join("omnimesh.toml");
    let file = file.to_str().expect("a path in UTF-8");
    let source = "[[ingest.sources]]\nsystem = \"shop\"\nentity = []\n[ingest.sources.sql]\nurl = ";
    for (text, flags) in [
        (String::new(), &["config", "--database-url", URL][..]),
        (format!("storage.url = \"{URL}\""), &["config"]),
        (format!("storage = \"{URL}\""), &["config"]),
        (format!("{source}\"{URL}\""), &["config"]),
        (format!("telemetry.otlp_endpoint = \"{}\"", URL.replace("postgres", "http")), &["config"]),
        (format!("storage.url = \"{URL}\""), &["status", "--data-dir", "."]),
    ] {
        fs::write(file, &text).expect("a configuration");
        let ended = omnimesh([flags, &["--config", file]].concat()).await;
        let said = ended.stdout + &ended.stderr;
        assert!(said.contains("nobody:***@127.0.0.1:1") || flags[0] != "config", "{text}: {said}");
        assert!(!said.contains("secret"), "{text}: {said}");
    }
    let help = Process::start_with(&[("OMNIMESH_DATABASE_URL", URL)], ["up", "--help"]).ended().await;
    assert!(
        help.stdout.contains("OMNIMESH_DATABASE_URL") && !help.stdout.contains("secret"),
        "{}",
        help.stdout
    );
}

#[tokio::test]
async fn roles_that_cannot_run_are_refused() {
    let deployment = Deployment::embedded();
    for (roles, says) in [("till", "there are: identity, customer"), ("order", "role identity is needed")] {
        let ended = deployment.start("serve", &["--role", roles]).ended().await;
        assert_refused(&ended, says);
    }
}

#[tokio::test]
async fn flags_that_do_not_exist_or_fit_are_refused() {
    for flags in [&["up", "--colour"][..], &["up", "--demo-size", "small"], &["serve"], &["fly"], &[]] {
        let ended = omnimesh(flags).await;
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
        assert!(ended.stderr.contains("Usage: omnimesh"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn every_command_shows_an_example() {
    for command in [
        &["up"][..],
        &["serve"],
        &["status"],
        &["verify"],
        &["config"],
        &["consumer"],
        &["consumer", "add"],
        &["consumer", "list"],
        &["consumer", "revoke"],
        &["consumer", "plan"],
        &["consumer", "plan", "set"],
        &["consumer", "plan", "list"],
        &["consumer", "plan", "assign"],
        &["consumer", "plan", "remove"],
        &["consumer", "usage"],
        &["edge"],
        &["edge", "support"],
        &["edge", "explain"],
        &["edge", "migrate"],
    ] {
        let ended = omnimesh([command, &["--help"]].concat()).await;
        assert_eq!(ended.code, Some(0));
        assert!(ended.stdout.contains(&format!("\n  omnimesh {}", command.join(" "))), "{}", ended.stdout);
        let (own, above) = command.split_last().expect("a command");
        let listed = omnimesh([above, &["--help"]].concat()).await.stdout;
        assert!(listed.contains(&format!("\n  {own} ")), "{listed}");
    }
}

#[tokio::test]
async fn the_edges_printed_bootstrap_is_one_that_is_taken() {
    let deployment = Deployment::embedded();
    let file = deployment.path().join("envoy.yaml");
    let path = file.to_str().expect("a path in UTF-8");
    let printed = deployment.start("edge", &["--print-config", "--listen", "127.0.0.1:0"]).ended().await;
    assert_eq!((printed.code, &*printed.stderr), (Some(0), ""));
    fs::write(&file, &printed.stdout).expect("a bootstrap");
    let validated = omnimesh(["edge", "--mode", "validate", "-c", path]).await;
    assert_eq!(validated.stdout, format!("configuration '{path}' OK\n"), "{}", validated.stderr);

    const URL: &str = "postgres://nobody:secret@127.0.0.1:1/none";
    let printed =
        Process::start_with(&[("OMNIMESH_DATABASE_URL", URL)], ["edge", "--print-config"]).ended().await;
    assert!(printed.stdout.contains("database_url_variable: OMNIMESH_DATABASE_URL"), "{}", printed.stdout);
    assert!(printed.stderr.contains("set OMNIMESH_DATABASE_URL"), "{}", printed.stderr);
    for class in ["name: checkout", "name: analytics"] {
        assert!(printed.stdout.contains(class), "overload has an order: {}", printed.stdout);
    }
    assert!(!(printed.stdout + &printed.stderr).contains("secret"));
    let lost = omnimesh(["edge", "--print-config", "--role", "edge"]).await;
    assert_refused(&lost, "runs neither here nor elsewhere");
}

/// An Envoy of long ago, whose one route takes what begins with `/api`.
const OLD: &str = r#"static_resources:
  listeners:
  - name: public
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: envoy.http_connection_manager
        config:
          stat_prefix: ingress
          route_config:
            virtual_hosts:
            - name: shop
              domains: ["*"]
              routes:
              - match: { prefix: /api }
                route: { cluster: catalog }
          http_filters:
          - name: envoy.router
  clusters:
  - name: catalog
    connect_timeout: 1s
    hosts: [{ socket_address: { address: 127.0.0.1, port_value: 50051 } }]
"#;

#[tokio::test]
async fn an_old_bootstrap_is_migrated_and_its_requests_are_explained() {
    let deployment = Deployment::embedded();
    let [old, new] = ["old.yaml", "envoy.yaml"].map(|name| deployment.path().join(name));
    let [old_path, path] = [&old, &new].map(|file| file.to_str().expect("a path in UTF-8"));
    fs::write(&old, OLD).expect("a bootstrap");
    let refused = omnimesh(["edge", "--mode", "validate", "-c", old_path]).await;
    assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{refused:?}");
    assert!(refused.stderr.contains("`omnimesh edge migrate` rewrites the file"), "{}", refused.stderr);
    let migrated = omnimesh(["edge", "migrate", old_path]).await;
    assert_eq!((migrated.code, &*migrated.stderr), (Some(0), ""), "{migrated:?}");
    fs::write(&new, &migrated.stdout).expect("a bootstrap");
    let validated = omnimesh(["edge", "--mode", "validate", "-c", path]).await;
    assert_eq!(validated.stdout, format!("configuration '{path}' OK\n"), "{}", validated.stderr);

    let explain =
        async |flags: &[&str]| omnimesh([&["edge", "explain"], flags, &["-c", path]].concat()).await;
    let page = explain(&["GET", "/api/items", "-H", "x-tenant: shop"]).await;
    assert_eq!((page.code, &*page.stderr), (Some(0), ""), "{page:?}");
    for line in ["listener      public", "virtual host  shop", "cluster       catalog"] {
        assert!(page.stdout.contains(&format!("\n{line} ")), "{line}: {}", page.stdout);
    }
    let json = explain(&["GET", "/api/items", "--json"]).await.stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["outcome"]["action"], "forward", "{json}");
    let lost = explain(&["GET", "/"]).await;
    assert_eq!(lost.code, Some(1), "{lost:?}");
    assert_eq!(lost.stderr, "omnimesh: no route takes the request\n");
}

#[tokio::test]
async fn files_that_cannot_be_explained_or_migrated_are_refused() {
    let deployment = Deployment::embedded();
    let file = deployment.path().join("envoy.yaml");
    let path = file.to_str().expect("a path in UTF-8");
    for (text, says) in [
        ("static_resources: {listener: []}", "listener"),
        ("admin: [", "not YAML"),
        ("static_resources: {listeners: [{name: a, address: 1}]}", "address"),
    ] {
        fs::write(&file, text).expect("a bootstrap");
        for command in [&["explain", "GET", "/", "-c", path][..], &["migrate", path]] {
            let ended = omnimesh([&["edge"], command].concat()).await;
            assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
            assert!(ended.stderr.starts_with(&format!("omnimesh: {path}")), "{}", ended.stderr);
            assert!(ended.stderr.contains(says), "`{says}` is not said by: {}", ended.stderr);
        }
    }
    for command in [&["explain", "GET", "/", "-c", "absent.yaml"][..], &["migrate", "absent.yaml"]] {
        assert_refused(&omnimesh([&["edge"], command].concat()).await, "cannot read absent.yaml");
    }
    for command in [
        &["explain", "GET", "/", "-c", path, "--colour"][..],
        &["explain", "GET", "/", "-c", path, "-H", "no value"],
        &["explain", "GET", "-c", path],
        &["migrate", path, "--colour"],
        &["migrate"],
    ] {
        let ended = omnimesh([&["edge"], command].concat()).await;
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
        assert!(ended.stderr.contains("'--help'"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_reader_who_has_had_enough_is_no_error() {
    let deployment = Deployment::embedded();
    assert_eq!(up(&deployment, &[]).await.code, Some(0));
    for (command, code, says) in [
        (&["lake", "runs", "--json"][..], 0, ""),
        (&["lake", "status"], 0, ""),
        // It ends as it would have.
        (&["status"], 1, "nothing runs"),
        (&["verify"], 0, ""),
        (&["consumer", "list"], 0, ""),
        (&["config"], 0, ""),
        (&["edge", "--print-config"], 0, ""),
        (&["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--exit-when-ready"], 0, "stopping"),
    ] {
        let (reader, unread) = io::pipe().expect("a pipe");
        drop(reader);
        let process = Command::new(env!("CARGO_BIN_EXE_omnimesh"))
            .args(command)
            .arg("--data-dir")
            .arg(deployment.path())
            .env_remove("RUST_LOG")
            .stdout(unread)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let ended = timeout(PATIENCE, process.wait_with_output()).await.expect("it ends by itself");
        let ended = ended.expect("the process was waited for");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{command:?}: {said}");
        assert!(said.contains(says) && said.is_empty() == says.is_empty(), "{command:?}: {said}");
        assert!(!said.contains("panicked"), "{command:?}: {said}");
    }
}

#[tokio::test]
async fn the_printed_configuration_is_one_that_is_taken() {
    let deployment = Deployment::embedded();
    let printed = deployment.start("config", &[]).ended().await;
    let file = deployment.path().join("omnimesh.toml");
    fs::write(&file, &printed.stdout).expect("a configuration");
    let again = omnimesh(["config", "--config", file.to_str().expect("a path in UTF-8")]).await;
    assert_eq!((again.code, &again.stdout), (Some(0), &printed.stdout), "{}", again.stderr);
}
