//! Tests of the CORS fields.

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
    asked.field("access-control-request-headers", "x-a, x-b").expect_reply(&*plugin(written).unwrap())
}

fn values<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

/// The fields of a response to a plain request.
fn response_fields(
    written: Value,
    origin: Option<&str>,
    backend: &[(&'static str, &'static str)],
) -> HeaderMap {
    let plugin = plugin(written).unwrap();
    let visit = TestExchange::new("/");
    let mut visit = match origin {
        Some(origin) => visit.field("origin", origin),
        None => visit,
    };
    for (name, value) in backend {
        visit.response.append(*name, HeaderValue::from_static(value));
    }
    assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
    visit.response_headers(&*plugin);
    visit.response
}

#[test]
fn a_preflight_from_a_listed_origin_gets_a_response() {
    let written = json!({ "origins": ["https://*.example"], "max_age": "10m", "allow_credentials": true });
    let reply = preflight(written.clone(), "https://a.example");
    assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
    let one = |name| values(&reply.headers, name);
    assert_eq!(one("access-control-allow-origin"), ["https://a.example"]);
    assert_eq!(one("access-control-allow-methods"), ["GET, HEAD, POST, PUT, PATCH, DELETE"]);
    assert_eq!(one("access-control-allow-headers"), ["x-a, x-b"]);
    assert_eq!(one("access-control-allow-credentials"), ["true"]);
    assert_eq!(one("access-control-max-age"), ["600"]);
    assert!(one("vary")[0].starts_with("Origin, "));
    let refused = preflight(written, "https://evil.org");
    assert_eq!(refused.status, 403);
    assert!(values(&refused.headers, "access-control-allow-origin").is_empty());
}

#[test]
fn only_listed_methods_and_fields_are_allowed() {
    let reply = preflight(json!({ "origins": ["*"], "methods": ["PUT"], "headers": ["X-A"] }), "https://a");
    assert_eq!(values(&reply.headers, "access-control-allow-origin"), ["*"]);
    assert_eq!(values(&reply.headers, "access-control-allow-methods"), ["PUT"]);
    assert_eq!(values(&reply.headers, "access-control-allow-headers"), ["X-A"]);
    assert!(values(&reply.headers, "access-control-max-age").is_empty());
}

#[test]
fn only_a_preflight_gets_a_response_here() {
    let plugin = plugin(json!({ "origins": ["*"] })).unwrap();
    let visit =
        || TestExchange::new("/").field("origin", "https://a").field("access-control-request-method", "PUT");
    assert!(matches!(visit().request_headers(&*plugin), Verdict::Continue), "a GET is not a preflight");
    let mut options = TestExchange::new("/").field("origin", "https://a");
    options.method = Method::OPTIONS;
    assert!(
        matches!(options.request_headers(&*plugin), Verdict::Continue),
        "OPTIONS alone is not a preflight"
    );
}

#[test]
fn a_response_names_its_origin_and_varies() {
    let written = json!({ "origins": ["https://a.example"], "expose_headers": ["X-Total", "X-Page"] });
    let fields = response_fields(written.clone(), Some("https://a.example"), &[("vary", "accept, Cookie")]);
    assert_eq!(values(&fields, "access-control-allow-origin"), ["https://a.example"]);
    assert_eq!(values(&fields, "access-control-expose-headers"), ["X-Total, X-Page"]);
    assert_eq!(values(&fields, "vary"), ["accept, Cookie", "origin"]);
    // A cache must not reuse the response for another origin, or for none.
    for other in [Some("https://b.example"), None] {
        let fields = response_fields(written.clone(), other, &[("vary", "Origin")]);
        assert!(values(&fields, "access-control-allow-origin").is_empty());
        assert_eq!(values(&fields, "vary"), ["Origin"]);
    }
    let fields = response_fields(json!({ "origins": ["*"] }), Some("https://b.example"), &[]);
    assert_eq!(values(&fields, "access-control-allow-origin"), ["*"]);
    assert!(values(&fields, "vary").is_empty());
}

#[test]
fn the_backends_own_fields_are_replaced() {
    let own = [("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true")];
    let written = json!({ "origins": ["https://a.example"] });
    let fields = response_fields(written.clone(), Some("https://a.example"), &own);
    assert_eq!(values(&fields, "access-control-allow-origin"), ["https://a.example"]);
    assert!(values(&fields, "access-control-allow-credentials").is_empty());
    let fields = response_fields(written, Some("https://evil.org"), &own);
    assert!(values(&fields, "access-control-allow-origin").is_empty());
}

#[test]
fn two_origins_count_as_none() {
    let plugin = plugin(json!({ "origins": ["https://a"] })).unwrap();
    let mut visit = TestExchange::new("/").field("origin", "https://a").field("origin", "https://b");
    visit.response_headers(&*plugin);
    assert!(values(&visit.response, "access-control-allow-origin").is_empty());
}

#[test]
fn settings_that_browsers_reject_are_refused() {
    for (bad, message) in [
        (json!({}), "missing key `origins`"),
        (json!({ "origins": [] }), "`origins` is empty"),
        (
            json!({ "origins": ["*"], "allow_credentials": true }),
            "`*` in `origins` has no effect with credentials",
        ),
        (
            json!({ "origins": ["https://a"], "methods": ["*"], "allow_credentials": true }),
            "`*` in `methods` has no effect with credentials",
        ),
        (json!({ "origins": ["*"], "methods": ["patch"] }), "`patch` is not in upper case"),
        (json!({ "origins": ["*"], "methods": ["A B"] }), "`A B` is not a method"),
        (json!({ "origins": ["*"], "headers": ["a b"] }), "`a b` is not a field name"),
        (json!({ "origins": ["example.com"] }), "`example.com` is not an origin"),
    ] {
        assert_eq!(plugin(bad).err().unwrap().0[0].message, message);
    }
}
