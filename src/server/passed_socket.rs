//! Listening sockets on their way from one process to the next, with what they are for.

use super::bind::BoundListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What a socket is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SocketRole {
    /// The address of the configuration, which may have port 0.
    pub(super) configured: String,
    /// The name of the listener; `None` for the admin address.
    pub(super) listener: Option<String>,
    /// Whether the file of a Unix socket is the gateway's, and not the service manager's.
    pub(super) owns_file: bool,
}

/// A socket in service.
#[derive(Debug)]
pub(super) struct HeldSocket {
    pub(super) socket: Arc<BoundListener>,
    pub(super) role: SocketRole,
}

/// A socket of the process before.
#[derive(Debug)]
pub(super) struct PassedSocket {
    pub(super) socket: OwnedFd,
    pub(super) role: SocketRole,
}
