//! HTTP/2 as no library would send it: frames by hand.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ends;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A block of headers, none of which is indexed or Huffman-coded.
pub(crate) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// HPACK's integer of seven bits and more.
pub(crate) fn integer(block: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        block.push(u8::try_from(value).expect("seven bits"));
        return;
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push(u8::try_from(value % 128 + 128).expect("a byte"));
        value /= 128;
    }
    block.push(u8::try_from(value).expect("seven bits"));
}

/// The head of a gRPC call.
pub(crate) fn call(method: &str) -> Vec<u8> {
    let path = format!("/test.Probe/{method}");
    block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "edge.example"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ])
}

pub(crate) struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// A connection whose settings are exchanged.
    pub(crate) async fn connect(to: SocketAddr, settings: &[u8]) -> Self {
        let mut stream = TcpStream::connect(to).await.expect("it listens");
        stream.set_nodelay(true).expect("set");
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(SETTINGS, 0, 0, settings));
        stream.write_all(&hello).await.expect("sent");
        let mut raw = Self { stream };
        raw.find(|frame| frame.kind == SETTINGS && frame.flags == 1).await.expect("settings");
        raw
    }

    /// Sends, as far as the server lets.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The next frame, answered if it is a PING; none once the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        if (kind, flags) == (PING, 0) {
            self.send(&frame(PING, 1, 0, &payload)).await;
        }
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame that is wanted.
    pub(crate) async fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let search = async {
            loop {
                let frame = self.next().await?;
                if wanted(&frame) {
                    return Some(frame);
                }
            }
        };
        ends(search).await
    }

    /// Makes sure that the server has seen everything so far.
    pub(crate) async fn settle(&mut self) -> bool {
        self.send(&frame(PING, 0, 0, b"settled?")).await
            && self.find(|frame| frame.kind == PING && frame.flags == 1).await.is_some()
    }

    /// Waits for the connection's end; the code of its GOAWAY, if there is one.
    pub(crate) async fn end(mut self) -> Option<u32> {
        let mut code = None;
        ends(async {
            while let Some(frame) = self.next().await {
                if frame.kind == GOAWAY {
                    code = Some(frame.code());
                }
            }
        })
        .await;
        code
    }
}
