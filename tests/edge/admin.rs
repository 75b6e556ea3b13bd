//! Questions to admin endpoints.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http1::{Content, Framing, Reader};

/// Status and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut reader = Reader::new(stream);
    let head = reader.head().await.ok()??;
    let mut content = Content::default();
    reader.content(head.framing(Framing::UntilClose), &mut content).await.ok()?;
    let status = head.line.split(' ').nth(1)?.parse().ok()?;
    Some((status, String::from_utf8_lossy(&content.body).into_owned()))
}
