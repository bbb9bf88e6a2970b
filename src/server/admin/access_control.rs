//! Access control of the admin address: the token, the sessions of browsers, and rejected browser requests.
//!
//! On loopback without a token, the risk is the administrator's own browser rather than the network. Any page
//! may send requests to 127.0.0.1, and by DNS rebinding even read the responses. So a foreign `Host` is
//! rejected, and so is a change requested by another site.

use super::browser_session::{BrowserSessions, NewSession, digest};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use std::net::{IpAddr, SocketAddr};
use subtle::ConstantTimeEq;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessError {
    /// The token is missing or wrong.
    Token,
    /// `Host` is neither an IP address nor localhost.
    Host,
    /// A browser sent it for another site.
    CrossSite,
}

/// The requirements for a request.
pub(super) struct Access {
    /// A digest, so that a comparison takes the same time for tokens of any length.
    token: Option<[u8; 32]>,
    sessions: BrowserSessions,
}

impl Access {
    /// The requirements of the address with this port.
    pub(super) fn new(token: Option<&str>, port: u16) -> Self {
        Self { token: token.map(|token| digest(token.as_bytes())), sessions: BrowserSessions::new(port) }
    }

    /// Returns whether a token is configured.
    pub(super) fn wants_token(&self) -> bool {
        self.token.is_some()
    }

    /// Checks the fields of a request.
    pub(super) fn check(&self, fields: &HeaderMap) -> Result<(), AccessError> {
        match &self.token {
            Some(_) => match bearer(fields) {
                Some(shown) if self.is_token(shown) => Ok(()),
                None if self.sessions.admits(fields) => Ok(()),
                _ => Err(AccessError::Token),
            },
            None => Self::check_host(fields),
        }
    }

    /// Rejects names that DNS rebinding can produce. With a token, a rebound name is another origin, which has no
    /// session.
    fn check_host(fields: &HeaderMap) -> Result<(), AccessError> {
        // A browser always sends a Host, so a request without one is not from a browser.
        match fields.get(HOST).map(|host| host.to_str().unwrap_or_default()) {
            Some(host) if !is_local(host) => Err(AccessError::Host),
            _ => Ok(()),
        }
    }

    /// Checks a request for the page or a sign-in, which need no token.
    pub(super) fn check_public(&self, fields: &HeaderMap) -> Result<(), AccessError> {
        if self.wants_token() { Ok(()) } else { Self::check_host(fields) }
    }

    /// Begins a session for a browser with this token; `None` if it is wrong.
    pub(super) fn sign_in(&self, token: &[u8]) -> Option<Result<NewSession, getrandom::Error>> {
        self.is_token(token).then(|| self.sessions.begin())
    }

    /// Ends the session of a request. Returns the `Set-Cookie` that removes its cookie.
    pub(super) fn sign_out(&self, fields: &HeaderMap) -> String {
        self.sessions.end(fields)
    }

    fn is_token(&self, shown: &[u8]) -> bool {
        self.token.is_some_and(|token| token[..].ct_eq(&digest(shown)).into())
    }
}

/// Rejects requests that a browser sends for another site.
pub(super) fn same_site(fields: &HeaderMap) -> Result<(), AccessError> {
    let foreign_fetch =
        fields.get(SEC_FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none");
    let foreign_origin = fields.get(ORIGIN).is_some_and(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_none() || authority != fields.get(HOST).and_then(|host| host.to_str().ok())
    });
    if foreign_fetch || foreign_origin { Err(AccessError::CrossSite) } else { Ok(()) }
}

fn bearer(fields: &HeaderMap) -> Option<&[u8]> {
    let mut all = fields.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = only.as_bytes().split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// An address or `localhost`, with or without a port: a `Host` that DNS rebinding cannot produce.
fn is_local(host: &str) -> bool {
    if host.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_right_token_opens() {
        let access = Access::new(Some("secret"), 9901);
        for shown in ["Bearer secret", "bearer secret", "BEARER  secret "] {
            assert_eq!(access.check(&fields(&[("authorization", shown)])), Ok(()), "{shown}");
        }
        for shown in ["", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Basic secret", "secret"] {
            assert_eq!(
                access.check(&fields(&[("authorization", shown)])),
                Err(AccessError::Token),
                "{shown}"
            );
        }
        assert_eq!(access.check(&fields(&[])), Err(AccessError::Token));
        let twice = fields(&[("authorization", "Bearer secret"), ("authorization", "Bearer other")]);
        assert_eq!(access.check(&twice), Err(AccessError::Token));
    }

    #[test]
    fn without_a_token_a_rebound_name_is_refused() {
        let access = Access::new(None, 9901);
        for host in
            ["127.0.0.1:9901", "127.0.0.1", "[::1]:9901", "[::1]", "localhost", "LOCALHOST:1", "192.0.2.1:1"]
        {
            assert_eq!(access.check(&fields(&[("host", host)])), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9901",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "",
            "[::1",
            ":80",
        ] {
            assert_eq!(access.check(&fields(&[("host", host)])), Err(AccessError::Host), "{host}");
        }
    }

    #[test]
    fn a_reload_for_another_site_is_refused() {
        let host = ("host", "127.0.0.1:9901");
        for good in
            [vec![host], vec![host, ("origin", "http://127.0.0.1:9901"), ("sec-fetch-site", "same-origin")]]
        {
            assert_eq!(same_site(&fields(&good)), Ok(()));
        }
        for bad in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:8080"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(same_site(&fields(&[host, bad])), Err(AccessError::CrossSite), "{bad:?}");
        }
    }
}
