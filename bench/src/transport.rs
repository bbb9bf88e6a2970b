//! The ways to a gateway: in the clear, or over TLS. Every gateway listens once for each.

use crate::tls::{self, Tickets};
use rustls::ClientConfig;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where a gateway listens.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// In the clear.
    pub(crate) plain: SocketAddr,
    /// For TLS.
    pub(crate) tls: SocketAddr,
}

/// A way to a gateway.
#[derive(Clone)]
pub(crate) struct Road {
    /// Where it leads.
    pub(crate) address: SocketAddr,
    /// What is spoken on it, when it is TLS. Roads that share it share tickets.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// The same address for both: whoever gives it knows what is spoken there.
    pub(crate) fn one(address: SocketAddr) -> Self {
        Self { plain: address, tls: address }
    }

    /// HTTP/1.1 in the clear.
    pub(crate) fn plain(self) -> Road {
        Road { address: self.plain, tls: None }
    }

    /// HTTP/1.1 over TLS.
    pub(crate) fn tls(self, tickets: Tickets) -> io::Result<Road> {
        Ok(Road { address: self.tls, tls: Some(tls::client(b"http/1.1", tickets)?) })
    }

    /// HTTP/2 over TLS.
    pub(crate) fn h2(self) -> io::Result<Road> {
        Ok(Road { address: self.tls, tls: Some(tls::client(b"h2", Tickets::Never)?) })
    }
}
