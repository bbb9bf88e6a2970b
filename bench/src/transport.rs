//! The transports to a gateway: plaintext or TLS. Every gateway has one listener for each.

use crate::tls::{self, Tickets};
use rustls::ClientConfig;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// The addresses of a gateway.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// Plaintext.
    pub(crate) plain: SocketAddr,
    /// TLS.
    pub(crate) tls: SocketAddr,
}

/// A transport to a gateway.
#[derive(Clone)]
pub(crate) struct Transport {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// The TLS configuration, if any. Transports with the same configuration share tickets.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// The same address for both: the caller knows which protocol the listener speaks.
    pub(crate) fn one(address: SocketAddr) -> Self {
        Self { plain: address, tls: address }
    }

    /// HTTP/1.1 without TLS.
    pub(crate) fn plain(self) -> Transport {
        Transport { address: self.plain, tls: None }
    }

    /// HTTP/1.1 over TLS.
    pub(crate) fn tls(self, tickets: Tickets) -> io::Result<Transport> {
        Ok(Transport { address: self.tls, tls: Some(tls::client(b"http/1.1", tickets)?) })
    }

    /// HTTP/2 over TLS.
    pub(crate) fn h2(self) -> io::Result<Transport> {
        Ok(Transport { address: self.tls, tls: Some(tls::client(b"h2", Tickets::Discard)?) })
    }
}
