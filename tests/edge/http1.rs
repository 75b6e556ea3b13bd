//! HTTP/1.1 on the wire, for clients and servers that must be able to send anything.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The first line and the headers of a message.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"))
    }

    pub(crate) fn framing(&self, otherwise: Framing) -> Framing {
        if self.is_chunked() {
            return Framing::Chunked;
        }
        let length = self.get("content-length").and_then(|length| length.parse().ok());
        length.map_or(otherwise, Framing::Length)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) body: BytesMut,
    pub(crate) trailers: Vec<(String, String)>,
    /// The connection ended before the message did.
    pub(crate) cut: bool,
}

#[derive(Debug)]
pub(crate) struct Reader<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, buffer: BytesMut::new() }
    }

    async fn more(&mut self) -> io::Result<bool> {
        self.buffer.reserve(16 * 1024);
        Ok(self.from.read_buf(&mut self.buffer).await? > 0)
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn headers(&mut self) -> io::Result<Option<Vec<(String, String)>>> {
        let mut headers = Vec::new();
        loop {
            let Some(line) = self.line().await? else { return Ok(None) };
            if line.is_empty() {
                return Ok(Some(headers));
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// None when the connection ended instead.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        let Some(line) = self.line().await? else { return Ok(None) };
        Ok(self.headers().await?.map(|headers| Head { line, headers }))
    }

    /// Reads a body, and keeps what came of it when it is cut.
    pub(crate) async fn content(&mut self, framing: Framing, content: &mut Content) -> io::Result<()> {
        content.cut = true;
        match framing {
            Framing::Length(length) => {
                if !self.take(length, &mut content.body).await? {
                    return Ok(());
                }
            }
            Framing::UntilClose => {
                while self.more().await? {}
                content.body.unsplit(self.buffer.split());
            }
            Framing::Chunked => loop {
                let Some(size) = self.line().await? else { return Ok(()) };
                let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
                let Ok(size) = size else { return Ok(()) };
                if size == 0 {
                    let Some(trailers) = self.headers().await? else { return Ok(()) };
                    content.trailers = trailers;
                    break;
                }
                if !self.take(size, &mut content.body).await? || self.line().await?.is_none() {
                    return Ok(());
                }
            },
        }
        content.cut = false;
        Ok(())
    }

    async fn take(&mut self, mut length: usize, into: &mut BytesMut) -> io::Result<bool> {
        while length > 0 {
            if self.buffer.is_empty() && !self.more().await? {
                return Ok(false);
            }
            let part = self.buffer.split_to(length.min(self.buffer.len()));
            length -= part.len();
            into.extend_from_slice(&part);
        }
        Ok(true)
    }

    /// Whether the other side closes instead of sending more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !matches!(self.more().await, Ok(true))
    }

    /// The first bytes, which stay to be read.
    pub(crate) async fn peek(&mut self, length: usize) -> io::Result<Bytes> {
        while self.buffer.len() < length && self.more().await? {}
        Ok(self.buffer.clone().freeze())
    }

    pub(crate) fn into_parts(self) -> (R, BytesMut) {
        (self.from, self.buffer)
    }
}

pub(crate) fn chunk(piece: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
    chunk.extend_from_slice(piece);
    chunk.extend_from_slice(b"\r\n");
    chunk
}
