//! Texts with placeholders, as in `{client_ip}`: parsed with the configuration, filled in per request.

use crate::{Expression, ExpressionPhase};
use http::HeaderValue;
use moongate_config::{Placed, Problem};
use moongate_sdk::{Exchange, Response};
use std::io::Write;

/// A text with placeholders.
///
/// The placeholders are `{client_ip}`, `{host}`, `{method}`, `{path}`, `{query}` (without its `?`), `{request_id}`,
/// `{route}` and `{scheme}`. `{cel: …}` is the value of an [`Expression`]; `{{` and `}}` are literal braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Parts);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Parts {
    /// Without placeholders the value is built once and shared.
    Fixed(HeaderValue),
    Mixed(Box<[Part]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Fill(Placeholder),
    Computed(Expression),
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

/// The prefix of an expression, after its brace.
const EXPRESSION: &str = "cel:";

impl Template {
    /// Parses a template for a field value that is built before there is a response.
    ///
    /// # Errors
    /// An unknown placeholder, an expression that does not compile, an unmatched brace, and a byte that no field
    /// value may contain. A problem in an expression has its own column.
    pub fn parse(text: &Placed<String>) -> Result<Self, Problem> {
        Self::parse_for(text, ExpressionPhase::Request)
    }

    /// The same for a value that is built in another phase.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub fn parse_for(text: &Placed<String>, phase: ExpressionPhase) -> Result<Self, Problem> {
        let Ok(whole) = HeaderValue::from_bytes(text.as_bytes()) else {
            return Err(Problem::new("a field value cannot contain a control character").at(&text.place));
        };
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if from.starts_with("{{") || from.starts_with("}}") {
                plain.push_str(&from[..1]);
                rest = &from[2..];
                continue;
            }
            let start = text.len() - from.len() + 1;
            let part = placeholder(text, start, phase).map_err(|problem| problem.at(&text.place))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(part.0);
            rest = &text[part.1..];
        }
        plain.push_str(rest);
        if parts.is_empty() {
            // Only `{{` and `}}` can have shortened it, and both leave a valid value.
            return Ok(Self(Parts::Fixed(HeaderValue::from_bytes(plain.as_bytes()).unwrap_or(whole))));
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self(Parts::Mixed(parts.into())))
    }

    /// The text for this request; `None` if an inserted value is not allowed in a field value, or cannot be
    /// computed.
    pub fn fill(&self, exchange: &mut Exchange<'_>) -> Option<HeaderValue> {
        self.fill_with(exchange, None)
    }

    /// The same for a request and its response.
    pub fn fill_with_response(
        &self,
        exchange: &mut Exchange<'_>,
        response: &Response<'_>,
    ) -> Option<HeaderValue> {
        self.fill_with(exchange, Some(response))
    }

    fn fill_with(&self, exchange: &mut Exchange<'_>, response: Option<&Response<'_>>) -> Option<HeaderValue> {
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
                Part::Fill(placeholder) => placeholder.write(&mut text, exchange)?,
                Part::Computed(expression) => {
                    let value = expression.render(&expression.facts(exchange, response)).ok()?;
                    text.extend_from_slice(value.as_bytes());
                }
            }
        }
        HeaderValue::from_bytes(&text).ok()
    }
}

impl Placeholder {
    fn write(self, text: &mut Vec<u8>, exchange: &mut Exchange<'_>) -> Option<()> {
        match self {
            Self::ClientIp => write!(text, "{}", exchange.request.client).ok()?,
            Self::Host => text.extend_from_slice(exchange.request.host.as_bytes()),
            Self::Method => text.extend_from_slice(exchange.method().as_str().as_bytes()),
            Self::Path => text.extend_from_slice(exchange.path().as_bytes()),
            Self::Query => text.extend_from_slice(exchange.query().unwrap_or_default().as_bytes()),
            Self::RequestId => text.extend_from_slice(exchange.request_id().as_bytes()),
            Self::Route => text.extend_from_slice(exchange.request.route.as_bytes()),
            Self::Scheme => text.extend_from_slice(exchange.request.scheme.as_bytes()),
        }
        Some(())
    }
}

/// The content between braces, and the offset after them. `start` is after the opening brace, or after an unmatched
/// closing one.
fn placeholder(
    text: &Placed<String>,
    start: usize,
    phase: ExpressionPhase,
) -> Result<(Part, usize), Problem> {
    let (brace, inside) = (&text[start - 1..start], &text[start..]);
    if brace == "}" {
        return Err(lone_brace(brace));
    }
    if let Some(source) = inside.strip_prefix(EXPRESSION) {
        let end = closing(source).ok_or_else(|| Problem::new("the expression has no closing `}`"))?;
        let part = start + EXPRESSION.len()..start + EXPRESSION.len() + end;
        let next = part.end + 1;
        let expression = Expression::value_in(text, part, phase).map_err(|problems| {
            problems.0.into_iter().next().unwrap_or_else(|| Problem::new("the expression cannot be parsed"))
        })?;
        return Ok((Part::Computed(expression), next));
    }
    let end = inside.find('}').ok_or_else(|| lone_brace(brace))?;
    Ok((Part::Fill(placeholder_named(&inside[..end])?), start + end + 1))
}

/// The brace that ends an expression: not one inside a text or a map.
fn closing(source: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut characters = source.char_indices();
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (Some(_), '\\') => {
                characters.next();
            }
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(at),
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn lone_brace(brace: &str) -> Problem {
    Problem::new(format!("unmatched `{brace}`")).help(format!("write `{brace}{brace}` for a literal brace"))
}

fn placeholder_named(name: &str) -> Result<Placeholder, Problem> {
    let known = PLACEHOLDERS.map(|(name, _)| name);
    PLACEHOLDERS.iter().find(|(known, _)| *known == name).map(|(_, placeholder)| *placeholder).ok_or_else(
        || {
            Problem::new(format!("unknown placeholder `{{{name}}}`"))
                .suggest(name, known)
                .help(format!("known: {}, and `{{cel: …}}` for an expression", known.join(", ")))
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use moongate_config::Place;
    use moongate_sdk::testing::TestExchange;
    use std::net::{IpAddr, Ipv6Addr};

    fn parse(text: &str) -> Result<Template, Problem> {
        Template::parse(&Placed { value: text.to_owned(), place: Place::nowhere() })
    }

    fn fill(template: &str) -> String {
        let mut visit = TestExchange::new("/a?b=c");
        visit.client = IpAddr::V6(Ipv6Addr::LOCALHOST);
        visit.running.set_request_id(HeaderValue::from_static("id"));
        let value = visit.with_exchange(|exchange| parse(template).unwrap().fill(exchange)).unwrap();
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
    fn an_expression_is_computed() {
        assert_eq!(fill("{cel: request.method + '}' + request.path}-{{x}}"), "GET}/a-{x}");
        assert_eq!(fill("{cel:{'a': \"1{\"}['a']}{route}"), "1{web");
        let broken = parse("{cel: string(1 / (1 - 1))}").unwrap();
        assert_eq!(TestExchange::new("/").with_exchange(|exchange| broken.fill(exchange)), None);
        let place = Place { column: 5, width: 25, ..Place::nowhere() };
        let text =
            Placed { value: "a {cel: request.pth} {host}".to_owned(), place: Place { width: 27, ..place } };
        let problem = Template::parse_for(&text, ExpressionPhase::Request).unwrap_err();
        assert_eq!(problem.message, "unknown member of `request` `pth`");
        assert_eq!(problem.place.unwrap().column, 5 + 16);
    }

    #[test]
    fn a_value_from_a_response_needs_a_response() {
        let text = |value: &str| Placed { value: value.to_owned(), place: Place::nowhere() };
        assert!(parse("{cel: response.status}").is_err());
        let template =
            Template::parse_for(&text("{cel: response.status + 1}"), ExpressionPhase::Response).unwrap();
        let mut fields = http::HeaderMap::new();
        let headers = moongate_sdk::Headers::response(&mut fields);
        let response = Response { status: http::StatusCode::OK, headers, endpoint: None };
        let value =
            TestExchange::new("/").with_exchange(|exchange| template.fill_with_response(exchange, &response));
        assert_eq!(value.unwrap(), "201");
    }

    #[test]
    fn an_unknown_placeholder_is_a_problem() {
        let problem = parse("{client_up}").unwrap_err();
        assert_eq!(problem.message, "unknown placeholder `{client_up}`");
        assert_eq!(problem.label.as_deref(), Some("did you mean `client_ip`?"));
        for text in ["{host", "host}", "{}", "a\nb", "a\0", "{cel: 'a}", "{cel:}", "{cel: {}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
