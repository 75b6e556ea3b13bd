//! The access log tells the truth: the status that the client saw, on every protocol.

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::Value;

use crate::backend::frame;
use crate::harness::{Edge, Reply, with, without};

/// The edge logs from threads of its own, so all tests of this process share one log.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone());
    subscriber.try_init().expect("the only subscriber");
    log
});

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The line about a call, once it is written.
    async fn line_about(&self, reply: &Reply) -> Value {
        let id = reply.header("x-request-id");
        loop {
            let log = String::from_utf8_lossy(&self.0.lock().expect("log")).into_owned();
            if let Some(line) = log.lines().find(|line| line.ends_with('}') && line.contains(id)) {
                return serde_json::from_str::<Value>(line).expect("JSON")["fields"].clone();
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn each_call_is_one_line_with_its_true_status() {
    let log = &*LOG;
    let edge = Edge::start().await;

    let line = log.line_about(&edge.http1(edge.web("Echo", frame(b"hi"))).await).await;
    assert_eq!((&line["protocol"], &line["grpc_status"]), (&"grpc-web".into(), &0.into()));
    assert_eq!((&line["path"], &line["consumer"]), (&"/test.v1.Probe/Echo".into(), &"admin".into()));
    assert_eq!(line["bytes_read"], 7);

    let line = log.line_about(&edge.http2(edge.grpc("Fail", frame(b""))).await).await;
    assert_eq!((&line["protocol"], &line["grpc_status"]), (&"grpc".into(), &5.into()));

    let late = with(edge.web("Stall", frame(b"")), "grpc-timeout", "10m");
    let line = log.line_about(&edge.http1(late).await).await;
    assert_eq!((&line["http_status"], &line["grpc_status"]), (&504.into(), &4.into()));

    let unknown = without(edge.grpc("Echo", frame(b"")), "x-api-key");
    let line = log.line_about(&edge.http2(unknown).await).await;
    assert_eq!((&line["grpc_status"], &line["consumer"]), (&16.into(), &Value::Null));
}
