//! The address of an endpoint and its syntax in the configuration. Names are resolved in `discovery`.

use moongate_config::Problem;
use pingora::protocols::l4::socket::SocketAddr as EngineAddr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::PathBuf;

/// The longest host name (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 253;

/// An address that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    /// Formats as in the configuration: `127.0.0.1:80`, `[::1]:80` or `unix:/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Converts to pingora-load-balancing's type; `None` if the path is too long for a socket address, which
    /// parsing rejects.
    pub(super) fn to_engine(&self) -> Option<EngineAddr> {
        match self {
            Self::Tcp(address) => Some(EngineAddr::Inet(*address)),
            Self::Unix(path) => UnixAddr::from_pathname(path).ok().map(EngineAddr::Unix),
        }
    }

    /// Converts from pingora-load-balancing's type; `None` for an unnamed socket, which is never passed to
    /// it.
    pub(super) fn from_engine(address: &EngineAddr) -> Option<Self> {
        match address {
            EngineAddr::Inet(address) => Some(Self::Tcp(*address)),
            EngineAddr::Unix(address) => address.as_pathname().map(|path| Self::Unix(path.into())),
        }
    }
}

/// One entry in an upstream's list of endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// An address.
    Fixed(Address),
    /// A host name with a port, resolved periodically.
    Name {
        /// The name, in lower case.
        host: Box<str>,
        /// The port of every address of the name.
        port: u16,
    },
}

impl Origin {
    /// Parses `ip:port`, `[ip]:port`, `name:port` or `unix:/path`.
    ///
    /// # Errors
    /// A problem without a place, with the form that was probably meant.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(text, path);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            port_of(text, address.port())?;
            return Ok(Self::Fixed(Address::Tcp(address)));
        }
        let bad = || Problem::new(format!("invalid address `{text}`"));
        if text.contains("://") {
            return Err(bad().help("write the address without a scheme, as in 127.0.0.1:8081"));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(bad().help("a port is missing, as in 127.0.0.1:8081"));
        };
        if host.contains(':') || host.starts_with('[') {
            return Err(bad().help("an IPv6 address is written in brackets, as in [::1]:8081"));
        }
        let number = port.parse::<u16>().map_err(|_| bad().help("a port is a number from 1 to 65535"))?;
        port_of(text, number)?;
        if !is_name(host) {
            return Err(bad().help("write ip:port, [ip]:port, name:port or unix:/path"));
        }
        Ok(Self::Name { host: host.to_ascii_lowercase().into(), port: number })
    }
}

fn unix(text: &str, path: &str) -> Result<Origin, Problem> {
    let bad = || Problem::new(format!("invalid address `{text}`"));
    if !path.starts_with('/') {
        return Err(bad().help("the path of a Unix socket is absolute, as in unix:/run/app.sock"));
    }
    let address = Address::Unix(path.into());
    if address.to_engine().is_none() {
        return Err(bad().help("the path of a Unix socket has at most 107 bytes"));
    }
    Ok(Origin::Fixed(address))
}

fn port_of(text: &str, port: u16) -> Result<u16, Problem> {
    if port == 0 {
        return Err(
            Problem::new(format!("invalid address `{text}`")).help("a port is a number from 1 to 65535")
        );
    }
    Ok(port)
}

/// Returns whether every label has 1 to 63 letters, digits, `-` or `_`, and the name is no mistyped IPv4
/// address.
pub(super) fn is_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let numeric = |last: &str| last.bytes().all(|b| b.is_ascii_digit());
    host.len() <= LONGEST_NAME && host.split('.').all(label) && !host.rsplit('.').next().is_some_and(numeric)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn every_documented_form_is_read_and_written_back() {
        for text in ["127.0.0.1:80", "[::1]:8081", "unix:/run/app.sock"] {
            let Origin::Fixed(address) = Origin::parse(text).unwrap() else { panic!("{text} is an address") };
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::from_engine(&address.to_engine().unwrap()), Some(address));
        }
        let name = Origin::Name { host: "backend.local".into(), port: 80 };
        assert_eq!(Origin::parse("Backend.local:80").unwrap(), name);
    }

    #[test]
    fn what_is_no_address_is_refused_with_advice() {
        let long = format!("unix:/{}", "x".repeat(200));
        for text in [
            "",
            ":80",
            "host",
            "host:",
            "host:0",
            "host:70000",
            "http://host:80",
            "::1:80",
            "[::1]",
            "1.2.3:80",
        ] {
            assert!(!Origin::parse(text).unwrap_err().help.is_empty(), "{text}");
        }
        for text in ["256.1.1.1:80", "127.0.0.1:0", "a b:80", "a..b:80", "unix:run/app.sock", &long] {
            assert!(!Origin::parse(text).unwrap_err().help.is_empty(), "{text}");
        }
    }
}
