//! Tests of replacements in responses.

use super::tests::mapped;
use serde_json::{Value, json};

/// A field after the plugin, for a request of `/app/x;Domain=evil` with the Host `example.com:8080`.
fn replaced(key: &str, list: &Value, name: &str, sent: &str) -> String {
    mapped(&json!({ key: list }), "/app/x;Domain=evil", name, sent)
}

#[test]
fn the_beginning_of_a_redirect_is_replaced() {
    let one = json!({ "from": "http://backend:8080/", "to": "/" });
    let many = json!([
        { "from": "http://backend:8080/admin/", "to": "https://admin.example/" },
        { "from": "http://backend:8080/", "to": "https://{host}/shop/" },
        { "from": "~^http://([a-z]+)[.]internal(?::[0-9]+)?(/.*)$", "to": "https://$1.example${2}" },
        { "from": "http://", "to": "https://" },
    ]);
    for (list, sent, expected) in [
        (&one, "http://backend:8080/login?x", "/login?x"),
        (&one, "http://backend:8080", "http://backend:8080"),
        (&one, "http://backend/login", "http://backend/login"),
        (&one, "/login", "/login"),
        (&many, "http://backend:8080/admin/a", "https://admin.example/a"),
        (&many, "http://backend:8080/a", "https://example.com/shop/a"),
        (&many, "http://wiki.internal:81/a?b", "https://wiki.example/a?b"),
        (&many, "http://other.example/", "https://other.example/"),
        (&many, "https://other.example/", "https://other.example/"),
    ] {
        for name in ["location", "content-location"] {
            assert_eq!(replaced("rewrite_location", list, name, sent), expected, "{sent}");
        }
        let refresh = replaced("rewrite_location", list, "refresh", &format!("1; url='{sent}' x"));
        assert_eq!(refresh, format!("1; url='{expected}' x"));
    }
}

#[test]
fn replacements_do_not_need_the_stripped_prefix() {
    let written = json!({ "strip_prefix": "/app", "rewrite_location": { "from": "/a/", "to": "/b/" } });
    for target in ["/app/x", "/other"] {
        assert_eq!(mapped(&written, target, "location", "/a/c"), "/b/c", "{target}");
    }
    let both = json!({
        "strip_prefix": "/app", "rewrite_location": true, "rewrite_cookie_path": { "from": "/", "to": "/app/" },
    });
    assert_eq!(mapped(&both, "/app/x", "location", "/a"), "/app/a");
    assert_eq!(mapped(&both, "/app/x", "set-cookie", "a=b; Path=/c"), "a=b; Path=/app/c");
}

#[test]
fn paths_and_domains_of_cookies_are_replaced() {
    let paths = json!([{ "from": "/one/", "to": "/two/" }, { "from": "~^/user-([0-9]+)", "to": "/u/$1" }]);
    for (sent, expected) in [
        ("a=b; Path=/one/x; Secure", "a=b; Path=/two/x; Secure"),
        ("a=b;path=/user-7/z", "a=b; Path=/u/7"),
        ("a=b; Path=/one", "a=b; Path=/one"),
        ("a=b; Path=one/", "a=b; Path=one/"),
        ("__Host-a=b; Path=/one/", "__Host-a=b; Path=/one/"),
        ("Path=/one/; Secure", "Path=/one/; Secure"),
    ] {
        assert_eq!(replaced("rewrite_cookie_path", &paths, "set-cookie", sent), expected);
    }
    let domains = json!([{ "from": ".Backend.internal", "to": "example.com" }, { "from": "~^(.*)[.]test$", "to": "$1.example" }]);
    for (sent, expected) in [
        ("a=b; Domain=backend.internal; Path=/", "a=b; Domain=example.com; Path=/"),
        ("a=b; DOMAIN = .BACKEND.internal", "a=b; Domain=example.com"),
        ("a=b; Domain=.Web.Test", "a=b; Domain=web.example"),
        ("a=b; Domain=sub.backend.internal", "a=b; Domain=sub.backend.internal"),
        ("a=b", "a=b"),
        ("__Host-a=b; Domain=backend.internal", "__Host-a=b; Domain=backend.internal"),
    ] {
        assert_eq!(replaced("rewrite_cookie_domain", &domains, "set-cookie", sent), expected);
    }
}

#[test]
fn a_value_of_the_request_does_not_become_an_attribute() {
    let paths = json!({ "from": "/", "to": "{path}/" });
    let sent = "a=b; Path=/c";
    assert_eq!(replaced("rewrite_cookie_path", &paths, "set-cookie", sent), sent);
}
