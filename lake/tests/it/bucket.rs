//! The same lake in a bucket of a real S3 server, SeaweedFS.

use std::{
    collections::BTreeSet,
    future::ready,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Stdio},
};

use futures::{StreamExt, TryStreamExt};
use lake::{Config, Root};
use object_store::{
    ObjectStore,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use rand::{Rng, distr::Uniform};
use tempfile::TempDir;

use crate::{erase, export, run, sandbox::Sandbox};

const BUCKET: &str = "lakes";
/// A bucket in which old versions of objects stay.
const VERSIONED: &str = "versioned";
const KEY: &str = "omnimesh";
/// Where the server is; a process that knows it is the one that tests.
const ENDPOINT: &str = "AWS_ENDPOINT_URL";
const PORTS: [&str; 10] = [
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
];

/// A server on ports that were free, until it is dropped.
struct Server {
    process: Child,
    ports: [u16; PORTS.len()],
    /// It says more than is waited for, and would end if nobody could read it.
    _stdout: BufReader<ChildStdout>,
    _directory: TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let ports = free_ports();
        let mut process = Command::new("weed")
            .args([
                "mini",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-webdav=false",
                "-admin.ui=false",
                "-master.telemetry=false",
            ])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0", &format!("-bucket={BUCKET}")])
            .arg(format!("-dir={}", directory.path().display()))
            .args(PORTS.iter().zip(ports).map(|(name, port)| format!("-{name}={port}")))
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", KEY)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("weed starts; `make test` installs what tests need");
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut said = stdout.by_ref().lines().map_while(Result::ok);
        assert!(said.any(|line| line.contains("components are running")), "the server does not start");
        Self { process, ports, _stdout: stdout, _directory: directory }
    }

    /// Where one of its parts is, as the server's own tools are told.
    fn part(&self, name: &str) -> String {
        let http = PORTS.iter().position(|port| *port == format!("{name}.port")).unwrap();
        format!("-{name}=127.0.0.1:{}.{}", self.ports[http], self.ports[http + 1])
    }

    fn make_versioned_bucket(&self) {
        let shell = Command::new("weed")
            .args(["shell", &self.part("master"), &self.part("filer")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for command in ["create", "versioning -enable"] {
            writeln!(shell.stdin.as_ref().unwrap(), "s3.bucket.{command} -name {VERSIONED}").unwrap();
        }
        assert!(shell.wait_with_output().unwrap().status.success());
    }

    /// Runs a test of this binary in a process that finds the server.
    fn test(&self, name: &str) {
        let tested = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(ENDPOINT, format!("http://127.0.0.1:{}", self.ports[0]))
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", KEY)
            .env("AWS_REGION", "us-east-1")
            .status()
            .unwrap();
        assert!(tested.success(), "{name}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Ports below those that systems give to connections, so that none of a neighbour's takes one before the server does.
fn free_ports() -> [u16; PORTS.len()] {
    let mut candidates = rand::rng().sample_iter(Uniform::new(10_000, 32_000).unwrap());
    let mut free = || candidates.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap();
    // All at once, so that no two are the same.
    PORTS.map(|_| free()).map(|listener| listener.local_addr().unwrap().port())
}

fn bucket() -> AmazonS3 {
    assert!(std::env::var(ENDPOINT).unwrap().starts_with("http://"));
    AmazonS3Builder::from_env().with_bucket_name(BUCKET).with_allow_http(true).build().unwrap()
}

/// Every object in the bucket, with what tells whether it was written again; but for claims, which are empty.
async fn objects() -> BTreeSet<String> {
    let bucket = bucket();
    let objects = bucket.list(None).try_filter(|object| ready(object.size > 0));
    objects.map_ok(|object| format!("{} {:?}", object.location, object.e_tag)).try_collect().await.unwrap()
}

fn root(prefix: &str) -> Root {
    format!("s3://{BUCKET}/{prefix}").parse().unwrap()
}

#[test]
fn a_bucket_holds_the_same_lake() {
    let server = Server::start();
    server.test("bucket::every_event_is_in_the_bucket_once");
    server.test("bucket::a_table_that_was_removed_from_the_bucket_is_filled_again");
    server.test("bucket::four_exporters_at_once_make_no_row_twice_in_the_bucket");
    server.test("bucket::nothing_of_an_erased_person_is_left_in_the_bucket");
    server.test("bucket::events_that_come_again_bring_nobody_back_to_the_bucket");
    server.make_versioned_bucket();
    server.test("bucket::nobody_is_erased_from_a_bucket_that_keeps_old_versions");
}

/// Not a test by itself: see above.
#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_in_the_bucket_once() {
    if std::env::var_os(ENDPOINT).is_some() {
        export::exports_every_event_once(&root("a/lake"), &root("other"), objects).await;
    }
}

/// Nor is this.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_removed_from_the_bucket_is_filled_again() {
    if std::env::var_os(ENDPOINT).is_some() {
        let remove = async |table: String| {
            let bucket = bucket();
            let directory = Path::from(format!("removed/{table}"));
            let files = bucket.list(Some(&directory)).map_ok(|file| file.location).boxed();
            bucket.delete_stream(files).try_collect::<Vec<_>>().await.unwrap();
        };
        export::fills_again_what_was_removed(&root("removed"), remove).await;
    }
}

/// Nor is this.
#[tokio::test(flavor = "multi_thread")]
async fn four_exporters_at_once_make_no_row_twice_in_the_bucket() {
    if std::env::var_os(ENDPOINT).is_some() {
        run::four_exporters_make_no_row_twice(&root("four"), &root("alone")).await;
    }
}

/// Nor is this.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_erased_person_is_left_in_the_bucket() {
    if std::env::var_os(ENDPOINT).is_some() {
        erase::leaves_nothing(&root("erased")).await;
    }
}

/// Nor is this.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_again_bring_nobody_back_to_the_bucket() {
    if std::env::var_os(ENDPOINT).is_some() {
        let directory = TempDir::new().unwrap();
        erase::stays_out(&Sandbox::open(directory.path()).await, &root("again")).await;
    }
}

/// Nor is this.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_erased_from_a_bucket_that_keeps_old_versions() {
    if std::env::var_os(ENDPOINT).is_some() {
        let root: Root = format!("s3://{VERSIONED}/lake").parse().unwrap();
        let config = Config { root, ..Config::default() };
        let keys = ["ada@example.com".to_owned()];
        let refused = lake::erase(&config, &keys, false, &|_| {}).await.unwrap_err().to_string();
        assert!(refused.contains("suspend its versioning"), "{refused}");
        assert!(!lake::run(&config, &[], &|_| {}).await.unwrap().has_failed(), "others do not wait for it");
    }
}
