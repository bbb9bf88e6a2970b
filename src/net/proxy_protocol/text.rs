//! PROXY protocol version 1: a line of text (§2.1).

use super::{HeaderError, HeaderLength, ProxyHeader, agree};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The start of a header.
const PREFIX: &[u8] = b"PROXY ";

/// The longest line with CRLF: `PROXY UNKNOWN` and two full IPv6 addresses.
const LONGEST: usize = 107;

pub(super) fn extent(bytes: &[u8]) -> Result<HeaderLength, HeaderError> {
    if !agree(bytes, PREFIX) {
        return Err(HeaderError::Missing);
    }
    match bytes.iter().take(LONGEST).position(|byte| *byte == b'\n') {
        Some(at) if bytes[at - 1] == b'\r' => Ok(HeaderLength::At(at + 1)),
        Some(_) => Err(HeaderError::Malformed),
        None if bytes.len() >= LONGEST => Err(HeaderError::TooLong),
        None => Ok(HeaderLength::Beyond),
    }
}

/// Parses a complete line, as found by [`extent`].
pub(super) fn parse(header: &[u8]) -> Result<ProxyHeader, HeaderError> {
    let line = header.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(b"\r\n"));
    let line = line.ok_or(HeaderError::Malformed)?;
    // The rest of an UNKNOWN line must be ignored.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(ProxyHeader::default());
    }
    let ends = str::from_utf8(line).ok().and_then(ends).ok_or(HeaderError::Malformed)?;
    Ok(ProxyHeader { ends: Some(ends), tls: None })
}

/// The five words of a line with addresses, separated by single spaces.
fn ends(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut words = line.split(' ');
    let mut word = || words.next();
    let (family, source, destination) = (word()?, word()?, word()?);
    let (from, to) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return None;
    }
    let (source, destination) = match family {
        "TCP4" => pair::<Ipv4Addr>(source, destination)?,
        "TCP6" => pair::<Ipv6Addr>(source, destination)?,
        _ => return None,
    };
    Some((SocketAddr::new(source, from), SocketAddr::new(destination, to)))
}

fn pair<A: FromStr + Into<IpAddr>>(source: &str, destination: &str) -> Option<(IpAddr, IpAddr)> {
    Some((source.parse::<A>().ok()?.into(), destination.parse::<A>().ok()?.into()))
}

/// Decimal, without a sign or a leading zero.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| plain)
}
