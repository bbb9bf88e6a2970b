//! The key by which a request is hashed or recognised. Reading it borrows from the request; only the value of
//! an expression is allocated.

use http::{HeaderMap, HeaderName};
use moongate_config::{Placed, Problem, Problems};
use moongate_expr::{Expression, ExpressionPhase, Facts};
use moongate_sdk::{ClientAddress, Request, cookie};
use std::net::IpAddr;

/// The parts of a request that selection may read.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The request line as it is sent to the backend.
    pub request: Request<'a>,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

impl<'a> RequestView<'a> {
    /// The facts that a key's expression may read; compiling rejects other ones.
    fn facts(&self) -> Facts<'a> {
        Facts { request: self.request, headers: self.headers, id: None, response: None }
    }
}

/// The part of a request that a balancer uses as key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// No part: the balancer ignores requests.
    #[default]
    Nothing,
    /// The client's address prefix.
    ClientIp,
    /// The first value of a header field.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(Box<str>),
    /// The raw value of a query parameter.
    Query(Box<str>),
    /// The path without the query.
    Path,
    /// The value of an expression.
    Computed(Expression),
}

/// The prefix of an expression.
const EXPRESSION: &str = "cel:";

impl KeySource {
    /// Parses `client_ip`, `path`, `header:NAME`, `cookie:NAME`, `query:NAME` or `cel:EXPRESSION`.
    ///
    /// # Errors
    /// An unknown key, an invalid name, and every problem of an expression.
    pub fn read_from(written: &Placed<String>) -> Result<Self, Problems> {
        if written.starts_with(EXPRESSION) {
            let part = EXPRESSION.len()..written.len();
            return Expression::value_in(written, part, ExpressionPhase::Key).map(Self::Computed);
        }
        Self::parse(written).map_err(|problem| problem.at(&written.place).into())
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let bad = || Problem::new(format!("unknown key `{text}`"));
        match text.split_once(':') {
            None if text == "client_ip" => Ok(Self::ClientIp),
            None if text == "path" => Ok(Self::Path),
            Some((_, "")) => Err(bad().help("a name is missing after the colon")),
            Some(("header", name)) => {
                let name = HeaderName::try_from(name).map_err(|_| bad().help("this is not a field name"))?;
                Ok(Self::Header(name))
            }
            Some(("cookie", name)) => Ok(Self::Cookie(name.into())),
            Some(("query", name)) => Ok(Self::Query(name.into())),
            _ => Err(bad()
                .suggest(text, ["client_ip", "path"])
                .help("known: client_ip, path, header:NAME, cookie:NAME, query:NAME, cel:EXPRESSION")),
        }
    }

    /// Reads the key of a request; an absent or empty value falls back to the client's address prefix.
    pub fn read<'a>(&self, request: &RequestView<'a>) -> Key<'a> {
        let found = match self {
            Self::Nothing => return Key::EMPTY,
            Self::ClientIp => None,
            Self::Header(name) => request.headers.get(name).map(http::HeaderValue::as_bytes),
            Self::Cookie(name) => cookie(request.headers, name),
            Self::Query(name) => request.request.query.and_then(|query| parameter(query, name)),
            Self::Path => Some(request.request.path.as_bytes()),
            Self::Computed(expression) => match expression.render(&request.facts()) {
                Ok(value) if !value.is_empty() => return Key(Part::Owned(value.into_bytes())),
                _ => None,
            },
        };
        match found.filter(|value| !value.is_empty()) {
            Some(value) => Key(Part::Bytes(value)),
            None => Key(Part::client(request.request.client_network)),
        }
    }
}

/// The key of one request.
#[derive(Clone, Debug)]
pub struct Key<'a>(Part<'a>);

impl Key<'_> {
    /// The key where requests are not read.
    pub const EMPTY: Self = Self(Part::Bytes(&[]));
}

#[derive(Clone, Debug)]
enum Part<'a> {
    Bytes(&'a [u8]),
    Owned(Vec<u8>),
    V4([u8; 4]),
    V6([u8; 16]),
    UnreadableClient(&'a str),
}

impl<'a> Part<'a> {
    fn client(client: ClientAddress<'a>) -> Self {
        match client {
            ClientAddress::Ip(IpAddr::V4(ip)) => Self::V4(ip.octets()),
            ClientAddress::Ip(IpAddr::V6(ip)) => Self::V6(ip.octets()),
            ClientAddress::Unreadable(text) => Self::UnreadableClient(text),
        }
    }
}

impl<'a> Key<'a> {
    /// The value of a cookie.
    pub(super) fn of_cookie(value: &'a [u8]) -> Self {
        Self(Part::Bytes(value))
    }

    /// Returns whether the key is the client's address prefix. A header field may have the same bytes as an
    /// address.
    pub fn is_client(&self) -> bool {
        matches!(self.0, Part::V4(_) | Part::V6(_) | Part::UnreadableClient(_))
    }

    /// The bytes of the key; empty for a balancer that ignores requests.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Part::Bytes(bytes) => bytes,
            Part::Owned(bytes) => bytes,
            Part::V4(ip) => ip,
            Part::V6(ip) => ip,
            Part::UnreadableClient(text) => text.as_bytes(),
        }
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a [u8]> {
    query.split('&').find_map(|pair| value_of(pair.as_bytes(), name))
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use http::Method;
    use http::header::COOKIE;
    use moongate_config::Place;

    fn key(source: &str, headers: &HeaderMap, query: Option<&str>) -> Vec<u8> {
        let request = Request { query, ..Request::internal(&Method::GET, "/room/1", [9, 8, 7, 6].into()) };
        let request = RequestView { request, headers };
        let written = Placed { value: source.to_owned(), place: Place::nowhere() };
        KeySource::read_from(&written).unwrap().read(&request).as_bytes().to_vec()
    }

    #[test]
    fn a_key_is_read_from_its_configured_source() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "ada".parse().unwrap());
        headers.append(COOKIE, "a=1; session=\"s 1\"".parse().unwrap());
        headers.append(COOKIE, "sess=no; other=2".parse().unwrap());
        assert_eq!(key("client_ip", &headers, None), [9, 8, 7, 6]);
        assert_eq!(key("header:X-User", &headers, None), b"ada");
        assert_eq!(key("cookie:session", &headers, None), b"s 1");
        assert_eq!(key("cookie:other", &headers, None), b"2");
        assert_eq!(key("query:room", &headers, Some("bedroom=1&room=7")), b"7");
        assert_eq!(key("path", &headers, None), b"/room/1");
        let tenant = "cel: request.path.split('/')[2] + '-' + request.headers['x-user']";
        assert_eq!(key(tenant, &headers, None), b"1-ada");
    }

    #[test]
    fn an_absent_or_empty_value_falls_back_to_the_client() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, "session=; =; ;;x".parse().unwrap());
        let computed = ["cel: request.params.room", "cel:string(int(request.query))"];
        for source in
            ["header:x-user", "cookie:session", "cookie:x", "query:room"].into_iter().chain(computed)
        {
            assert_eq!(key(source, &headers, Some("room&room=&&=")), [9, 8, 7, 6], "{source}");
        }
    }

    #[test]
    fn a_client_is_known_by_its_network_alone() {
        let headers = HeaderMap::new();
        let client_network = "2001:db8::".parse::<IpAddr>().unwrap();
        let request = Request::internal(&Method::GET, "/", "2001:db8::1".parse().unwrap());
        let view = RequestView {
            request: Request { client_network: client_network.into(), ..request },
            headers: &headers,
        };
        let key = KeySource::ClientIp.read(&view);
        assert!(key.is_client());
        assert_eq!(IpAddr::from(<[u8; 16]>::try_from(key.as_bytes()).unwrap()), client_network);
        assert!(!KeySource::Path.read(&view).is_client());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        for text in ["", "clientip", "header:", "header:a b", "cookie:", "body:x"] {
            assert!(KeySource::parse(text).is_err(), "{text}");
        }
        assert!(KeySource::parse("clientip").unwrap_err().label.unwrap().contains("client_ip"));
    }
}
