//! Admin address as an operator writes it: `127.0.0.1:9901`, `[::1]:9901` or `gateway.internal:9901`.

use std::fmt;
use std::str::FromStr;

/// Host and port, as in the field `Host` of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct AdminAddress(String);

impl AdminAddress {
    /// Host and port.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As copied from the address bar of a browser.
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        let wrong = || format!("`{text}` is not an address; write it as `HOST:PORT`");
        let (host, port) = bare.rsplit_once(':').ok_or_else(wrong)?;
        let is_ipv6 = host.starts_with('[') && host.ends_with(']');
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_valid = match is_ipv6 {
            true => host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().is_ok(),
            false => !host.is_empty() && host.chars().all(is_host),
        };
        match port.parse::<u16>() {
            _ if !is_valid => Err(wrong()),
            Ok(0) => Err(format!("`{text}` has port 0: the log of the gateway has the actual port")),
            Ok(_) => Ok(Self(bare.to_owned())),
            Err(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (text, address) in [
            ("127.0.0.1:9901", "127.0.0.1:9901"),
            ("[::1]:9901", "[::1]:9901"),
            ("gateway.internal:9901", "gateway.internal:9901"),
            ("http://localhost:9901/", "localhost:9901"),
        ] {
            assert_eq!(text.parse::<AdminAddress>().unwrap().as_str(), address);
        }
        for text in [
            "",
            "9901",
            ":9901",
            "127.0.0.1",
            "::1:9901",
            "[::1",
            "[x]:1",
            "a:b",
            "a:70000",
            "a b:1",
            "a/b:1",
        ] {
            assert!(text.parse::<AdminAddress>().unwrap_err().contains("HOST:PORT"), "{text}");
        }
        assert!("127.0.0.1:0".parse::<AdminAddress>().unwrap_err().contains("port 0"));
    }
}
