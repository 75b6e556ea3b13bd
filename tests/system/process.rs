//! The binary in processes of its own: started, listened to, ended by signals.

use std::{ffi::OsStr, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

/// Longer than anything takes on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A process of the binary. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdout: watch::Receiver<String>,
    stderr: watch::Receiver<String>,
}

impl Process {
    pub(crate) fn start(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::start_with(&[], arguments)
    }

    /// One that is told something in its environment.
    pub(crate) fn start_with(
        environment: &[(&str, &str)],
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_omnimesh"))
            .args(arguments)
            .envs(environment.iter().copied())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let stdout = follow(child.stdout.take().expect("a pipe"));
        let stderr = follow(child.stderr.take().expect("a pipe"));
        Self { child, stdout, stderr }
    }

    /// Waits until it says that all is served and loaded.
    pub(crate) async fn ready(&mut self) {
        let ready = self.stdout.wait_for(|said| said.lines().any(|line| line == "ready"));
        if !matches!(timeout(PATIENCE, ready).await, Ok(Ok(_))) {
            panic!("the process never was ready:\n{}", *self.stderr.borrow());
        }
    }

    /// Waits until it says something on standard error.
    pub(crate) async fn says(&mut self, text: &str) {
        let said = self.stderr.wait_for(|said| said.contains(text));
        if !matches!(timeout(PATIENCE, said).await, Ok(Ok(_))) {
            panic!("the process never said `{text}`:\n{}", *self.stderr.borrow());
        }
    }

    /// Whether it ends by itself within this time.
    pub(crate) async fn ends_within(&mut self, time: Duration) -> bool {
        timeout(time, self.child.wait()).await.is_ok()
    }

    /// Ends it with no chance to do anything more.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("the process can be killed");
    }

    /// Asks it to end, as a person (INT) or a supervisor (TERM) does, and waits until it has.
    pub(crate) async fn stop(self, signal: &str) -> Ended {
        let id = self.child.id().expect("the process runs").to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status().await.expect("kill runs");
        assert!(sent.success(), "the process {id} was gone");
        self.ended().await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = status else { panic!("the process never ended:\n{}", *self.stderr.borrow()) };
        let code = status.expect("the process was waited for").code();
        Ended { code, stdout: all(self.stdout).await, stderr: all(self.stderr).await }
    }
}

/// What a stream has said so far, line by line.
fn follow(stream: impl AsyncRead + Unpin + Send + 'static) -> watch::Receiver<String> {
    let (said, receiver) = watch::channel(String::new());
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            said.send_modify(|said| said.extend([&line, "\n"]));
        }
    });
    receiver
}

/// Everything that a stream has said, once it is closed.
async fn all(mut stream: watch::Receiver<String>) -> String {
    while stream.changed().await.is_ok() {}
    stream.borrow().clone()
}

/// Runs a command of the binary to its end.
pub(crate) async fn omnimesh(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    Process::start(arguments).ended().await
}
