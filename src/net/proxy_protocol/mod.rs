//! The PROXY protocol, versions 1 and 2, as bytes: what a balancer in front of the gateway says of a
//! client, and what the gateway says to its backends. No socket comes in here.
//!
//! It follows the specification that HAProxy publishes (`proxy-protocol.txt`); its sections are named
//! where they decide something. The code is ours and not that of the crate `ppp`: that one takes what
//! must be refused (a port written `+80`, elements of a length of their own, a wrong checksum) and does
//! not tell how many bytes may be taken from a socket without touching what comes behind the header.

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

/// The longest header that is taken, in bytes. Version 1 has at most 107 (§2.1); version 2 could have
/// 65,551, but addresses, a name, TLS and a client's certificate need far less.
pub const LONGEST: usize = 4096;

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client's address, and the one that it connected to. None when the sender speaks for itself
    /// (`LOCAL`) or does not know (`UNKNOWN`, `AF_UNSPEC`), and for a client of a Unix socket: the
    /// connection's own address holds then.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// The TLS between client and sender, where the header says that there was one (§2.2.6). It tells
    /// nothing of a client's certificate: what the sender checked, and against whom, is not in it.
    pub tls: Option<Tls>,
}

/// Where a header ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderLength {
    /// Behind all bytes that are there.
    Beyond,
    /// Behind so many bytes, which may not all be there yet.
    At(usize),
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The connection begins with something else.
    #[error("there is no PROXY header")]
    Missing,
    /// It begins as one and breaks the rules.
    #[error("the PROXY header is malformed")]
    Malformed,
    /// It has more than 107 bytes in version 1, or than [`LONGEST`] in version 2.
    #[error("the PROXY header is too long")]
    TooLong,
    /// Its checksum is not that of its bytes (§2.2.3).
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

/// Finds a header's end from its first bytes. What is before that end belongs to the header and may be
/// taken from the socket; what is behind it belongs to somebody else.
///
/// # Errors
/// As soon as the bytes cannot become a header.
pub fn extent(bytes: &[u8]) -> Result<HeaderLength, HeaderError> {
    match bytes.first() {
        None => Ok(HeaderLength::Beyond),
        Some(b'P') => text::extent(bytes),
        Some(b'\r') => binary::extent(bytes),
        Some(_) => Err(HeaderError::Missing),
    }
}

/// Reads a whole header, from its first byte to the end that [`extent`] found.
///
/// # Errors
/// When anything in it breaks the rules, or when it is not whole.
pub fn parse(header: &[u8]) -> Result<ProxyHeader, HeaderError> {
    match extent(header)? {
        HeaderLength::At(end) if end == header.len() && header[0] == b'P' => text::parse(header),
        HeaderLength::At(end) if end == header.len() => binary::parse(header),
        _ => Err(HeaderError::Malformed),
    }
}

/// Whether two byte strings agree as far as both go.
fn agree(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.iter().zip(expected).all(|(a, b)| a == b)
}
