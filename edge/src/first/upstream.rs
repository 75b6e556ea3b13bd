//! A backend: how to reach it, and a stream of its shared HTTP/2 connections for each call.

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use pingora::connectors::http::v2::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};

use crate::first::call::Call;
use crate::first::config::{Address, ClientTls, Limits};
use crate::first::error::StartError;
use crate::first::filter::{api_key, deadline, grpc_web};
use crate::first::reply::REQUEST_ID;
use crate::first::status::{Code, Rejection};
use crate::first::tls;

/// Calls that share one connection to a backend. Pingora's default is one.
const STREAMS_PER_CONNECTION: usize = 128;
/// An unused connection to a backend is closed after this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Kept on the hop they belong to, or written anew below.
const NOT_FORWARDED: [HeaderName; 11] = [
    header::ACCEPT,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

pub(crate) struct Upstream {
    peer: HttpPeer,
    connector: Arc<Connector>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Upstream {
    pub(crate) fn new(
        address: &Address,
        limits: &Limits,
        connector: &Arc<Connector>,
    ) -> Result<Self, StartError> {
        let mut peer = match address {
            Address::Unix(path) => {
                let unusable =
                    |reason: &str| StartError::SocketPath { path: path.clone(), reason: reason.to_owned() };
                let text = path.to_str().ok_or_else(|| unusable("it is not UTF-8"))?;
                HttpPeer::new_uds(text, false, String::new())
                    .map_err(|_| unusable("it is longer than the system allows"))?
            }
            Address::Tcp { addr, tls: None } => HttpPeer::new(addr, false, String::new()),
            Address::Tcp { addr, tls: Some(tls) } => Self::mutual_tls(*addr, tls)?,
        };
        peer.options.set_http_version(2, 2);
        peer.options.max_h2_streams = STREAMS_PER_CONNECTION;
        peer.options.idle_timeout = Some(IDLE_TIMEOUT);
        let connect_timeout = Duration::from_millis(limits.connect_timeout_ms);
        peer.options.connection_timeout = Some(connect_timeout);
        peer.options.total_connection_timeout = Some(connect_timeout);
        Ok(Self { peer, connector: Arc::clone(connector) })
    }

    fn mutual_tls(addr: std::net::SocketAddr, tls: &ClientTls) -> Result<HttpPeer, StartError> {
        // Pingora verifies nothing for a peer without a name.
        if tls.server_name.is_empty() {
            return Err(StartError::Tls { path: tls.ca.clone(), reason: "server_name is empty".to_owned() });
        }
        let identity = tls::load_identity(&tls.cert, &tls.key)?;
        let chain = identity.chain.iter().map(|certificate| certificate.to_vec()).collect();
        let key = CertKey::new(chain, identity.key.secret_der().to_vec());
        let mut peer = HttpPeer::new_mtls(addr, tls.server_name.clone(), Arc::new(key));
        let authorities = tls::load_certificates(&tls.ca)?;
        let authorities: Vec<_> = authorities
            .iter()
            .map(|certificate| WrappedX509::new(certificate.to_vec(), parse_x509))
            .collect();
        peer.options.ca = Some(authorities.into());
        Ok(peer)
    }

    /// A new stream to the backend, on a shared connection where one is open.
    pub(crate) async fn open(&self) -> Result<Http2Session, Rejection> {
        // A pooled connection may just have been closed by the backend: that is no failure yet.
        if let Ok(Some(stream)) = self.connector.reused_http_session(&self.peer).await {
            return Ok(stream);
        }
        match self.connector.new_http_session::<_, ()>(&self.peer).await {
            Ok(HttpSession::H2(stream)) => Ok(stream),
            Ok(_) => Err(Rejection::new(Code::Unavailable, "the service does not speak HTTP/2")),
            Err(error) => {
                tracing::warn!(peer = %self.peer, %error, "cannot reach a backend");
                Err(Rejection::new(Code::Unavailable, "the service cannot be reached"))
            }
        }
    }

    /// Gives a stream back, so that its connection is known to have room.
    pub(crate) fn release(&self, stream: Http2Session) {
        self.connector.release_http_session(stream, &self.peer, self.peer.idle_timeout());
    }

    /// The client's request in the form that the backend expects, whatever the client speaks.
    pub(crate) fn request(&self, client: &RequestHeader, call: &Call) -> Result<RequestHeader, Rejection> {
        let malformed = |_| Rejection::malformed("the request line or a header is malformed");
        let uri = self.uri(client)?;
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut request = RequestHeader::build(Method::POST, path.as_bytes(), Some(client.headers.len() + 6))
            .map_err(malformed)?;
        request.set_uri(uri);
        request.set_version(Version::HTTP_2);
        for (name, value) in end_to_end(&client.headers) {
            request.append_header(name, value).map_err(malformed)?;
        }
        let mut set =
            |name: HeaderName, value: &HeaderValue| request.insert_header(name, value).map_err(malformed);
        let content_type = grpc_web::request_type(&client.headers);
        set(header::CONTENT_TYPE, &HeaderValue::try_from(content_type).map_err(|_| malformed_type())?)?;
        // Servers built on gRPC's C core reset a call without it.
        set(header::TE, &HeaderValue::from_static("trailers"))?;
        set(REQUEST_ID, &call.id)?;
        if let Some(left) = call.time_left() {
            if let Ok(left) = HeaderValue::try_from(deadline::format(left)) {
                set(HeaderName::from_static(deadline::GRPC_TIMEOUT), &left)?;
            }
        }
        if let Some(consumer) = &call.consumer {
            for (name, value) in api_key::identity(consumer) {
                set(name, value)?;
            }
        }
        Ok(request)
    }

    fn uri(&self, client: &RequestHeader) -> Result<Uri, Rejection> {
        let authority = match client.uri.authority() {
            Some(authority) => Some(authority.clone()),
            None => {
                client.headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok())
            }
        };
        let authority = authority.ok_or_else(|| Rejection::malformed("the request names no host"))?;
        let scheme = if self.peer.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(client.uri.path())
            .build()
            .map_err(|_| Rejection::malformed("the request line is malformed"))
    }
}

fn malformed_type() -> Rejection {
    Rejection::malformed("the content type is malformed")
}

/// The client's headers that are the backend's business.
fn end_to_end(headers: &HeaderMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let nominated: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    headers.iter().filter_map(move |(name, value)| {
        let stays = NOT_FORWARDED.contains(name)
            || api_key::is_withheld(name)
            || nominated.iter().any(|nominated| nominated == name.as_str());
        (!stays).then(|| (name.clone(), value.clone()))
    })
}
