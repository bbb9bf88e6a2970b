//! Tests of keys, limits and the responses beyond them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use bytes::BytesMut;
use moongate_sdk::testing::{TestExchange, settings};
use moongate_sdk::{ClientPrefix, Direction, Verdict};
use serde_json::json;

fn plugin(written: serde_json::Value) -> Box<dyn Plugin> {
    build(&settings(written)).unwrap()
}

/// Whether a request passes.
fn passes(plugin: &dyn Plugin, mut visit: TestExchange) -> bool {
    matches!(visit.request_headers(plugin), Verdict::Continue)
}

fn from(client: &str) -> TestExchange {
    let mut visit = TestExchange::new("/");
    visit.client = client.parse().unwrap();
    visit
}

#[test]
fn beyond_the_burst_a_client_gets_429_with_retry_after() {
    let plugin = plugin(json!({ "rate": "1/h", "burst": 2 }));
    assert!(passes(&*plugin, from("192.0.2.1")));
    let mut second = from("192.0.2.1");
    assert!(matches!(second.request_headers(&*plugin), Verdict::Continue));
    second.response_headers(&*plugin);
    assert_eq!(second.response["ratelimit-policy"], "\"\";q=2;w=7200");
    assert_eq!(second.response["ratelimit"], "\"\";r=0;t=7200");
    let mut third = from("192.0.2.1");
    let reply = third.expect_reply(&*plugin);
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.headers[RETRY_AFTER], "3600");
    third.response_headers(&*plugin);
    assert_eq!(third.response["ratelimit"], "\"\";r=0;t=7200");
    assert!(passes(&*plugin, from("192.0.2.2")), "another client has its own");
    let silent = super::tests::plugin(json!({ "rate": "1/h", "headers": false }));
    assert!(!silent.phases().response_headers);
}

#[test]
fn the_key_distinguishes_clients() {
    let by_header = plugin(json!({ "rate": "1/h", "key": "header:X-Api-Key" }));
    assert!(passes(&*by_header, from("192.0.2.1").field("x-api-key", "a")));
    assert!(!passes(&*by_header, from("192.0.2.2").field("x-api-key", "a")));
    assert!(passes(&*by_header, from("192.0.2.1").field("x-api-key", "b")));
    assert!(passes(&*by_header, from("192.0.2.1")), "without one the address counts");
    assert!(!passes(&*by_header, from("192.0.2.1")));
    assert!(
        passes(&*by_header, from("192.0.2.9").field("x-api-key", "192.0.2.1")),
        "a value is not an address"
    );
    let by_network = plugin(json!({ "rate": "1/h" }));
    assert!(passes(&*by_network, from("2001:db8::1")));
    assert!(!passes(&*by_network, from("2001:db8::ffff:2")), "one client has a whole /64");
    assert!(passes(&*by_network, from("2001:db8:0:1::1")));
    assert!(passes(&*by_network, from("::ffff:192.0.2.1")));
    assert!(!passes(&*by_network, from("192.0.2.1")), "the same address in another spelling");
    let narrow = || {
        let mut visit = from("2001:db8::3");
        visit.client_prefix = ClientPrefix::new(128).unwrap();
        visit
    };
    assert!(passes(&*by_network, narrow()), "a longer prefix makes another client");
    assert!(!passes(&*by_network, narrow()));
    let computed = plugin(json!({ "rate": "1/h", "key": "cel:request.path + request.method" }));
    assert!(passes(&*computed, from("192.0.2.1")));
    assert!(!passes(&*computed, from("192.0.2.2")));
}

#[test]
fn messages_have_their_own_bucket() {
    let message = || Message { direction: Direction::ToBackend, binary: false, payload: BytesMut::new() };
    let plugin = plugin(json!({ "messages": { "rate": "1/h", "burst": 2, "on_exceed": "drop" } }));
    let (mut one, mut two) = (from("192.0.2.1"), from("192.0.2.1"));
    assert!(
        matches!(one.request_headers(&*plugin), Verdict::Continue)
            && matches!(two.request_headers(&*plugin), Verdict::Continue)
    );
    assert!(matches!(one.message(&*plugin, &mut message()), MessageVerdict::Forward));
    assert!(matches!(two.message(&*plugin, &mut message()), MessageVerdict::Forward));
    assert!(
        matches!(one.message(&*plugin, &mut message()), MessageVerdict::Drop),
        "one client, whatever the WebSocket"
    );
    let closing = super::tests::plugin(json!({ "rate": "5/h", "messages": { "rate": "1/h" } }));
    let mut visit = from("192.0.2.1");
    visit.request_headers(&*closing);
    assert!(matches!(visit.message(&*closing, &mut message()), MessageVerdict::Forward));
    assert!(matches!(visit.message(&*closing, &mut message()), MessageVerdict::Close { code: 1008, .. }));
}

#[test]
fn invalid_settings_are_refused_with_a_reason() {
    for (written, expected) in [
        (json!({}), "`rate_limit` has no rate"),
        (json!({ "burst": 1, "messages": { "rate": "1/s" } }), "`burst` needs `rate`"),
        (json!({ "rate": "1/s", "burst": 0 }), "`burst` must be 1 to 4294967295"),
        (json!({ "rate": "1/s", "max_keys": 0 }), "`max_keys` must be 1 to 10000000"),
        (json!({ "rate": "1/s", "ipv6_prefix": 56 }), "unknown key `ipv6_prefix`"),
        (json!({ "rate": "1/s", "key": "client" }), "`client` does not name a part of a request"),
    ] {
        let problems =
            build(&settings(written.clone())).err().unwrap_or_else(|| panic!("{written} was taken"));
        assert_eq!(problems.0[0].message, expected, "{written}");
    }
}
