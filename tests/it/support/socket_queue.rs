//! Bytes in the kernel's queues of a TCP connection of this machine, by sock_diag(7). `/proc/net/tcp` has them
//! too, but takes milliseconds.

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

const NETLINK: i32 = 16;
const SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// Bytes of a socket that its process has not read, and bytes that the peer's kernel has not acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Queues {
    unread: u32,
    unacknowledged: u32,
}

/// Returns whether bytes from `local` are on the way to the process that has `peer`.
///
/// # Errors
/// When the kernel does not support the query.
pub(crate) fn is_unread(local: SocketAddr, peer: SocketAddr) -> io::Result<bool> {
    Ok(queues(local, peer)?.unacknowledged > 0 || queues(peer, local)?.unread > 0)
}

/// Waits until the kernel has delivered everything that was sent on this connection, read or not, or it was closed.
pub(crate) fn await_delivered(stream: &TcpStream) {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return };
    let start = Instant::now();
    while queues(local, peer).unwrap().unacknowledged > 0 {
        assert!(start.elapsed() < super::LIMIT, "{peer} receives nothing");
        std::thread::yield_now();
    }
}

/// The queues of the socket with these addresses; none after it was closed.
fn queues(local: SocketAddr, peer: SocketAddr) -> io::Result<Queues> {
    let mut socket = Socket::new(Domain::from(NETLINK), Type::DGRAM, Some(Protocol::from(SOCK_DIAG)))?;
    socket.write_all(&query(local, peer))?;
    let mut reply = [0; 512];
    let read = socket.read(&mut reply)?;
    let number = |at: usize| u32::from_ne_bytes([reply[at], reply[at + 1], reply[at + 2], reply[at + 3]]);
    let is_found = read >= 80 && u16::from_ne_bytes([reply[4], reply[5]]) == SOCK_DIAG_BY_FAMILY;
    Ok(if is_found { Queues { unread: number(72), unacknowledged: number(76) } } else { Queues::default() })
}

/// A `nlmsghdr` and an `inet_diag_req_v2`.
fn query(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let ip = |address: SocketAddr| match address {
        SocketAddr::V4(address) => [&address.ip().octets()[..], &[0; 12]].concat(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    };
    let (family, tcp) = (if local.is_ipv4() { 2 } else { 10 }, 6);
    [
        &72_u32.to_ne_bytes()[..],
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        // A request without sequence number and port.
        &1_u16.to_ne_bytes(),
        &[0; 8],
        &[family, tcp, 0, 0],
        // All states.
        &u32::MAX.to_ne_bytes(),
        &local.port().to_be_bytes(),
        &peer.port().to_be_bytes(),
        &ip(local),
        &ip(peer),
        // Any interface, and no cookie.
        &[0; 4],
        &[0xff; 8],
    ]
    .concat()
}
