//! PROXY protocol version 2: sixteen fixed bytes, addresses, and TLV elements (§2.2).

use super::{HeaderError, HeaderLength, LONGEST, ProxyHeader, agree, elements};
use std::net::{IpAddr, SocketAddr};

/// The start of a header.
pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part: signature, version and command, family and transport, length.
pub(super) const FIXED: usize = 16;

/// The length of two Unix socket paths.
const UNIX_PATHS: usize = 216;

pub(super) fn extent(bytes: &[u8]) -> Result<HeaderLength, HeaderError> {
    if !agree(bytes, SIGNATURE) {
        return Err(HeaderError::Missing);
    }
    if bytes.get(12).is_some_and(|byte| !matches!(byte, 0x20 | 0x21)) {
        return Err(HeaderError::Malformed);
    }
    let Some(length) = bytes.get(14..FIXED) else { return Ok(HeaderLength::Beyond) };
    let end = FIXED + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if end > LONGEST { Err(HeaderError::TooLong) } else { Ok(HeaderLength::At(end)) }
}

/// Parses a complete header, as found by [`extent`].
pub(super) fn parse(header: &[u8]) -> Result<ProxyHeader, HeaderError> {
    let (fixed, block) = header.split_at_checked(FIXED).ok_or(HeaderError::Malformed)?;
    // LOCAL: the connection is the sender's own, and the rest must be ignored.
    if fixed[12] == 0x20 {
        return Ok(ProxyHeader::default());
    }
    let (ends, size) = match (fixed[13] >> 4, fixed[13] & 0xf) {
        // An unspecified family has addresses of unknown length, so the elements cannot be found.
        (0, 0..=2) | (1..=3, 0) => return Ok(ProxyHeader::default()),
        // A client over datagrams, as with QUIC, has an address too.
        (1, 1 | 2) => (Some(ends::<4>(block)?), 12),
        (2, 1 | 2) => (Some(ends::<16>(block)?), 36),
        (3, 1 | 2) => (None, UNIX_PATHS),
        _ => return Err(HeaderError::Malformed),
    };
    let found = elements::read(header, block.get(size..).ok_or(HeaderError::Malformed)?)?;
    Ok(ProxyHeader { ends, tls: found.tls() })
}

/// Two addresses, then two ports.
fn ends<const N: usize>(block: &[u8]) -> Result<(SocketAddr, SocketAddr), HeaderError>
where
    IpAddr: From<[u8; N]>,
{
    let take = || {
        let (source, rest) = block.split_first_chunk::<N>()?;
        let (destination, rest) = rest.split_first_chunk::<N>()?;
        let (from, rest) = rest.split_first_chunk::<2>()?;
        let to = rest.first_chunk::<2>()?;
        let end = |address: &[u8; N], port: &[u8; 2]| {
            SocketAddr::new(IpAddr::from(*address), u16::from_be_bytes(*port))
        };
        Some((end(source, from), end(destination, to)))
    };
    take().ok_or(HeaderError::Malformed)
}
