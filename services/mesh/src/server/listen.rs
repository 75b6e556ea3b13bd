//! The listeners beside the in-memory pipes: a Unix socket for the edge on this machine, TCP for peers
//! elsewhere. Each hands its connections to the one server, with the workload at their other end.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::config::Listen;
use crate::connection::Connection;
use crate::error::StartError;
use crate::identity::{self, Identity};
use crate::policy::FORWARDING_WORKLOAD;

/// A client that does not finish its handshake in time is not one of ours.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long accepting pauses when the process is out of file descriptors, so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What was bound.
pub(super) struct Bound {
    pub(super) tcp_address: Option<SocketAddr>,
    pub(super) unix_path: Option<PathBuf>,
}

/// Binds what is configured and starts accepting. Accepting ends when the server drops its side of `accepted`.
pub(super) async fn bind(
    listen: &Listen,
    identity: Option<&Identity>,
    accepted: &mpsc::Sender<Connection>,
) -> Result<Bound, StartError> {
    // Everything is bound before anything accepts, so that a failure leaves no loop behind.
    let tcp = match listen.tcp {
        Some(address) => Some(bind_tcp(address, listen.plaintext, identity).await?),
        None => None,
    };
    let tcp_address = match &tcp {
        Some((listener, _)) => Some(
            listener.local_addr().map_err(|error| StartError::failed("read the bound TCP address", error))?,
        ),
        None => None,
    };
    if let Some(path) = &listen.unix {
        let (listener, owner) = bind_unix(path).await?;
        tokio::spawn(accept_unix(listener, owner, accepted.clone()));
    }
    if let Some((listener, tls)) = tcp {
        tokio::spawn(accept_tcp(listener, tls, accepted.clone()));
    }
    Ok(Bound { tcp_address, unix_path: listen.unix.clone() })
}

async fn bind_tcp(
    address: SocketAddr,
    plaintext: bool,
    identity: Option<&Identity>,
) -> Result<(TcpListener, Option<Arc<ServerConfig>>), StartError> {
    let tls = match (plaintext, identity) {
        (true, _) if address.ip().is_loopback() => None,
        (true, _) => {
            return Err(StartError::config(format!(
                "listen.tcp {address}: without TLS only a loopback address may be served; drop `plaintext`"
            )));
        }
        (false, Some(identity)) => Some(identity.server_config()?),
        (false, None) => {
            return Err(StartError::config(format!(
                "listen.tcp {address}: needs a workload certificate for TLS"
            )));
        }
    };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| StartError::config(format!("listen.tcp {address}: cannot listen: {error}")))?;
    Ok((listener, tls))
}

/// Binds the socket, and returns the only user who may connect to it.
async fn bind_unix(path: &Path) -> Result<(UnixListener, u32), StartError> {
    let wrong = |error: io::Error| {
        StartError::config(format!("listen.unix {}: cannot listen: {error}", path.display()))
    };
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(wrong)?;
    }
    remove_stale(path).await.map_err(wrong)?;
    let listener = UnixListener::bind(path).map_err(wrong)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(wrong)?;
    let owner = fs::metadata(path).map_err(wrong)?.uid();
    Ok((listener, owner))
}

/// Removes a socket that nobody listens on: what a killed process leaves behind.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is no socket is in the way",
            ));
        }
        Ok(_) => {}
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it"));
    }
    fs::remove_file(path)
}

/// Whoever may open the socket is the edge. The mode says who may; the check of the user covers the moment
/// between bind and chmod.
async fn accept_unix(listener: UnixListener, owner: u32, accepted: mpsc::Sender<Connection>) {
    loop {
        let stream = tokio::select! {
            () = accepted.closed() => return,
            stream = listener.accept() => stream,
        };
        match stream {
            Ok((stream, _)) if stream.peer_cred().is_ok_and(|peer| peer.uid() == owner) => {
                let connection = Connection::new(stream, Some(FORWARDING_WORKLOAD.into()));
                if accepted.send(connection).await.is_err() {
                    return;
                }
            }
            Ok(_) => tracing::warn!("refused another user's connection to the mesh socket"),
            Err(error) => pause(error).await,
        }
    }
}

async fn accept_tcp(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    accepted: mpsc::Sender<Connection>,
) {
    let tls = tls.map(TlsAcceptor::from);
    loop {
        let stream = tokio::select! {
            () = accepted.closed() => return,
            stream = listener.accept() => stream,
        };
        match stream {
            Ok((stream, address)) => {
                let (tls, accepted) = (tls.clone(), accepted.clone());
                // A handshake takes round trips, for which nobody else should wait.
                tokio::spawn(async move {
                    match identify(stream, tls).await {
                        // Fails only once the server has stopped.
                        Ok(connection) => drop(accepted.send(connection).await),
                        Err(error) => tracing::warn!(%address, %error, "refused a connection to the mesh"),
                    }
                });
            }
            Err(error) => pause(error).await,
        }
    }
}

async fn identify(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Connection::new(stream, None)) };
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await??;
    let role =
        stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(identity::role_of);
    let role = role.ok_or_else(|| {
        io::Error::new(io::ErrorKind::PermissionDenied, "the client's certificate names no role")
    })?;
    Ok(Connection::new(stream, Some(role.into())))
}

async fn pause(error: io::Error) {
    tracing::error!(%error, "cannot accept connections");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
