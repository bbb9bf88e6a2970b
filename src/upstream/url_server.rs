//! Server of a URL, which belongs to no upstream: the target of a plugin's call.

use std::net::SocketAddr;

/// One address of a URL's host.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct UrlServer {
    /// The address.
    pub address: SocketAddr,
    /// Whether the scheme is `https`.
    pub has_tls: bool,
    /// The host, which its certificate must name.
    pub host: Box<str>,
}
