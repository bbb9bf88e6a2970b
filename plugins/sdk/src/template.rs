//! Texts with placeholders, as in `{client_ip}`: parsed when the configuration is built, filled in per request.

use crate::{Exchange, Problem};
use http::HeaderValue;
use std::io::Write;

/// A text with placeholders.
///
/// `{client_ip}`, `{host}`, `{method}`, `{path}`, `{query}` (without its `?`), `{request_id}`, `{route}` and
/// `{scheme}` are filled in; `{{` and `}}` stand for single braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Parts);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Parts {
    /// Without placeholders a value is made once and shared.
    Fixed(HeaderValue),
    Mixed(Box<[Part]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Fill(Placeholder),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    ClientIp,
    Host,
    Method,
    Path,
    Query,
    RequestId,
    Route,
    Scheme,
}

const PLACEHOLDERS: [(&str, Placeholder); 8] = [
    ("client_ip", Placeholder::ClientIp),
    ("host", Placeholder::Host),
    ("method", Placeholder::Method),
    ("path", Placeholder::Path),
    ("query", Placeholder::Query),
    ("request_id", Placeholder::RequestId),
    ("route", Placeholder::Route),
    ("scheme", Placeholder::Scheme),
];

impl Template {
    /// Reads a template for a field's value.
    ///
    /// # Errors
    /// An unknown placeholder, a brace without its other one, and a byte that no field value may have.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let Ok(whole) = HeaderValue::from_bytes(text.as_bytes()) else {
            return Err(Problem::new("a control character cannot stand in a field's value"));
        };
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if from.starts_with("{{") || from.starts_with("}}") {
                plain.push_str(&from[..1]);
                rest = &from[2..];
                continue;
            }
            let name = from.strip_prefix('{').and_then(|from| from.split_once('}'));
            let Some((name, behind)) = name else { return Err(lone_brace(&from[..1])) };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Fill(placeholder(name)?));
            rest = behind;
        }
        plain.push_str(rest);
        if parts.is_empty() {
            // Only `{{` and `}}` can have made it shorter, and they leave a valid value.
            return Ok(Self(Parts::Fixed(HeaderValue::from_bytes(plain.as_bytes()).unwrap_or(whole))));
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self(Parts::Mixed(parts.into())))
    }

    /// The text for this request; `None` when something filled in may not stand in a field's value.
    pub fn fill(&self, exchange: &mut Exchange<'_>) -> Option<HeaderValue> {
        let parts = match &self.0 {
            Parts::Fixed(value) => return Some(value.clone()),
            Parts::Mixed(parts) => parts,
        };
        if let [Part::Fill(Placeholder::RequestId)] = **parts {
            return Some(exchange.request_id().clone());
        }
        let mut text = Vec::with_capacity(64);
        for part in parts {
            match part {
                Part::Text(plain) => text.extend_from_slice(plain.as_bytes()),
                Part::Fill(Placeholder::ClientIp) => write!(text, "{}", exchange.request.client).ok()?,
                Part::Fill(Placeholder::Host) => text.extend_from_slice(exchange.request.host.as_bytes()),
                Part::Fill(Placeholder::Method) => {
                    text.extend_from_slice(exchange.method().as_str().as_bytes());
                }
                Part::Fill(Placeholder::Path) => text.extend_from_slice(exchange.path().as_bytes()),
                Part::Fill(Placeholder::Query) => {
                    text.extend_from_slice(exchange.query().unwrap_or_default().as_bytes());
                }
                Part::Fill(Placeholder::RequestId) => {
                    text.extend_from_slice(exchange.request_id().as_bytes());
                }
                Part::Fill(Placeholder::Route) => text.extend_from_slice(exchange.request.route.as_bytes()),
                Part::Fill(Placeholder::Scheme) => text.extend_from_slice(exchange.request.scheme.as_bytes()),
            }
        }
        HeaderValue::from_bytes(&text).ok()
    }
}

fn lone_brace(brace: &str) -> Problem {
    Problem::new(format!("a `{brace}` stands alone")).help(format!("write `{brace}{brace}` for a single one"))
}

fn placeholder(name: &str) -> Result<Placeholder, Problem> {
    let known = PLACEHOLDERS.map(|(name, _)| name);
    PLACEHOLDERS.iter().find(|(known, _)| *known == name).map(|(_, placeholder)| *placeholder).ok_or_else(
        || {
            Problem::new(format!("unknown placeholder `{{{name}}}`"))
                .suggest(name, known)
                .help(format!("known: {}", known.join(", ")))
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::testing::Visit;
    use std::net::{IpAddr, Ipv6Addr};

    fn fill(template: &str) -> String {
        let mut visit = Visit::new("/a?b=c");
        visit.client = IpAddr::V6(Ipv6Addr::LOCALHOST);
        visit.running.set_request_id(HeaderValue::from_static("id"));
        let value = visit.see(|exchange| Template::parse(template).unwrap().fill(exchange)).unwrap();
        value.to_str().unwrap().to_owned()
    }

    #[test]
    fn placeholders_are_filled_in() {
        assert_eq!(fill("{method} {host}{path} from {client_ip}"), "GET example.com/a from ::1");
        assert_eq!(fill("{scheme}://{host}{path}?{query}"), "http://example.com/a?b=c");
        assert_eq!(fill("{request_id}"), "id");
        assert_eq!(fill("{{{route}-{request_id}}}"), "{web-id}");
        assert_eq!(fill("{{plain}} text"), "{plain} text");
        assert_eq!(fill(""), "");
    }

    #[test]
    fn what_cannot_be_filled_in_is_a_problem() {
        let problem = Template::parse("{client_up}").unwrap_err();
        assert_eq!(problem.message, "unknown placeholder `{client_up}`");
        assert_eq!(problem.label.as_deref(), Some("did you mean `client_ip`?"));
        for text in ["{host", "host}", "{}", "a\nb", "a\0"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
