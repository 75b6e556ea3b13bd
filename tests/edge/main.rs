//! The edge against Envoy itself: the same bootstrap and the same requests go to both, and what clients, backends and
//! logs see must be the same. A case is a file of `cases/`; README.md says how to write one. And real clients against
//! the edge, in `clients/`.
//!
//! `OMNIMESH_TEST_ENVOY` names Envoy's binary, `OMNIMESH_TEST_SHOW=1` prints what was observed, and with
//! `OMNIMESH_TEST_SELF=1` Envoy is compared with itself: what differs then is the harness's fault.

#![expect(clippy::print_stdout, reason = "what was observed is for whoever asked")]

mod admin;
mod backend;
mod body;
mod case;
mod certificates;
mod client;
mod clients;
mod config;
mod gateway;
mod http1;
mod observation;
mod play;
mod replay;
mod tokens;
mod yaml;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::case::Case;
use crate::gateway::{Envoy, Omnimesh};
use crate::observation::compare;
use crate::play::Stage;

/// How long anything may take that is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let root = Path::new("../tests/edge/cases");
    let mut files = Vec::new();
    find(root, &mut files);
    files.sort();
    let trial = |file: PathBuf| {
        let name = file.strip_prefix(root).expect("below").with_extension("").display().to_string();
        Trial::test(name, move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(run(&file)).map_err(Failed::from)
        })
    };
    let trials = files.into_iter().map(trial).chain(clients::trials()).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn find(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of cases") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}

async fn run(file: &Path) -> Result<(), String> {
    let case = Case::read(file)?;
    let envoy = Envoy::find()?;
    let stage = Stage::set(&case).await?;
    let expected = stage.play(&envoy, &case).await?;
    let mut wrong = case.unexpected(&expected);
    let observed = if is_set("OMNIMESH_TEST_SELF") {
        let again = stage.play(&envoy, &case).await?;
        wrong.extend(compare(&expected, &again, &[]));
        again
    } else {
        let ours = stage.play(&Omnimesh, &case).await?;
        wrong.extend(compare(&expected, &ours, &case.differs));
        ours
    };
    if is_set("OMNIMESH_TEST_SHOW") {
        println!("Envoy:\n{expected}\nOurs:\n{observed}");
    }
    match (wrong.is_empty(), case.open) {
        (true, None) | (false, Some(_)) => Ok(()),
        (true, Some(open)) => Err(format!("it agrees with Envoy now: take `open: {open}` away")),
        (false, None) => Err(format!("\n{}", wrong.join("\n"))),
    }
}

fn is_set(variable: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "this is the binary that reads its configuration")]
    std::env::var_os(variable).is_some()
}

/// Polls a condition until it holds; None when it does not in time.
pub(crate) async fn eventually<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    eventually_async(|| std::future::ready(condition())).await
}

pub(crate) async fn eventually_async<T, F: Future<Output = Option<T>>>(
    condition: impl FnMut() -> F,
) -> Option<T> {
    let mut condition = condition;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let holds = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            ticks.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, holds).await.ok()
}
