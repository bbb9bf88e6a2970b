//! The origin of a client's connection: addresses, listener and TLS, known before its first request.

use moongate_sdk::Tls;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A client's connection, from where and how.
#[derive(Debug)]
pub struct ConnInfo {
    /// The other end's address; 127.0.0.1 for a Unix socket. With the PROXY protocol, the one that the
    /// balancer tells.
    pub peer: SocketAddr,
    /// The address it was made to, where that had to be asked for already.
    pub local: Option<SocketAddr>,
    /// The index of the listener it came in by.
    pub listener: u16,
    /// Its TLS, unless it is plain.
    pub tls: Option<Arc<Tls>>,
}

impl ConnInfo {
    /// A connection from `peer`, `None` for a Unix socket, without TLS.
    pub fn plain(peer: Option<SocketAddr>, listener: u16) -> Self {
        let peer = peer.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        Self { peer, local: None, listener, tls: None }
    }
}
