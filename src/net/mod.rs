//! Network I/O below the protocols: the reader of HTTP/1 response heads, the detection of loops, and which addresses are this machine's.

pub mod loops;
pub mod response_head;

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Whether an address is one of this machine's. The kernel says so: a socket can be bound to those alone.
pub fn is_own_address(ip: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}
