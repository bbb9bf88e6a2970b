//! Tests of the call to the service, and of the effects of its response.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use http::StatusCode;
use moongate_sdk::testing::{TestExchange, settings};
use moongate_sdk::{CallFuture, Services};
use serde_json::json;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

/// A service with a fixed response, which records its requests.
struct Service {
    response: Result<CallResponse, CallError>,
    asked: Mutex<Vec<Call>>,
}

impl Services for Service {
    fn call(&self, call: Call) -> CallFuture {
        self.asked.lock().unwrap().push(call);
        Box::pin(std::future::ready(self.response.clone()))
    }
    fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}
    fn has_upstream(&self, _: &str) -> bool {
        true
    }
}

fn service(status: u16, fields: &[(&'static str, &'static str)], body: &'static str) -> Arc<Service> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let response =
        CallResponse { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::from(body) };
    Arc::new(Service { response: Ok(response), asked: Mutex::default() })
}

fn plugin(written: serde_json::Value) -> Box<dyn Plugin> {
    build(&settings(written)).unwrap()
}

fn visit(service: &Arc<Service>) -> TestExchange {
    let mut visit =
        TestExchange::new("/a/b?c=d").field("host", "example.com:8080").field("authorization", "Bearer x");
    visit = visit.field("x-user", "root").field("cookie", "a=b").field("content-length", "10");
    visit = visit
        .field("x-forwarded-for", "6.6.6.6")
        .field("x-forwarded-proto", "https")
        .field("if-none-match", "*");
    visit.services = service.clone();
    visit
}

#[test]
fn the_service_gets_the_head_with_the_gateways_facts() {
    let service = service(200, &[], "");
    let plugin = plugin(json!({ "upstream": "auth", "path": "/check?x" }));
    assert!(matches!(visit(&service).request_headers(&*plugin), Verdict::Continue));
    let asked = service.asked.lock().unwrap();
    let call = &asked[0];
    assert_eq!((&call.to, &*call.target), (&CallTarget::Upstream("auth".into()), "/check?x"));
    assert!(call.method == Method::GET && call.body.is_empty());
    for (field, value) in [
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "example.com:8080"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-uri", "/a/b?c=d"),
    ] {
        assert_eq!(call.headers[field], value);
        assert_eq!(call.headers.get_all(field).iter().count(), 1, "{field}");
    }
    for absent in ["host", "content-length", "if-none-match"] {
        assert!(!call.headers.contains_key(absent), "{absent}");
    }
}

#[test]
fn only_listed_fields_are_sent() {
    let service = service(204, &[], "");
    let plugin = plugin(
        json!({ "url": "https://auth.example/check", "request_headers": ["Cookie"], "method": "POST" }),
    );
    visit(&service).request_headers(&*plugin);
    let asked = service.asked.lock().unwrap();
    assert_eq!(asked[0].headers.len(), 1 + X_FORWARDED.len());
    assert_eq!(
        (&asked[0].headers["cookie"], &asked[0].method),
        (&HeaderValue::from_static("a=b"), &Method::POST)
    );
}

#[test]
fn a_2xx_copies_its_fields_to_the_backend_and_the_client() {
    let fields = [("x-user", "ada"), ("x-other", "1"), ("set-cookie", "s=1"), ("set-cookie", "t=2")];
    let service = service(200, &fields, "ignored");
    let plugin = plugin(json!({
        "upstream": "auth", "response_headers": ["X-User", "X-Email"], "client_headers": ["Set-Cookie"],
    }));
    let mut visit = visit(&service).field("x-email", "forged@example.com");
    assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
    assert_eq!(visit.request["x-user"], "ada");
    assert!(!visit.request.contains_key("x-email") && !visit.request.contains_key("x-other"));
    visit.response_headers(&*plugin);
    let cookies: Vec<_> = visit.response.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["s=1", "t=2"]);
}

#[test]
fn a_refusal_is_forwarded_to_the_client() {
    let fields =
        [("location", "/login"), ("set-cookie", "s=1"), ("connection", "close"), ("content-length", "2")];
    let service = service(302, &fields, "no");
    let plugin = plugin(json!({ "upstream": "auth" }));
    let mut visit = visit(&service);
    let reply = visit.expect_reply(&*plugin);
    assert_eq!(
        (reply.status.as_u16(), &reply.body[..], &reply.headers["location"]),
        (302, &b"no"[..], &HeaderValue::from_static("/login"))
    );
    assert!(!reply.headers.contains_key("connection") && !reply.headers.contains_key("content-length"));
    assert_eq!(visit.running.notes()[0].value, "302");
}

#[test]
fn a_service_that_does_not_respond_is_a_fault() {
    for error in [CallError::Unknown, CallError::Unreachable, CallError::TimedOut, CallError::Bad] {
        let service = Arc::new(Service { response: Err(error), asked: Mutex::default() });
        let plugin = plugin(json!({ "upstream": "auth", "response_headers": ["X-User"] }));
        let mut visit = visit(&service).field("x-user", "root");
        assert!(matches!(visit.request_headers(&*plugin), Verdict::Failed(_)), "{error}");
        assert!(!visit.request.contains_key("x-user"), "with `on_error: open` a backend would believe it");
    }
}

#[test]
fn a_recheck_of_zero_is_none() {
    assert_eq!(plugin(json!({ "upstream": "auth", "recheck": "0s" })).phases().recheck, None);
}

#[test]
fn a_living_websocket_is_asked_about_with_the_fields_of_its_handshake() {
    let service = service(200, &[], "");
    let plugin = plugin(json!({ "upstream": "auth", "recheck": "5m" }));
    assert_eq!(plugin.phases().recheck, Some(Duration::from_secs(300)));
    let mut visit = visit(&service);
    visit.request_headers(&*plugin);
    // A later plugin removed it on the way to the backend.
    visit.request.remove("authorization");
    visit.request_headers(&*plugin);
    let asked = service.asked.lock().unwrap();
    assert_eq!(asked[1].headers["authorization"], "Bearer x");
}

#[test]
fn invalid_settings_are_refused_with_a_reason() {
    for (written, expected) in [
        (json!({}), "`forward_auth` needs exactly one service"),
        (json!({ "upstream": "a", "url": "http://b/" }), "`forward_auth` needs exactly one service"),
        (json!({ "url": "http://b/", "path": "/" }), "`path` cannot be combined with `url`"),
        (json!({ "url": "//b/" }), "`//b/` is not a usable URL"),
        (json!({ "url": "http://u:p@b/" }), "`http://u:p@b/` is not a usable URL"),
        (json!({ "upstream": "a", "path": "x" }), "`x` is not a path"),
        (json!({ "upstream": "a", "method": "PUT" }), "`PUT` is not a supported method"),
        (json!({ "upstream": "a", "request_headers": ["a b"] }), "`a b` is not a field name"),
        (json!({ "upstream": "a", "response_headers": ["Upgrade"] }), "`Upgrade` is the gateway's own"),
        (json!({ "upstream": "a", "timeout": "0" }), "`timeout` must be at least 1ms"),
        (json!({ "upstream": "a", "recheck": "1ms" }), "`recheck` must be at least 1s"),
    ] {
        let problems =
            build(&settings(written.clone())).err().unwrap_or_else(|| panic!("{written} was taken"));
        assert_eq!(problems.0[0].message, expected, "{written}");
    }
}
