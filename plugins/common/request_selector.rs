//! Selectors of a part of a request: `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME`. A key may also be an
//! expression.

use http::HeaderName;
use http::header::COOKIE;
use moongate_config::{Placed, Problem, Problems};
use moongate_expr::{Expression, ExpressionPhase};
use moongate_sdk::{Exchange, cookie, cookie_in};
use std::borrow::Cow;

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The client's network.
    ClientIp,
    /// The first value of a field.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(Box<str>),
    /// The raw value of a query parameter.
    Query(Box<str>),
}

/// The key of a request: a part of it, or the value of an expression.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    /// A part.
    Part(Part),
    /// An expression, written `cel:EXPRESSION`.
    Computed(Expression),
}

impl Key {
    /// Parses a key.
    ///
    /// # Errors
    /// Problems with their places.
    pub(crate) fn parse(written: &Placed<String>) -> Result<Self, Problems> {
        if !written.starts_with("cel:") {
            return Part::parse(written).map(Self::Part).map_err(|mut problem| {
                problem.help.push("or cel:EXPRESSION".to_owned());
                problem.into()
            });
        }
        Expression::value_in(written, 4..written.len(), ExpressionPhase::Request).map(Self::Computed)
    }
}

impl Part {
    /// Parses a selector.
    ///
    /// # Errors
    /// A problem with its place.
    pub(crate) fn parse(written: &Placed<String>) -> Result<Self, Problem> {
        let text = written.value.as_str();
        let bad = || Problem::new(format!("`{text}` does not name a part of a request")).at(&written.place);
        match text.split_once(':') {
            None if text == "client_ip" => Ok(Self::ClientIp),
            Some((_, "")) => Err(bad().help("a name is missing after the colon")),
            Some(("header", name)) => HeaderName::try_from(name)
                .map(Self::Header)
                .map_err(|_| bad().help("this is not a field name")),
            Some(("cookie", name)) => Ok(Self::Cookie(name.into())),
            Some(("query", name)) => Ok(Self::Query(name.into())),
            _ => Err(bad().help("known: client_ip, header:NAME, cookie:NAME, query:NAME")),
        }
    }

    /// The same for a credential, which may have been withdrawn: see [`Exchange::credentials`].
    pub(crate) fn read_credential<'e>(&'e self, exchange: &'e Exchange<'_>) -> Option<Cow<'e, [u8]>> {
        let found = match self {
            Self::Header(name) => exchange.credentials(name).next()?.as_bytes(),
            Self::Cookie(name) => cookie_in(exchange.credentials(&COOKIE), name)?,
            Self::ClientIp | Self::Query(_) => return self.read(exchange),
        };
        (!found.is_empty()).then_some(found.into())
    }

    /// The bytes of the part; `None` if it is absent or empty.
    pub(crate) fn read<'e>(&self, exchange: &'e Exchange<'_>) -> Option<Cow<'e, [u8]>> {
        let found: &[u8] = match self {
            Self::ClientIp => return Some(exchange.request.client_network.to_string().into_bytes().into()),
            Self::Header(name) => exchange.headers.get(name)?.as_bytes(),
            Self::Cookie(name) => cookie(&exchange.headers, name)?,
            Self::Query(name) => parameter(exchange.request.query?, name)?.as_bytes(),
        };
        (!found.is_empty()).then_some(found.into())
    }
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::Place;
    use moongate_sdk::testing::TestExchange;

    fn part(text: &str) -> Result<Part, Problem> {
        Part::parse(&Placed { value: text.to_owned(), place: Place::nowhere() })
    }

    #[test]
    fn every_part_is_found() {
        let visit = TestExchange::new("/?tok=q&token=q2&empty=").field("x-key", "h");
        let mut visit = visit.field("cookie", "other=1; token2=x").field("cookie", "token=\"c\";d=4");
        visit.with_exchange(|exchange| {
            let read = |text| {
                part(text).unwrap().read(exchange).map(|found| String::from_utf8_lossy(&found).into_owned())
            };
            assert_eq!(read("client_ip").as_deref(), Some("127.0.0.1"));
            assert_eq!(read("header:X-Key").as_deref(), Some("h"));
            assert_eq!(read("cookie:token").as_deref(), Some("c"));
            assert_eq!(read("query:token").as_deref(), Some("q2"));
            for absent in ["header:x-other", "cookie:tok", "query:empty", "query:none"] {
                assert_eq!(read(absent), None, "{absent}");
            }
        });
    }

    #[test]
    fn an_unknown_selector_is_refused_with_advice() {
        for text in ["", "ip", "header:", "header:a b", "body:x", "cookie"] {
            assert!(!part(text).unwrap_err().help.is_empty(), "{text}");
        }
    }
}
