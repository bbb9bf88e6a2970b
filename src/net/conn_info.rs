//! Facts of a client connection, known before its first request: addresses, listener and TLS.

use moongate_sdk::Tls;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A client connection's origin.
#[derive(Debug)]
pub struct ConnInfo {
    /// The client's address; 127.0.0.1 for a Unix socket. With the PROXY protocol, the address from the
    /// header.
    pub peer: SocketAddr,
    /// The local address, if it is known already.
    pub local: Option<SocketAddr>,
    /// The name of the listener, which stays while the connection lives: a reload may remove the listener.
    pub listener: Arc<str>,
    /// The TLS facts; `None` for a plain connection.
    pub tls: Option<Arc<Tls>>,
}

impl ConnInfo {
    /// A connection from `peer`, `None` for a Unix socket, without TLS.
    pub fn plain(peer: Option<SocketAddr>, listener: Arc<str>) -> Self {
        let peer = peer.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        Self { peer, local: None, listener, tls: None }
    }
}
