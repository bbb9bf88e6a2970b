//! Claims about what a browser is told.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use super::*;
use moongate_sdk::Verdict;
use moongate_sdk::testing::{TestExchange, settings};
use serde_json::{Value, json};

fn plugin(written: Value) -> Result<Box<dyn Plugin>, Problems> {
    build(&settings(written))
}

fn preflight(written: Value, origin: &str) -> Reply {
    let mut visit = TestExchange::new("/").field("origin", origin);
    visit.method = Method::OPTIONS;
    let asked = visit.field("access-control-request-method", "PUT");
    asked.field("access-control-request-headers", "x-a, x-b").refused(&*plugin(written).unwrap())
}

fn said<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

/// The fields of an answer to a plain request.
fn answer(written: Value, origin: Option<&str>, backend: &[(&'static str, &'static str)]) -> HeaderMap {
    let plugin = plugin(written).unwrap();
    let visit = TestExchange::new("/");
    let mut visit = match origin {
        Some(origin) => visit.field("origin", origin),
        None => visit,
    };
    for (name, value) in backend {
        visit.response.append(*name, HeaderValue::from_static(value));
    }
    assert!(matches!(visit.ask(&*plugin), Verdict::Continue));
    visit.answer(&*plugin);
    visit.response
}

#[test]
fn a_preflight_is_answered_for_those_on_the_list() {
    let written = json!({ "origins": ["https://*.example"], "max_age": "10m", "allow_credentials": true });
    let reply = preflight(written.clone(), "https://a.example");
    assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
    let one = |name| said(&reply.headers, name);
    assert_eq!(one("access-control-allow-origin"), ["https://a.example"]);
    assert_eq!(one("access-control-allow-methods"), ["GET, HEAD, POST, PUT, PATCH, DELETE"]);
    assert_eq!(one("access-control-allow-headers"), ["x-a, x-b"]);
    assert_eq!(one("access-control-allow-credentials"), ["true"]);
    assert_eq!(one("access-control-max-age"), ["600"]);
    assert!(one("vary")[0].starts_with("Origin, "));
    let refused = preflight(written, "https://evil.org");
    assert_eq!(refused.status, 403);
    assert!(said(&refused.headers, "access-control-allow-origin").is_empty());
}

#[test]
fn listed_methods_and_fields_are_what_is_allowed() {
    let reply = preflight(json!({ "origins": ["*"], "methods": ["PUT"], "headers": ["X-A"] }), "https://a");
    assert_eq!(said(&reply.headers, "access-control-allow-origin"), ["*"]);
    assert_eq!(said(&reply.headers, "access-control-allow-methods"), ["PUT"]);
    assert_eq!(said(&reply.headers, "access-control-allow-headers"), ["X-A"]);
    assert!(said(&reply.headers, "access-control-max-age").is_empty());
}

#[test]
fn only_a_preflight_is_answered_here() {
    let plugin = plugin(json!({ "origins": ["*"] })).unwrap();
    let visit =
        || TestExchange::new("/").field("origin", "https://a").field("access-control-request-method", "PUT");
    assert!(matches!(visit().ask(&*plugin), Verdict::Continue), "a GET is none");
    let mut options = TestExchange::new("/").field("origin", "https://a");
    options.method = Method::OPTIONS;
    assert!(matches!(options.ask(&*plugin), Verdict::Continue), "OPTIONS alone is none");
}

#[test]
fn an_answer_names_its_reader_and_varies() {
    let written = json!({ "origins": ["https://a.example"], "expose_headers": ["X-Total", "X-Page"] });
    let fields = answer(written.clone(), Some("https://a.example"), &[("vary", "accept, Cookie")]);
    assert_eq!(said(&fields, "access-control-allow-origin"), ["https://a.example"]);
    assert_eq!(said(&fields, "access-control-expose-headers"), ["X-Total, X-Page"]);
    assert_eq!(said(&fields, "vary"), ["accept, Cookie", "origin"]);
    // A cache must not give the answer for one origin, or for none, to another.
    for other in [Some("https://b.example"), None] {
        let fields = answer(written.clone(), other, &[("vary", "Origin")]);
        assert!(said(&fields, "access-control-allow-origin").is_empty());
        assert_eq!(said(&fields, "vary"), ["Origin"]);
    }
    let fields = answer(json!({ "origins": ["*"] }), Some("https://b.example"), &[]);
    assert_eq!(said(&fields, "access-control-allow-origin"), ["*"]);
    assert!(said(&fields, "vary").is_empty());
}

#[test]
fn the_backends_own_fields_are_replaced() {
    let own = [("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true")];
    let written = json!({ "origins": ["https://a.example"] });
    let fields = answer(written.clone(), Some("https://a.example"), &own);
    assert_eq!(said(&fields, "access-control-allow-origin"), ["https://a.example"]);
    assert!(said(&fields, "access-control-allow-credentials").is_empty());
    let fields = answer(written, Some("https://evil.org"), &own);
    assert!(said(&fields, "access-control-allow-origin").is_empty());
}

#[test]
fn two_origins_are_none() {
    let plugin = plugin(json!({ "origins": ["https://a"] })).unwrap();
    let mut visit = TestExchange::new("/").field("origin", "https://a").field("origin", "https://b");
    visit.answer(&*plugin);
    assert!(said(&visit.response, "access-control-allow-origin").is_empty());
}

#[test]
fn what_a_browser_would_refuse_is_refused_before() {
    for (bad, message) in [
        (json!({}), "missing key `origins`"),
        (json!({ "origins": [] }), "`origins` is empty"),
        (
            json!({ "origins": ["*"], "allow_credentials": true }),
            "`*` in `origins` means nothing with credentials",
        ),
        (
            json!({ "origins": ["https://a"], "methods": ["*"], "allow_credentials": true }),
            "`*` in `methods` means nothing with credentials",
        ),
        (json!({ "origins": ["*"], "methods": ["patch"] }), "`patch` is not in upper case"),
        (json!({ "origins": ["*"], "methods": ["A B"] }), "`A B` is no method"),
        (json!({ "origins": ["*"], "headers": ["a b"] }), "`a b` is not a field name"),
        (json!({ "origins": ["example.com"] }), "`example.com` is no origin"),
    ] {
        assert_eq!(plugin(bad).err().unwrap().0[0].message, message);
    }
}
