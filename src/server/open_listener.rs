//! A listening socket that serves, with its listener's name and open connections.

use super::bind::BoundListener;
use super::service_manager::SocketKeeper;
use crate::net::connection_permit::ConnectionCount;
use crate::snapshot::Address;
use std::sync::Arc;

/// A listener in service. A change of its name or address makes another one, which may have the same socket.
#[derive(Debug)]
pub(super) struct OpenListener {
    /// The name.
    pub(super) name: Arc<str>,
    /// The address as it is configured: port 0 stays 0.
    pub(super) address: Address,
    /// The socket.
    pub(super) socket: Arc<BoundListener>,
    /// The open connections.
    pub(super) count: Arc<ConnectionCount>,
}

impl OpenListener {
    /// Returns whether both have the same socket.
    pub(super) fn has_socket_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.socket, &other.socket)
    }

    /// Removes the file of a Unix socket, so that no further client connects, unless something keeps the socket.
    pub(super) fn close_file(&self, keeper: SocketKeeper) {
        if let BoundListener::Unix(_, file) = &*self.socket {
            match keeper {
                SocketKeeper::None => file.remove(),
                SocketKeeper::ServiceManager | SocketKeeper::NextProcess => file.leave(),
            }
        }
    }
}
