//! Validated authority of a request: host and port (RFC 9112 §3.2, RFC 3986 §3.2.2).

use super::bad_target::BadTarget;
use super::host::is_name;
use std::net::Ipv6Addr;

/// The longest accepted host.
const LONGEST: usize = 255;

/// A host with an optional port, as sent by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    text: &'a str,
    host_len: usize,
}

impl<'a> Authority<'a> {
    /// Parses a Host field's value, or the authority of an absolute target.
    ///
    /// # Errors
    /// [`BadTarget::Host`] for an empty host; userinfo, spaces, slashes, commas, percent escapes and other
    /// characters that are invalid in host names; a malformed IPv6 address; and a port outside 1 to 65535.
    pub fn parse(text: &'a str) -> Result<Self, BadTarget> {
        let host_len = match text.strip_prefix('[') {
            Some(rest) => {
                let (literal, _) = rest.split_once(']').ok_or(BadTarget::Host)?;
                literal.parse::<Ipv6Addr>().map_err(|_| BadTarget::Host)?;
                literal.len() + 2
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                if end > LONGEST || !is_name(&text[..end]) {
                    return Err(BadTarget::Host);
                }
                end
            }
        };
        check_port(&text[host_len..])?;
        Ok(Self { text, host_len })
    }

    /// Host and port, as in a Host field.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The host without port and final dot, with the brackets of an IPv6 address.
    pub fn host(&self) -> &'a str {
        let host = &self.text[..self.host_len];
        host.strip_suffix('.').unwrap_or(host)
    }
}

/// Accepts nothing, `:` alone (RFC 3986 §3.2.3 allows it), or a port.
fn check_port(text: &str) -> Result<(), BadTarget> {
    let Some(port) = text.strip_prefix(':') else {
        return if text.is_empty() { Ok(()) } else { Err(BadTarget::Host) };
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let fits = port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0);
    if digits && fits { Ok(()) } else { Err(BadTarget::Host) }
}

/// Splits an absolute http or https URL into its authority and the rest.
pub(super) fn split(raw: &[u8]) -> Option<(&str, &[u8])> {
    let colon = raw.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = raw.split_at(colon);
    // Some WebSocket libraries use the schemes ws and wss here.
    let known: [&[u8]; 4] = [b"http", b"https", b"ws", b"wss"];
    if !known.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    Some((std::str::from_utf8(authority).ok()?, rest))
}
