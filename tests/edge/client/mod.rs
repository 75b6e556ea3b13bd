//! Clients that send what a case says and note everything that comes back.

mod http1;
mod http2;
mod message;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use h2::Reason;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::backend::Backends;
use crate::case::Request;
use crate::certificates;
use crate::gateway::Addresses;
use crate::observation::Observation;

pub(crate) use message::{Message, Protocol};

/// Any stream of bytes.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(crate) struct Client {
    pub(crate) addresses: Addresses,
    pub(crate) certificates: PathBuf,
    pub(crate) backends: Arc<Backends>,
    connections: HashMap<String, Connection>,
}

/// An open connection, and what was agreed on when it opened.
pub(crate) struct Connection {
    kind: Kind,
    agreed: Observation,
}

enum Kind {
    One(http1::Connection),
    Two(http2::Connection),
}

impl Client {
    pub(crate) fn new(addresses: Addresses, certificates: PathBuf, backends: Arc<Backends>) -> Self {
        Self { addresses, certificates, backends, connections: HashMap::new() }
    }

    /// The connection a request goes over: a named one that is open, or a new one.
    pub(crate) async fn connection(&mut self, request: &Request) -> Result<Connection, String> {
        let named = request.on.as_ref();
        if let Some(Connection { kind: Kind::Two(connection), agreed }) =
            named.and_then(|name| self.connections.get(name))
        {
            return Ok(Connection { kind: Kind::Two(connection.clone()), agreed: agreed.clone() });
        }
        if let Some(connection) = named.and_then(|name| self.connections.remove(name)) {
            return Ok(connection);
        }
        let connection = self.open(request).await?;
        if let (Some(name), Kind::Two(two)) = (named, &connection.kind) {
            let kept = Connection { kind: Kind::Two(two.clone()), agreed: connection.agreed.clone() };
            self.connections.insert(name.clone(), kept);
        }
        Ok(connection)
    }

    async fn open(&self, request: &Request) -> Result<Connection, String> {
        let address = self.addresses.of(request.to.as_deref());
        let stream = TcpStream::connect(address).await.map_err(|_| "connection refused")?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let is_two = Message::protocol(request) == Protocol::Two;
        let mut agreed = Observation::default();
        let stream: Box<dyn Stream> = match &request.tls {
            None => Box::new(stream),
            Some(tls) => {
                let config =
                    certificates::client(&self.certificates, tls, if is_two { "h2" } else { "http/1.1" });
                let name = ServerName::try_from(tls.sni.clone().unwrap_or("edge.test".to_owned()));
                let name = name.map_err(|error| error.to_string())?;
                let stream =
                    TlsConnector::from(config).connect(name, stream).await.map_err(|_| "TLS refused")?;
                let (_, session) = stream.get_ref();
                let version = session.protocol_version().map(|version| format!("{version:?}"));
                agreed.put("tls.version", version.unwrap_or_default());
                let alpn =
                    session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
                agreed.put("tls.alpn", alpn.unwrap_or("none".to_owned()));
                if let Some([certificate, ..]) = session.peer_certificates() {
                    agreed.put("tls.certificate", certificates::holder(&self.certificates, certificate));
                }
                Box::new(stream)
            }
        };
        let kind = if is_two {
            Kind::Two(http2::Connection::open(stream).await.map_err(|_| "connection closed")?)
        } else {
            Kind::One(http1::Connection::new(stream))
        };
        Ok(Connection { kind, agreed })
    }

    pub(crate) fn keep(&mut self, name: Option<&String>, connection: Option<Connection>) {
        if let (Some(name), Some(connection)) = (name, connection) {
            self.connections.insert(name.clone(), connection);
        }
    }
}

/// Sends a request and reads its response; HTTP/1 connections that stay open come back.
pub(crate) async fn exchange(
    connection: Connection,
    request: &Request,
    backends: &Backends,
) -> (Observation, Option<Connection>) {
    let message = Message::new(request);
    let mut reply = connection.agreed.clone();
    match connection.kind {
        Kind::Two(two) => {
            reply.merge("", two.exchange(request, message, backends).await);
            (reply, None)
        }
        Kind::One(mut one) => {
            let (rest, stays) = one.exchange(request, message, backends).await;
            reply.merge("", rest);
            let connection = Connection { kind: Kind::One(one), agreed: connection.agreed };
            (reply, stays.then_some(connection))
        }
    }
}

/// A reason as RFC 9113 spells it.
pub(crate) fn name(reason: Reason) -> String {
    format!("{reason:?}")
}
