//! Tests of targets before and after rewriting.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use super::*;
use moongate_sdk::Verdict;
use moongate_sdk::testing::{TestExchange, settings};
use serde_json::{Value, json};

fn plugin(written: Value) -> Result<Box<dyn Plugin>, Problems> {
    build(&settings(written))
}

fn rewritten(written: &Value, target: &str) -> String {
    let plugin = plugin(written.clone()).unwrap();
    let mut visit = TestExchange::new(target);
    match visit.request_headers(&*plugin) {
        Verdict::Continue => visit.with_exchange(|exchange| match exchange.query() {
            Some(query) => format!("{}?{query}", exchange.path()),
            None => exchange.path().to_owned(),
        }),
        Verdict::Respond(reply) => reply.status.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A field of the response after the plugin, for a request of `target` to the endpoint 10.0.0.1:80.
pub(super) fn mapped(written: &Value, target: &str, name: &str, value: &str) -> String {
    let plugin = plugin(written.clone()).unwrap();
    let mut visit = TestExchange::new(target).field("host", "example.com:8080");
    visit.endpoint = Some("10.0.0.1:80".to_owned());
    visit.request_headers(&*plugin);
    let name: HeaderName = name.parse().unwrap();
    visit.response.append(&name, value.parse().unwrap());
    visit.response_headers(&*plugin);
    visit.response[name].to_str().unwrap().to_owned()
}

#[test]
fn a_redirect_of_the_backend_is_mapped_to_the_clients_path() {
    let app = json!({ "strip_prefix": "/app", "rewrite_location": true });
    let moved = json!({ "strip_prefix": "/app", "add_prefix": "/v2", "rewrite_location": true });
    let added = json!({ "add_prefix": "/v2", "rewrite_location": true });
    for (written, sent, expected) in [
        (&app, "/login?next=/x", "/app/login?next=/x"),
        (&app, "/", "/app/"),
        (&app, "?page=2", "?page=2"),
        (&app, "login", "login"),
        (&app, "/app/login", "/app/login"),
        (&app, "/app?x", "/app?x"),
        (&app, "/apple", "/app/apple"),
        (&app, "https://example.com:8080/login", "https://example.com:8080/app/login"),
        (&app, "https://EXAMPLE.com:8080", "https://EXAMPLE.com:8080/app/"),
        (&app, "http://example.com:8080/app/x", "http://example.com:8080/app/x"),
        (&app, "//example.com:8080/login", "//example.com:8080/app/login"),
        (&app, "http://10.0.0.1:80/login", "/app/login"),
        (&app, "http://10.0.0.1/login", "/app/login"),
        (&app, "//10.0.0.1/login", "/app/login"),
        (&app, "https://10.0.0.1/login", "https://10.0.0.1/login"),
        (&app, "http://10.0.0.1:80/app/login", "/app/login"),
        (&app, "https://elsewhere.example/login", "https://elsewhere.example/login"),
        (&app, "https://example.com.evil/login", "https://example.com.evil/login"),
        (&app, "//elsewhere.example", "//elsewhere.example"),
        (&app, "mailto:a@example.com", "mailto:a@example.com"),
        (&app, "/to?u=http://example.com:8080/x", "/app/to?u=http://example.com:8080/x"),
        (&moved, "/v2/users", "/app/users"),
        (&moved, "/v2", "/app/"),
        (&moved, "/v20", "/v20"),
        (&moved, "/other", "/other"),
        (&added, "/v2/users", "/users"),
        (&added, "/other", "/other"),
    ] {
        for name in ["location", "content-location"] {
            assert_eq!(mapped(written, "/app/x", name, sent), expected, "{sent}");
        }
    }
    // Nothing was stripped from this path.
    assert_eq!(mapped(&app, "/other", "location", "/login"), "/login");
    // Not configured.
    assert_eq!(mapped(&json!({ "strip_prefix": "/app" }), "/app/x", "location", "/login"), "/login");
}

#[test]
fn a_refresh_is_mapped_as_browsers_read_it() {
    let app = json!({ "strip_prefix": "/app", "rewrite_location": true });
    for (sent, expected) in [
        ("0; url=/login", "0; url=/app/login"),
        ("5,URL = '/login' x", "5,URL = '/app/login' x"),
        ("5;url=\"/a\"", "5;url=\"/app/a\""),
        ("5;url='/a", "5;url='/app/a"),
        ("5", "5"),
        ("5;", "5;"),
        ("5; ur", "5; ur"),
        ("5; url", "5; url"),
        ("5; url=", "5; url="),
        ("5; url='", "5; url='"),
        ("5; url=https://elsewhere.example/", "5; url=https://elsewhere.example/"),
    ] {
        assert_eq!(mapped(&app, "/app/x", "refresh", sent), expected);
    }
}

#[test]
fn a_cookie_path_of_the_backend_is_mapped_to_the_clients_path() {
    let app = json!({ "strip_prefix": "/app", "rewrite_cookie_path": true });
    let moved = json!({ "strip_prefix": "/app", "add_prefix": "/v2/api", "rewrite_cookie_path": true });
    let added = json!({ "add_prefix": "/v2", "rewrite_cookie_path": true });
    for (written, sent, expected) in [
        (&app, "a=b; Path=/; Secure", "a=b; Path=/app; Secure"),
        (&app, "a=b;PATH = /x/ ;Max-Age=1", "a=b; Path=/app/x/;Max-Age=1"),
        (&app, "a=b; Path=/x; path=/y", "a=b; Path=/app/x; Path=/app/y"),
        (&app, "a=b; Path=/app", "a=b; Path=/app"),
        (&app, "a=b", "a=b"),
        (&app, "a=b; Path", "a=b; Path"),
        (&app, "a=b; Path=; Secure", "a=b; Path=; Secure"),
        (&app, "path=/x; Secure", "path=/x; Secure"),
        (&app, "__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"),
        (&moved, "a=b; Path=/", "a=b; Path=/app"),
        (&moved, "a=b; Path=/v2/", "a=b; Path=/app"),
        (&moved, "a=b; Path=/v2/api", "a=b; Path=/app"),
        (&moved, "a=b; Path=/v2/api/x", "a=b; Path=/app/x"),
        (&moved, "a=b; Path=/v2/apis", "a=b; Path=/v2/apis"),
        (&added, "a=b; Path=/v2", "a=b; Path=/"),
        (&added, "a=b; Path=/v2/x", "a=b; Path=/x"),
    ] {
        assert_eq!(mapped(written, "/app/x", "set-cookie", sent), expected);
    }
}

#[test]
fn every_cookie_is_kept_and_a_response_of_the_gateway_is_unchanged() {
    let plugin =
        plugin(json!({ "strip_prefix": "/app", "rewrite_cookie_path": true, "rewrite_location": true }))
            .unwrap();
    for (endpoint, expected) in [(Some("10.0.0.1:80"), "/app"), (None, "/")] {
        let mut visit = TestExchange::new("/app/x");
        visit.endpoint = endpoint.map(str::to_owned);
        visit.request_headers(&*plugin);
        for cookie in [&b"a=1; Path=/"[..], b"b=\xe4; Path=/", b"c=3"] {
            visit.response.append(header::SET_COOKIE, HeaderValue::from_bytes(cookie).unwrap());
        }
        visit.response_headers(&*plugin);
        let cookies: Vec<_> =
            visit.response.get_all(header::SET_COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let first = format!("a=1; Path={expected}");
        let second = [b"b=\xe4; Path=", expected.as_bytes()].concat();
        assert_eq!(cookies, [first.as_bytes(), &second, b"c=3"]);
    }
}

#[test]
fn a_request_of_the_prefix_itself_is_redirected_to_the_slash() {
    let written = json!({ "strip_prefix": ["/app", "/b/c"] });
    let ask = |written: &Value, method: http::Method, target: &str, is_websocket| {
        let plugin = plugin(written.clone()).unwrap();
        let mut visit = TestExchange::new(target);
        (visit.method, visit.is_websocket) = (method, is_websocket);
        match visit.request_headers(&*plugin) {
            Verdict::Continue => visit.with_exchange(|exchange| exchange.path().to_owned()),
            Verdict::Respond(reply) => {
                format!("{} {}", reply.status.as_u16(), reply.headers[header::LOCATION].to_str().unwrap())
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(&written, Method::GET, "/app?x=/&y", false), "301 /app/?x=/&y");
    assert_eq!(ask(&written, Method::HEAD, "/b/c", false), "301 /b/c/");
    assert_eq!(ask(&written, Method::GET, "/app/", false), "/");
    assert_eq!(ask(&written, Method::POST, "/app", false), "/");
    assert_eq!(ask(&written, Method::GET, "/app", true), "/");
    let without = json!({ "strip_prefix": "/app", "add_slash": false });
    assert_eq!(ask(&without, Method::GET, "/app", false), "/");
}

#[test]
fn a_path_with_every_prefix_before_the_client_stays() {
    let plugin =
        plugin(json!({ "strip_prefix": "/app", "rewrite_location": true, "rewrite_cookie_path": true }))
            .unwrap();
    for (sent, expected) in
        [("/outer/app/x", "/outer/app/x"), ("/app/x", "/app/x"), ("/outer/x", "/app/outer/x")]
    {
        let mut visit = TestExchange::new("/app/y").field("x-forwarded-prefix", "/outer");
        visit.endpoint = Some("10.0.0.1:80".to_owned());
        visit.request_headers(&*plugin);
        visit.response.append("location", sent.parse().unwrap());
        visit.response.append("set-cookie", format!("a=1; Path={sent}").parse().unwrap());
        visit.response_headers(&*plugin);
        assert_eq!(visit.response["location"], expected);
        assert_eq!(visit.response["set-cookie"], format!("a=1; Path={expected}"));
    }
}

#[test]
fn the_backend_is_told_of_every_prefix_that_was_stripped() {
    let plugin = plugin(json!({ "strip_prefix": "/app" })).unwrap();
    for (target, before, expected) in [
        ("/app/x", &[][..], Some("/app")),
        ("/app/x", &["/outer/"], Some("/outer/app")),
        ("/app/x", &["/a, /b/", "/c"], Some("/a/b/c/app")),
        ("/other", &["/outer"], Some("/outer")),
        ("/other", &[], None),
    ] {
        let mut visit = TestExchange::new(target);
        for value in before {
            visit = visit.field("x-forwarded-prefix", value);
        }
        visit.request_headers(&*plugin);
        let prefixes = visit.request.get("x-forwarded-prefix").map(|value| value.to_str().unwrap());
        assert_eq!(prefixes, expected, "{target} {before:?}");
    }
}

#[test]
fn a_prefix_matches_whole_segments() {
    let written = json!({ "strip_prefix": ["/api/", "/api/v1"] });
    for (target, expected) in [
        ("/api/users?x=1", "/users?x=1"),
        ("/api", "301 Moved Permanently"),
        ("/api/", "/"),
        ("/apis/users", "/apis/users"),
        ("/x/api", "/x/api"),
        ("/api/v1/x", "/v1/x"),
        ("/api/api", "/api"),
    ] {
        assert_eq!(rewritten(&written, target), expected, "{target}");
    }
    assert_eq!(rewritten(&json!({ "strip_prefix": "/a" }), "/a/b"), "/b");
}

#[test]
fn prefixes_and_replacements_follow_each_other() {
    let written = json!({
        "strip_prefix": "/old",
        "replace": [
            { "regex": "^/u/([0-9]+)(?P<rest>.*)$", "with": "/users/${1}x${rest}" },
            { "regex": "x", "with": "$$" },
        ],
        "add_prefix": "/v2/",
    });
    assert_eq!(rewritten(&written, "/old/u/42/x"), "/v2/users/42$/$");
    assert_eq!(rewritten(&written, "/u/no"), "/v2/u/no");
    assert_eq!(rewritten(&json!({ "replace": [{ "regex": "^/", "with": "" }] }), "/a"), "/a");
    assert_eq!(rewritten(&json!({ "replace": [{ "regex": "^.*$", "with": "" }] }), "/a"), "/");
}

#[test]
fn query_parameters_are_matched_in_any_escaping() {
    let written = json!({ "query": {
        "set": { "client": "{client_ip}", "a b": "x&y=z?{path}" },
        "remove": ["debug"],
    } });
    assert_eq!(
        rewritten(&written, "/p?debug=1&x=1&cl%69ent=forged&%64ebug&a+b=2&debugger=1"),
        "/p?x=1&debugger=1&a%20b=x%26y%3Dz%3F%2Fp&client=127.0.0.1"
    );
    assert_eq!(rewritten(&json!({ "query": { "remove": ["x"] } }), "/p?x=1&x"), "/p");
    assert_eq!(rewritten(&json!({ "query": { "remove": ["x"] } }), "/p"), "/p");
}

#[test]
fn nothing_is_edited_when_nothing_changes() {
    let plugin = plugin(json!({ "strip_prefix": "/api" })).unwrap();
    let mut visit = TestExchange::new("/other?x");
    visit.request_headers(&*plugin);
    assert!(visit.running.edits().is_none());
}

#[test]
fn a_replacement_that_climbs_is_400() {
    let written = json!({ "replace": [{ "regex": "x", "with": "" }] });
    for target in ["/.x./etc", "/a/.x./b", "/.x", "/%x2e./b", "/.x.;a/b", "/.x.%3Ba/b", "/a/.x.%3b"] {
        assert_eq!(rewritten(&written, target), "400 Bad Request", "{target}");
    }
    assert_eq!(rewritten(&written, "/a.x./..x.b"), "/a../...b");
}

#[test]
fn invalid_settings_are_refused() {
    for (bad, message) in [
        (json!({}), "`rewrite` changes nothing"),
        (json!({ "add_prefix": "/a", "add_slash": false }), "`add_slash` without a prefix has no effect"),
        (json!({ "rewrite_location": true }), "`rewrite_location` without a prefix has no effect"),
        (json!({ "rewrite_cookie_path": false }), "`rewrite_cookie_path` without a prefix has no effect"),
        (
            json!({ "rewrite_location": { "from": "", "to": "/" } }),
            "`from` is empty: it would match every value",
        ),
        (json!({ "rewrite_location": { "from": "/a", "to": "{x}" } }), "unknown placeholder `{x}`"),
        (json!({ "rewrite_location": { "from": "~(", "to": "/" } }), "`(` is not a regular expression"),
        (json!({ "rewrite_location": { "from": "~(a)", "to": "$2" } }), "the expression has no group `2`"),
        (json!({ "rewrite_location": { "from": "/a" } }), "missing key `to`"),
        (
            json!({ "rewrite_cookie_domain": { "from": ".", "to": "a" } }),
            "`from` is empty: it would match every value",
        ),
        (
            json!({ "rewrite_cookie_domain": { "from": "a", "to": "" } }),
            "`to` is empty: an attribute needs a value",
        ),
        (
            json!({ "rewrite_cookie_path": [{ "from": "/a", "to": "/b; Secure" }] }),
            "`/b; Secure` is not allowed in an attribute of a cookie",
        ),
        (json!({ "rewrite_cookie_path": [] }), "`rewrite` changes nothing"),
        (json!({ "strip_prefix": "api" }), "`api` is not a path prefix"),
        (json!({ "strip_prefix": "/" }), "`/` is not a path prefix"),
        (json!({ "add_prefix": "/ä" }), "`/ä` is not allowed in a path"),
        (json!({ "add_prefix": "/a?b" }), "`/a?b` is not allowed in a path"),
        (json!({ "replace": [{ "regex": "(", "with": "x" }] }), "`(` is not a regular expression"),
        (json!({ "replace": [{ "regex": "a", "with": "/a?b" }] }), "`/a?b` is not allowed in a path"),
        (json!({ "replace": [{ "regex": "(a)", "with": "$2" }] }), "the expression has no group `2`"),
        (json!({ "replace": [{ "regex": "(a)", "with": "$1x" }] }), "the expression has no group `1x`"),
        (json!({ "query": { "set": { "a": "{nope}" } } }), "unknown placeholder `{nope}`"),
    ] {
        assert_eq!(plugin(bad).err().unwrap().0[0].message, message);
    }
    let problems = plugin(json!({ "replace": [{ "regex": "(a)", "with": "$1x" }] })).err().unwrap();
    assert_eq!(problems.0[0].label.as_deref(), Some("write `$${1}x`"));
}
