//! Listening sockets. The gateway binds them instead of Pingora, so that port 0 works, an address in use is
//! an error instead of a panic, and all workers share one accept queue.

use super::socket_file::SocketFile;
use crate::snapshot::{Access, Address};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pause between two tries to bind an address.
const RETRY: Duration = Duration::from_millis(20);

/// The kernel reduces it to somaxconn.
const BACKLOG: i32 = 65_535;

/// A bound socket.
#[derive(Debug)]
pub(super) enum BoundListener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket with its file.
    Unix(UnixListener, Arc<SocketFile>),
}

impl BoundListener {
    /// Binds and listens.
    ///
    /// # Errors
    /// The kernel's error: the address is in use, not local, or needs more privileges.
    pub(super) fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp { address, ipv6_only } => {
                bind_tcp(*address, *ipv6_only, PortSharing::Exclusive).map(Self::Tcp)
            }
            Address::Unix { path, access } => {
                bind_unix(path, *access).map(|(listener, file)| Self::Unix(listener, Arc::new(file)))
            }
        }
    }

    /// The same as soon as the address is free, within a time limit.
    ///
    /// # Errors
    /// As [`BoundListener::bind`].
    pub(super) fn bind_within(limit: Duration, address: &Address) -> io::Result<Self> {
        let until = Instant::now() + limit;
        loop {
            match Self::bind(address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                    std::thread::sleep(RETRY);
                }
                outcome => return outcome,
            }
        }
    }

    /// Binds and listens at a TCP address although `own` are bound at overlapping ones: sockets of this process that
    /// will be closed. From then on the kernel lets another process of the same user share the port too, if that
    /// process asks for it (SO_REUSEPORT); a second gateway does not ask.
    ///
    /// # Errors
    /// As for [`BoundListener::bind`]; the port is in use by another process.
    pub(super) fn bind_beside(address: SocketAddr, ipv6_only: bool, own: &[Arc<Self>]) -> io::Result<Self> {
        for socket in own {
            SockRef::from(&**socket).set_reuse_port(true)?;
        }
        bind_tcp(address, ipv6_only, PortSharing::Shared).map(Self::Tcp)
    }

    /// The address, with the actual port if the configuration has 0.
    pub(super) fn local(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
            }
            Self::Unix(_, file) => format!("unix:{}", file.path().display()),
        }
    }

    /// The port of a TCP socket.
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
            Self::Unix(..) => None,
        }
    }

    /// Another handle to the same accept queue, for another worker.
    ///
    /// # Errors
    /// The kernel's error when no descriptor is left.
    pub(super) fn share(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener, file) => listener.try_clone().map(|l| Self::Unix(l, Arc::clone(file))),
        }
    }
}

impl AsFd for BoundListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

/// Whether another socket may be bound to the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortSharing {
    /// A second process is refused.
    Exclusive,
    /// While sockets of this process are exchanged.
    Shared,
}

fn bind_tcp(address: SocketAddr, ipv6_only: bool, sharing: PortSharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the previous process's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if sharing == PortSharing::Shared {
        socket.set_reuse_port(true)?;
    }
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

fn bind_unix(path: &Path, access: Access) -> io::Result<(UnixListener, SocketFile)> {
    // A socket file without a listening process is stale; with one it is in use.
    if UnixStream::connect(path).is_ok() {
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
    // Before listening: a socket that does not listen yet refuses connections, so no client connects earlier. The
    // file is removed again if that fails.
    let file = SocketFile::created(path)?;
    file.allow(access)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok((socket.into(), file))
}

#[cfg(test)]
mod tests {
    // Tests fail by panicking.
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    fn tcp(text: &str) -> (SocketAddr, Address) {
        (text.parse().unwrap(), Address::parse(text).unwrap())
    }

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
    fn an_own_socket_is_exchanged_for_an_overlapping_one_and_another_process_is_refused() {
        let first = Arc::new(BoundListener::bind(&Address::parse("127.0.0.1:0").unwrap()).unwrap());
        let port = first.port().unwrap();
        let (any, address) = tcp(&format!("0.0.0.0:{port}"));
        assert!(BoundListener::bind(&address).is_err());
        let _second = BoundListener::bind_beside(any, true, &[Arc::clone(&first)]).unwrap();
        drop(first);
        assert_eq!(BoundListener::bind(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_socket_file_left_by_a_dead_process_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.sock");
        let address = Address::Unix { path: path.clone(), access: Access::default() };
        let first = BoundListener::bind(&address).unwrap();
        assert_eq!(BoundListener::bind(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        if let BoundListener::Unix(listener, file) = first {
            drop(listener);
            std::mem::forget(file);
        }
        assert!(path.exists());
        let second = BoundListener::bind(&address).unwrap();
        drop(second);
        assert!(!path.exists());
    }
}
