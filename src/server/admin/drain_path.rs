//! Path of an order for an endpoint: `/api/v1/upstreams/NAME/endpoints/ADDRESS/drain`, or `…/undrain`.
//!
//! Name and address are percent-encoded where necessary, and accepted literally otherwise. Only a slash in an
//! upstream's name would be ambiguous; the address of a Unix socket has slashes of its own.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// An endpoint of an upstream, and the order for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndpointPath {
    pub(super) upstream: String,
    pub(super) address: String,
    pub(super) verb: DrainCommand,
}

/// The last segment of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainCommand {
    /// POST drains, DELETE undrains.
    Drain,
    /// POST undrains.
    Undrain,
}

impl DrainCommand {
    /// The allowed methods.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Self::Drain => "POST, DELETE",
            Self::Undrain => "POST",
        }
    }
}

impl EndpointPath {
    /// Parses a path; `None` for other paths.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let (upstream, rest) = path.strip_prefix("/api/v1/upstreams/")?.split_once("/endpoints/")?;
        let (address, verb) = rest.rsplit_once('/')?;
        let verb = match verb {
            "drain" => DrainCommand::Drain,
            "undrain" => DrainCommand::Undrain,
            _ => return None,
        };
        let (upstream, address) = (decode(upstream)?, decode(address)?);
        (!upstream.is_empty() && !address.is_empty()).then_some(Self { upstream, address, verb })
    }
}

/// Percent-decodes (RFC 3986 §2.1); `None` for an invalid escape or invalid UTF-8.
fn decode(text: &str) -> Option<String> {
    // The decoder takes a broken escape for text; an order that is not understood must not reach an endpoint.
    let is_escape = |after: &[u8]| matches!(after, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
    let well_formed = text.as_bytes().split(|byte| *byte == b'%').skip(1).all(is_escape);
    well_formed.then(|| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn parsed(path: &str) -> Option<(String, String, DrainCommand)> {
        let path = EndpointPath::parse(&format!("/api/v1/upstreams/{path}"))?;
        Some((path.upstream, path.address, path.verb))
    }

    #[test]
    fn names_and_addresses_are_read_plain_and_encoded() {
        for (path, upstream, address) in [
            ("chat/endpoints/127.0.0.1:8081/drain", "chat", "127.0.0.1:8081"),
            ("chat/endpoints/127.0.0.1%3A8081/drain", "chat", "127.0.0.1:8081"),
            ("routes%5B0%5D/endpoints/%5B::1%5D:80/drain", "routes[0]", "[::1]:80"),
            ("routes[0]/endpoints/[::1]:80/drain", "routes[0]", "[::1]:80"),
            ("a%2fb/endpoints/unix:%2Frun%2Fapp.sock/drain", "a/b", "unix:/run/app.sock"),
            ("a/endpoints/unix:/run/app.sock/drain", "a", "unix:/run/app.sock"),
        ] {
            assert_eq!(
                parsed(path),
                Some((upstream.to_owned(), address.to_owned(), DrainCommand::Drain)),
                "{path}"
            );
        }
        assert_eq!(parsed("a/endpoints/b/undrain").unwrap().2, DrainCommand::Undrain);
    }

    #[test]
    fn other_paths_are_none_of_it() {
        for path in [
            "",
            "chat",
            "chat/endpoints/127.0.0.1:8081",
            "chat/endpoints/127.0.0.1:8081/",
            "chat/endpoints/127.0.0.1:8081/drains",
            "chat/endpoints//drain",
            "/endpoints/a/drain",
            "chat/endpoints/%/drain",
            "chat/endpoints/%4/drain",
            "chat/endpoints/%zz/drain",
            "chat/endpoints/%ff/drain",
        ] {
            assert_eq!(parsed(path), None, "{path}");
        }
    }
}
