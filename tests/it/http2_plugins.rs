//! Plugins with HTTP/2 requests: replaced responses, copies and changes.

use crate::support::h2::{self, Client, get};
use crate::support::origin::answer;
use crate::support::{Gateway, Next, Origin};

const HEAD: &str = "admin: { address: 127.0.0.1:0 }\n\
                    listeners: [{ name: web, address: 127.0.0.1:0, protocols: [h2c] }]\n";

fn one(origin: &Origin, plugins: &str) -> Gateway {
    Gateway::start_own_whole(&format!("{HEAD}routes: [{{ upstream: ['{origin}'], plugins: [{plugins}] }}]"))
}

fn post() -> http::Request<()> {
    h2::request("POST", "/").body(()).unwrap()
}

#[test]
fn a_reply_replaces_a_response_in_every_phase() {
    let origin = Origin::named("a");
    for phase in ["request_headers", "request_body", "response_headers"] {
        let gateway = one(&origin, &format!("{{ kind: chaos, phase: {phase}, act: reply }}"));
        let client = Client::connect(gateway.web());
        let plain = client.ask(post(), &[b"one", b"two"]);
        assert!(!plain.text().is_empty() && plain.text() != "a", "{phase}: {plain:?}");
        // The connection stays open, and so does the next stream.
        assert_eq!(client.ask(post(), &[b"one"]).status, plain.status, "{phase}");
    }
}

#[test]
fn a_reply_ends_an_upload_that_is_still_under_way() {
    let origin = Origin::named("a");
    let gateway = one(&origin, "{ kind: chaos, phase: request_body, act: reply }");
    let client = Client::connect(gateway.web());
    let (early, mut body) = client.begin(post(), false);
    client.write(&mut body, b"begun", false).unwrap();
    assert!(!client.read(early).unwrap().body.is_empty());
}

#[test]
fn a_plugin_that_fails_is_500() {
    let origin = Origin::named("a");
    let gateway = one(&origin, "{ kind: chaos, phase: request_body, act: panic }");
    let client = Client::connect(gateway.web());
    for pieces in [&[&b"one"[..]][..], &[b"one", b"two", b""]] {
        assert_eq!(client.ask(post(), pieces).status, 500);
    }
}

#[test]
fn a_changed_response_body_has_no_length() {
    let origin = Origin::fixed(answer(200, "", b"a quiet word"), Next::Keep);
    let gateway = one(&origin, "{ kind: replace, response: { from: quiet, to: LOUD } }");
    let client = Client::connect(gateway.web());
    for _ in 0..3 {
        let loud = client.ask(get("/"), &[]);
        assert_eq!((loud.text().as_str(), loud.field("content-length")), ("a LOUD word", None));
        assert_eq!(loud.field("transfer-encoding"), None);
    }
}

#[test]
fn a_copy_has_the_whole_body() {
    let (origin, copied) = (Origin::named("a"), Origin::named("copied"));
    let gateway = Gateway::start_whole(&format!(
        "{HEAD}upstreams: {{ next: {{ endpoints: ['{copied}'] }} }}
routes: [{{ upstream: ['{origin}'], plugins: [{{ kind: mirror, upstream: next }}] }}]"
    ));
    let client = Client::connect(gateway.web());
    let big = vec![b'x'; 50_000];
    assert_eq!(client.ask(post(), &[&big, b"end", b""]).text(), "a");
    assert_eq!(copied.await_seen(1)[0].body.len(), 50_003);
    assert_eq!(origin.seen()[0].body.len(), 50_003);
}
