//! Sockets that the process was started with: by socket activation (`LISTEN_FDS`), from the store of the service manager,
//! or by a handover. A listener whose address is that of one of them uses it.

use super::bind::BoundListener;
use super::passed_socket::{PassedSocket, SocketRole};
use super::service_manager::STORED_NAME;
use super::socket_file::SocketFile;
use crate::snapshot::Address;
use listenfd::ListenFd;
use log::warn;
use socket2::SockRef;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

/// The sockets that no listener has used yet.
#[derive(Debug, Default)]
pub(super) struct InheritedSockets(Vec<InheritedSocket>);

#[derive(Debug)]
struct InheritedSocket {
    socket: PassedListener,
    /// What the old process of a handover used it for.
    role: Option<SocketRole>,
}

#[derive(Debug)]
enum PassedListener {
    Tcp(TcpListener),
    Unix(UnixListener, FileOwner),
}

/// Whose the file of a passed Unix socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileOwner {
    /// An earlier process of the gateway made it.
    Gateway,
    /// The service manager made it, for socket activation.
    ServiceManager,
}

impl InheritedSockets {
    /// Takes the sockets from the environment. Others than listening ones are closed.
    pub(super) fn take() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let (mut passed, mut sockets) = (ListenFd::from_env(), Self::default());
        for index in 0..passed.len() {
            let owner = match names.next() {
                Some(STORED_NAME) => FileOwner::Gateway,
                _ => FileOwner::ServiceManager,
            };
            let socket = if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
                PassedListener::Tcp(listener)
            } else if let Ok(Some(listener)) = passed.take_unix_listener(index) {
                PassedListener::Unix(listener, owner)
            } else {
                warn!(index; "passed socket ignored: it is no listening TCP or Unix socket");
                continue;
            };
            sockets.0.push(InheritedSocket { socket, role: None });
        }
        sockets
    }

    /// The sockets of the old process.
    pub(super) fn of_handover(passed: Vec<PassedSocket>) -> Self {
        let socket = |PassedSocket { socket, role }| {
            let is_unix = SockRef::from(&socket).local_addr().is_ok_and(|address| address.is_unix());
            let socket = match is_unix {
                true => PassedListener::Unix(socket.into(), FileOwner::Gateway),
                false => PassedListener::Tcp(socket.into()),
            };
            InheritedSocket { socket, role: Some(role) }
        };
        Self(passed.into_iter().map(socket).collect())
    }

    /// The socket for a listener, or for the admin address without a name; `None` without one.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub(super) fn take_for(
        &mut self,
        name: Option<&str>,
        address: &Address,
    ) -> io::Result<Option<BoundListener>> {
        // Several listeners may have port 0.
        let named = |one: &InheritedSocket| {
            one.role.as_ref().is_some_and(|role| {
                role.listener.as_deref() == name && role.configured == address.to_string()
            })
        };
        let index =
            self.0.iter().position(named).or_else(|| self.0.iter().position(|one| one.is_at(address)));
        let Some(index) = index else { return Ok(None) };
        self.0.swap_remove(index).socket.into_bound(address)
    }

    /// Closes the sockets that no listener uses.
    pub(super) fn close_unused(&mut self) {
        for InheritedSocket { socket, role } in self.0.drain(..) {
            // After a handover they are those of removed listeners.
            if role.is_none() {
                warn!(address = socket.address().as_str(); "passed socket closed: no listener has its address");
            }
        }
    }
}

impl InheritedSocket {
    fn is_at(&self, address: &Address) -> bool {
        match (&self.socket, address) {
            (PassedListener::Tcp(socket), Address::Tcp { address, .. }) => {
                socket.local_addr().is_ok_and(|local| local == *address)
            }
            (PassedListener::Unix(socket, _), Address::Unix { path, .. }) => {
                socket.local_addr().is_ok_and(|local| local.as_pathname() == Some(path))
            }
            _ => false,
        }
    }
}

impl PassedListener {
    fn address(&self) -> String {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(|address| address.to_string()).unwrap_or_default(),
            Self::Unix(socket, _) => socket
                .local_addr()
                .ok()
                .and_then(|local| Some(format!("unix:{}", local.as_pathname()?.display())))
                .unwrap_or_default(),
        }
    }

    /// Sets it up as the listener wants; `None` if it cannot be.
    fn into_bound(self, address: &Address) -> io::Result<Option<BoundListener>> {
        match (self, address) {
            (Self::Tcp(listener), Address::Tcp { address, ipv6_only }) => {
                let socket = SockRef::from(&listener);
                if address.is_ipv6() && socket.only_v6()? != *ipv6_only {
                    // Closed, so that a new one can be bound.
                    return Ok(None);
                }
                socket.set_tcp_nodelay(true)?;
                socket.set_nonblocking(true)?;
                Ok(Some(BoundListener::Tcp(listener)))
            }
            (Self::Unix(listener, owner), Address::Unix { path, access }) => {
                listener.set_nonblocking(true)?;
                let file = SocketFile::created(path)?;
                file.allow(*access)?;
                if owner == FileOwner::ServiceManager {
                    file.leave();
                }
                Ok(Some(BoundListener::Unix(listener, Arc::new(file))))
            }
            _ => Ok(None),
        }
    }
}
