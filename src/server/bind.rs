//! Listening sockets. The gateway binds them instead of Pingora, so that port 0 works, an address in use is
//! an error instead of a panic, and all workers share one accept queue.

use crate::snapshot::{Access, Address};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The kernel reduces it to somaxconn.
const BACKLOG: i32 = 65_535;

/// A bound socket.
#[derive(Debug)]
pub(super) enum BoundListener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket; its file is removed when the process ends.
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

impl BoundListener {
    /// Binds and listens.
    ///
    /// # Errors
    /// The kernel's error: the address is in use, not local, or needs more privileges.
    pub(super) fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp { address, ipv6_only } => bind_tcp(*address, *ipv6_only).map(Self::Tcp),
            Address::Unix { path, access } => {
                bind_unix(path, *access).map(|listener| Self::Unix(listener, path.clone()))
            }
        }
    }

    /// The address, with the actual port if the configuration has 0.
    pub(super) fn local(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
            }
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Another handle to the same accept queue, for another worker.
    ///
    /// # Errors
    /// The kernel's error when no descriptor is left.
    pub(super) fn share(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener, path) => listener.try_clone().map(|l| Self::Unix(l, path.clone())),
        }
    }
}

fn bind_tcp(address: SocketAddr, ipv6_only: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the previous process's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // By default `[::]:80` beside `0.0.0.0:80` are two listeners, as in nginx.
        socket.set_only_v6(ipv6_only)?;
    }
    // Accepted sockets inherit it, which saves a syscall per connection: small frames and responses never
    // wait for an acknowledgement.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, access: Access) -> io::Result<std::os::unix::net::UnixListener> {
    // A socket file without a listening process is stale; with one it is in use.
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) => {
            std::fs::remove_file(path)?;
        }
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Before listening: a socket that does not listen yet refuses connections, so no client connects earlier.
    let allowed = allow(path, access);
    if allowed.is_err() {
        // It may have been removed already.
        let _ = std::fs::remove_file(path);
    }
    allowed?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets owner, group and permissions of a socket file.
fn allow(path: &Path, Access { mode, owner, group }: Access) -> io::Result<()> {
    if owner.is_some() || group.is_some() {
        std::os::unix::fs::lchown(path, owner, group)?;
    }
    match mode {
        Some(mode) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    // Tests fail by panicking.
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn port_0_gets_a_real_port_that_every_handle_shares() {
        let bound = BoundListener::bind(&Address::parse("127.0.0.1:0").unwrap()).unwrap();
        assert!(!bound.local().ends_with(":0"));
        assert_eq!(bound.local(), bound.share().unwrap().local());
    }

    #[test]
    fn an_address_in_use_is_an_error_and_not_a_panic() {
        let first = BoundListener::bind(&Address::parse("127.0.0.1:0").unwrap()).unwrap();
        let error = BoundListener::bind(&Address::parse(&first.local()).unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_socket_file_left_by_a_dead_process_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix { path: folder.path().join("gate.sock"), access: Access::default() };
        let first = BoundListener::bind(&address).unwrap();
        assert_eq!(BoundListener::bind(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        BoundListener::bind(&address).unwrap();
    }
}
