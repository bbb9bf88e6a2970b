//! What the plugins' tests share: settings without a file, and one request through a plugin.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use moongate_sdk::{
    Answer, Exchange, Flow, Headers, Key, Place, Plugin, Running, Settings, Value, ValueKind,
};
use std::net::{IpAddr, Ipv4Addr};

/// A plain scalar.
pub(crate) fn text(text: &str) -> Value {
    value(ValueKind::Scalar { text: text.to_owned(), quoted: false })
}

/// A list of scalars.
pub(crate) fn list(texts: &[&str]) -> Value {
    value(ValueKind::List(texts.iter().copied().map(text).collect()))
}

/// A mapping.
pub(crate) fn map(pairs: &[(&str, Value)]) -> Settings {
    let pair =
        |(key, value): &(&str, Value)| (Key { place: place(), text: (*key).to_owned() }, value.clone());
    Settings(value(ValueKind::Map(pairs.iter().map(pair).collect())))
}

fn value(kind: ValueKind) -> Value {
    Value { place: place(), kind }
}

fn place() -> Place {
    Place { file: "test.yaml".into(), line: 1, column: 1, width: 1, path: "".into() }
}

/// One request through one plugin: the fields that a backend and a client receive.
pub(crate) struct Trip {
    pub(crate) request: HeaderMap,
    pub(crate) response: HeaderMap,
}

impl Trip {
    pub(crate) fn of(plugin: &dyn Plugin, fields: &[(&str, &str)]) -> Self {
        let field = |(name, value): &(&str, &str)| -> (HeaderName, HeaderValue) {
            let name = HeaderName::from_bytes(name.as_bytes());
            (
                name.unwrap_or(http::header::WARNING),
                HeaderValue::from_bytes(value.as_bytes()).unwrap_or(0.into()),
            )
        };
        let mut request = HeaderMap::new();
        fields.iter().map(field).for_each(|(name, value)| {
            request.append(name, value);
        });
        let mut response = HeaderMap::new();
        let mut running = Running::default();
        let mut exchange = Exchange {
            method: &Method::GET,
            host: "example.com",
            path: "/a",
            query: None,
            headers: Headers::new(&mut request),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            route: "web",
            running: &mut running,
        };
        if plugin.phases().request_headers {
            assert!(matches!(plugin.request_headers(&mut exchange), Flow::Continue));
        }
        if plugin.phases().response_headers {
            let mut answer = Answer { status: StatusCode::OK, headers: Headers::new(&mut response) };
            plugin.response_headers(&mut exchange, &mut answer);
        }
        Self { request, response }
    }
}
