//! PROXY protocol, versions 1 and 2: parsing of headers from load balancers, and headers for backends.
//! Sans-io.
//!
//! It follows HAProxy's specification (`proxy-protocol.txt`); comments cite its sections. The crate `ppp` is
//! not used: it accepts invalid headers (a port `+80`, elements with a wrong length, a wrong checksum), and
//! does not return the header's length, which is needed to leave later bytes in the socket.

mod binary;
mod checksum;
mod elements;
mod text;
mod write;

#[cfg(test)]
mod tests;

pub use write::write;

use moongate_sdk::Tls;
use std::net::SocketAddr;

/// The longest accepted header in bytes. Version 1 has at most 107 (§2.1). Version 2 allows 65,551, but
/// addresses, a name, TLS and a client certificate need far less.
pub const LONGEST: usize = 4096;

/// The content of a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client's address and its destination. `None` for `LOCAL`, `UNKNOWN` and `AF_UNSPEC`, and for a
    /// client of a Unix socket: the connection's own addresses apply then.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// The TLS facts between client and sender, if the header has them (§2.2.6). Client certificates are left
    /// out: the header does not say which issuers the sender trusts.
    pub tls: Option<Tls>,
}

/// The length of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderLength {
    /// The header is longer than the available bytes.
    Beyond,
    /// The header's length, which may exceed the available bytes.
    At(usize),
}

/// The reason for refusing a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The connection starts with other bytes.
    #[error("the PROXY header is missing")]
    Missing,
    /// The header is invalid.
    #[error("the PROXY header is malformed")]
    Malformed,
    /// The header has more than 107 bytes in version 1, or more than [`LONGEST`] in version 2.
    #[error("the PROXY header is too long")]
    TooLong,
    /// The checksum does not match (§2.2.3).
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

/// Finds the length of a header from its first bytes. Only the bytes of the header may be consumed from the
/// socket.
///
/// # Errors
/// The bytes cannot become a valid header.
pub fn extent(bytes: &[u8]) -> Result<HeaderLength, HeaderError> {
    match bytes.first() {
        None => Ok(HeaderLength::Beyond),
        Some(b'P') => text::extent(bytes),
        Some(b'\r') => binary::extent(bytes),
        Some(_) => Err(HeaderError::Missing),
    }
}

/// Parses a complete header, up to the end found by [`extent`].
///
/// # Errors
/// The header is invalid or incomplete.
pub fn parse(header: &[u8]) -> Result<ProxyHeader, HeaderError> {
    match extent(header)? {
        HeaderLength::At(end) if end == header.len() && header[0] == b'P' => text::parse(header),
        HeaderLength::At(end) if end == header.len() => binary::parse(header),
        _ => Err(HeaderError::Malformed),
    }
}

/// Whether the common prefix of two byte strings is equal.
fn agree(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(a, b)| a == b)
}
