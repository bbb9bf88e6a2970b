//! PROXY headers for connections to backends.

use super::binary::SIGNATURE;
use crate::config::ProxyVersion;
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The header, to be sent in one write before other bytes.
///
/// `ends` are the client's address and its destination; addresses of two families are both written as IPv6.
/// Without them the header is `LOCAL` in version 2 and `UNKNOWN` in version 1, as for a health check. Some
/// receivers refuse `UNKNOWN` (§2.1), so a health check in version 1 should pass the addresses of its own
/// connection.
pub fn write(version: ProxyVersion, ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let ends = ends.map(|(source, destination)| one_family(source, destination));
    match version {
        ProxyVersion::V1 => text(ends),
        ProxyVersion::V2 => binary(ends),
    }
}

/// Both addresses as IPv4 if possible, otherwise both as IPv6.
fn one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let (from, to) = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => (from, to),
        _ => (wide(from).into(), wide(to).into()),
    };
    (SocketAddr::new(from, source.port()), SocketAddr::new(to, destination.port()))
}

fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn text(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((source, destination)) = ends else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let mut header = Vec::with_capacity(107);
    // Writing to a vector cannot fail.
    let _ = write!(
        header,
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
    header
}

fn binary(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = Vec::with_capacity(52);
    header.extend_from_slice(SIGNATURE);
    let Some((source, destination)) = ends else {
        header.extend_from_slice(&[0x20, 0x00, 0, 0]);
        return header;
    };
    header.extend_from_slice(if source.is_ipv4() { &[0x21, 0x11, 0, 12] } else { &[0x21, 0x21, 0, 36] });
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(address) => header.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => header.extend_from_slice(&address.octets()),
        }
    }
    for end in [source, destination] {
        header.extend_from_slice(&end.port().to_be_bytes());
    }
    header
}
