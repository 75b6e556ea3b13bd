//! Requests that were answered before they were whole.

use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::body::{Source, Transformed};
use crate::call::Call;

/// How long, and how much, such a client may go on sending.
const TIME: Duration = Duration::from_secs(1);
const BYTES: usize = 64 << 10;

/// Keeps a stream of HTTP/2 open for its client to end the request: until then what is wrong with the rest of it is
/// told as such, and clients that take a reset for a failure get none.
pub(crate) fn finish_request(call: &mut Call) {
    if call.version != Version::HTTP_2 || call.body.is_end_stream() {
        return;
    }
    let mut body = std::mem::replace(&mut call.body, Transformed::new(Source::Empty));
    let rest = async move {
        let mut left = BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(fewer) => left = fewer,
                None => break,
            }
        }
    };
    // Without a runtime the connection is gone, too.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(timeout(TIME, rest));
    }
}
