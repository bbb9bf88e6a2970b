//! Sockets and connections below the request path: downstream and tunnel I/O, HTTP/1 on the wire, the PROXY protocol, name
//! resolution, and the detection of request loops.

pub mod conn_info;
pub mod connection_permit;
pub mod downstream_io;
pub mod http1;
pub mod loop_detection;
pub mod proxy_protocol;
pub mod resolver;
pub mod tunnel_io;

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Whether an address belongs to this machine: only such an address can be bound.
pub fn is_own_address(ip: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}
