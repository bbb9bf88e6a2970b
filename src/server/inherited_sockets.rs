//! Sockets that the process was started with: by socket activation (`LISTEN_FDS`), from the store of the service manager,
//! or by a handover. A listener whose address is that of one of them uses it.

use super::bind::BoundListener;
use super::passed_socket::{PassedSocket, SocketRole};
use super::service_manager::STORED_NAME;
use super::socket_file::{AccessChange, SocketFile};
use super::stored_link::{LINK_NAME, end_links};
use crate::snapshot::{Access, Address};
use listenfd::ListenFd;
use log::warn;
use socket2::SockRef;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

/// The sockets that no listener has used yet.
#[derive(Debug, Default)]
pub(super) struct InheritedSockets {
    sockets: Vec<InheritedSocket>,
    /// Ends of links to processes that serve until this one does.
    links: Vec<UnixStream>,
}

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

/// A socket for a listener.
#[derive(Debug)]
pub(super) struct TakenSocket {
    pub(super) socket: BoundListener,
    /// Changed permissions, taken back unless they are kept.
    pub(super) access: Option<AccessChange>,
    /// Whether the file of a Unix socket becomes this process's at the commit.
    pub(super) owns_file: bool,
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
            let name = names.next();
            if name == Some(LINK_NAME) {
                let kind = "a link to a process before";
                // Any other descriptor is none, and stays unused.
                let link = passed.take_custom::<UnixStream>(index, libc::AF_UNIX, libc::SOCK_STREAM, kind);
                sockets.links.extend(link.ok().flatten());
                continue;
            }
            let owner = match name {
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
            if !socket.listens() {
                warn!(index; "passed socket ignored: it does not listen");
                continue;
            }
            sockets.add(InheritedSocket { socket, role: None });
        }
        sockets
    }

    /// Adds a socket once: systemd passes one that a socket unit made, and that an earlier process stored, twice.
    fn add(&mut self, one: InheritedSocket) {
        match self.sockets.iter_mut().find(|other| other.socket.is_same(&one.socket)) {
            None => self.sockets.push(one),
            // The file is the service manager's.
            Some(other) if matches!(one.socket, PassedListener::Unix(_, FileOwner::ServiceManager)) => {
                *other = one;
            }
            Some(_) => {}
        }
    }

    /// Ends the links to processes that serve until this one does. Returns whether there were any.
    pub(super) fn end_links(&mut self) -> bool {
        let links = std::mem::take(&mut self.links);
        end_links(&links);
        !links.is_empty()
    }

    /// The sockets of the old process.
    pub(super) fn of_handover(passed: Vec<PassedSocket>) -> Self {
        let socket = |PassedSocket { socket, role }| {
            let is_unix = SockRef::from(&socket).local_addr().is_ok_and(|address| address.is_unix());
            let owner = if role.owns_file { FileOwner::Gateway } else { FileOwner::ServiceManager };
            let socket = match is_unix {
                true => PassedListener::Unix(socket.into(), owner),
                false => PassedListener::Tcp(socket.into()),
            };
            InheritedSocket { socket, role: Some(role) }
        };
        Self { sockets: passed.into_iter().map(socket).collect(), links: Vec::new() }
    }

    /// The socket for a listener, or for the admin address without a name; `None` without one.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub(super) fn take_for(
        &mut self,
        name: Option<&str>,
        address: &Address,
    ) -> io::Result<Option<TakenSocket>> {
        // Several listeners may have port 0.
        let named = |one: &InheritedSocket| {
            one.role.as_ref().is_some_and(|role| {
                role.listener.as_deref() == name && role.configured == address.to_string()
            })
        };
        let index = self
            .sockets
            .iter()
            .position(named)
            .or_else(|| self.sockets.iter().position(|one| one.is_at(address)));
        // One that cannot be used stays open until the commit, as far as it shares its port.
        let Some(index) = index.filter(|index| self.sockets[*index].socket.fits(address)) else {
            return Ok(None);
        };
        self.sockets.swap_remove(index).socket.set_up(address).map(Some)
    }

    /// Lets a new socket be bound beside those at this port, which are closed at the commit. Returns whether there are any.
    ///
    /// # Errors
    /// The kernel's error.
    pub(super) fn share_port(&self, port: u16) -> io::Result<bool> {
        let mut is_shared = false;
        for one in &self.sockets {
            if let PassedListener::Tcp(socket) = &one.socket
                && socket.local_addr()?.port() == port
            {
                SockRef::from(socket).set_reuse_port(true)?;
                is_shared = true;
            }
        }
        Ok(is_shared)
    }

    /// Closes the sockets that no listener uses, and ends the links: this process serves.
    pub(super) fn close_unused(&mut self) {
        self.end_links();
        for InheritedSocket { socket, role } in self.sockets.drain(..) {
            if let PassedListener::Unix(listener, FileOwner::Gateway) = &socket
                && let Some(path) =
                    listener.local_addr().ok().and_then(|local| local.as_pathname().map(Path::to_owned))
            {
                // Removed with its socket, unless another one is there by now.
                drop(SocketFile::created(&path));
            }
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

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }

    fn listens(&self) -> bool {
        rustix::net::sockopt::socket_acceptconn(self.descriptor()).unwrap_or(false)
    }

    /// Returns whether both are descriptors of one socket.
    fn is_same(&self, other: &Self) -> bool {
        let identity =
            |one: &Self| rustix::fs::fstat(one.descriptor()).ok().map(|stat| (stat.st_dev, stat.st_ino));
        identity(self).is_some_and(|own| identity(other) == Some(own))
    }

    /// Returns whether it can serve at the address. systemd may have removed the file of a Unix socket, with the
    /// directory of the service.
    fn fits(&self, address: &Address) -> bool {
        match (self, address) {
            (Self::Tcp(listener), Address::Tcp { address, ipv6_only }) => {
                address.is_ipv4() || SockRef::from(listener).only_v6().is_ok_and(|only| only == *ipv6_only)
            }
            (Self::Unix(..), Address::Unix { path, .. }) => {
                std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
            }
            _ => false,
        }
    }

    /// Sets it up as the listener wants.
    fn set_up(self, address: &Address) -> io::Result<TakenSocket> {
        match (self, address) {
            (Self::Tcp(listener), _) => {
                let socket = SockRef::from(&listener);
                socket.set_tcp_nodelay(true)?;
                socket.set_nonblocking(true)?;
                Ok(TakenSocket { socket: BoundListener::Tcp(listener), access: None, owns_file: false })
            }
            (Self::Unix(listener, owner), Address::Unix { path, access }) => {
                listener.set_nonblocking(true)?;
                let file = SocketFile::passed(path);
                let access = match *access == Access::default() {
                    true => None,
                    false => Some(file.change_access(Access::default(), *access)?),
                };
                let owns_file = owner == FileOwner::Gateway;
                Ok(TakenSocket { socket: BoundListener::Unix(listener, Arc::new(file)), access, owns_file })
            }
            (Self::Unix(..), Address::Tcp { .. }) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }
}
