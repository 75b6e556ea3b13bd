//! Bound ports, which outlive the configuration that opened them.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::StartError;
use crate::downstream::listener::Listener;

/// A bound port and what listens there.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    pub(crate) listener: Arc<ArcSwap<Listener>>,
    /// It takes no more connections.
    pub(super) stop: watch::Sender<bool>,
}

impl Port {
    /// The port, and its socket for those who serve it: it closes when the last of them stops.
    pub(super) fn bind(listener: Listener) -> Result<(Arc<Self>, TcpListener), StartError> {
        let failed =
            |reason| StartError::Bind { name: listener.name.clone(), address: listener.address, reason };
        let socket = TcpListener::bind(listener.address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let port = Self {
            address,
            listener: Arc::new(ArcSwap::from_pointee(listener)),
            stop: watch::Sender::new(false),
        };
        Ok((Arc::new(port), socket))
    }

    /// Whether `listener` would listen here. Where the system chooses the port, the name tells them apart.
    pub(super) fn is_for(&self, listener: &Listener) -> bool {
        let here = self.listener.load();
        here.address == listener.address && (here.address.port() != 0 || here.name == listener.name)
    }

    pub(super) fn close(&self) {
        self.stop.send_replace(true);
    }
}
