//! Tests of the responses that are compressed, and of their fields.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use super::*;
use bytes::Bytes;
use moongate_sdk::testing::{TestExchange, settings};
use serde_json::{Value, json};
use std::io::Read;

fn plugin(written: Value) -> Result<Box<dyn Plugin>, Problems> {
    build(&settings(written))
}

/// An exchange with a client that accepts gzip, and a response with these fields.
fn visit(fields: &[(&'static str, &'static str)]) -> TestExchange {
    let mut visit = TestExchange::new("/").field("accept-encoding", "gzip");
    visit.response.insert("content-type", HeaderValue::from_static("text/html"));
    for (name, value) in fields {
        visit.response.insert(*name, HeaderValue::from_static(value));
    }
    visit
}

/// Whether the response is compressed, and whether it varies by Accept-Encoding.
fn compression(mut visit: TestExchange) -> (bool, bool) {
    visit.response_headers(&*plugin(json!({})).unwrap());
    let varies = visit.response.get_all("vary").iter().any(|value| value == "accept-encoding");
    (visit.response.contains_key("content-encoding"), varies)
}

#[test]
fn only_compressible_and_transformable_responses_are_compressed() {
    assert_eq!(compression(visit(&[])), (true, true));
    assert_eq!(compression(visit(&[("content-length", "1024")])), (true, true));
    for fields in [
        [("content-length", "1023")],
        [("content-type", "image/png")],
        [("content-encoding", "br")],
        [("cache-control", "max-age=1, No-Transform")],
        [("content-range", "bytes 0-1/5000")],
    ] {
        let (compressed, varies) = compression(visit(&fields));
        let already = fields[0].0 == "content-encoding";
        assert_eq!((compressed, varies), (already, false), "{fields:?}");
    }
    for status in [101, 204, 205, 206, 304] {
        let mut visit = visit(&[]);
        visit.status = StatusCode::from_u16(status).unwrap();
        assert_eq!(compression(visit), (false, false), "{status}");
    }
}

#[test]
fn an_uncompressed_response_varies_too() {
    let mut head = visit(&[]);
    head.method = Method::HEAD;
    assert_eq!(compression(head), (false, true));
    let mut plain = visit(&[]);
    plain.request.clear();
    assert_eq!(compression(plain), (false, true));
}

#[test]
fn the_fields_describe_the_compressed_form() {
    let mut visit = visit(&[
        ("content-length", "5000"),
        ("etag", "\"v1\""),
        ("accept-ranges", "bytes"),
        ("content-digest", "sha-256=:x:"),
        ("vary", "Cookie"),
    ]);
    visit.response_headers(&*plugin(json!({})).unwrap());
    let fields = &visit.response;
    assert_eq!(
        (&fields["content-encoding"], &fields["etag"]),
        (&"gzip".parse().unwrap(), &"W/\"v1\"".parse().unwrap())
    );
    for gone in ["accept-ranges", "content-digest"] {
        assert!(!fields.contains_key(gone), "{gone}");
    }
    assert_eq!(fields.get_all("vary").iter().count(), 2);
}

#[test]
fn a_condition_is_forwarded_with_the_backends_tag() {
    let plugin = plugin(json!({})).unwrap();
    let ask = |name: &str, sent: &str| {
        let mut visit = visit(&[]).field(name, sent);
        visit.request_headers(&*plugin);
        visit
    };
    let there = |name: &str, sent: &str| ask(name, sent).request[name].to_str().unwrap().to_owned();
    assert_eq!(there("if-none-match", "W/\"v1\", \"v2\""), "\"v1\", \"v2\"");
    assert_eq!(there("if-match", "W/\"v1\""), "\"v1\"");
    assert_eq!(there("if-range", "W/\"v1\""), "W/\"v1\"");
    assert_eq!(there("if-none-match", "*"), "*");
    // A 304 has the client's form of the tag.
    for (sent, tag, back) in
        [("W/\"v1\"", "\"v1\"", "W/\"v1\""), ("\"v1\"", "\"v1\"", "\"v1\""), ("W/\"v0\"", "\"v1\"", "\"v1\"")]
    {
        let mut visit = ask("if-none-match", sent);
        visit.status = StatusCode::NOT_MODIFIED;
        visit.response.insert("etag", HeaderValue::from_static(tag));
        visit.response_headers(&*plugin);
        assert_eq!(visit.response["etag"], back, "{sent}");
    }
    // If the backend sends weak tags, it may compare either form.
    visit(&[("etag", "W/\"own\"")]).response_headers(&*plugin);
    assert_eq!(there("if-none-match", "W/\"own\""), "\"own\", W/\"own\"");
}

#[test]
fn a_body_is_compressed_piece_by_piece_or_passes() {
    let plugin = plugin(json!({ "encodings": ["gzip"] })).unwrap();
    let body = |mut visit: TestExchange| {
        visit.response_headers(&*plugin);
        let mut sent = Vec::new();
        for (bytes, last) in [(&b"hello "[..], false), (b"world", false), (b"", true)] {
            let mut piece = Piece { bytes: Bytes::from_static(bytes), last };
            visit.with_exchange(|exchange| plugin.response_body(exchange, &mut piece)).unwrap();
            assert_eq!(piece.last, last);
            sent.extend_from_slice(&piece.bytes);
        }
        sent
    };
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&body(visit(&[]))[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, "hello world");
    assert_eq!(body(visit(&[("content-type", "image/png")])), b"hello world");
}

#[test]
fn a_response_that_is_not_compressed_leaves_the_body_phase() {
    let plugin = plugin(json!({})).unwrap();
    let mut visit = visit(&[("content-type", "image/png")]);
    visit.response_headers(&*plugin);
    assert!(visit.with_exchange(|exchange| exchange.has_left_bodies()));
    // A replacement response follows, whose body would not be shown.
    visit.response.insert("content-type", HeaderValue::from_static("text/html"));
    visit.response_headers(&*plugin);
    assert!(!visit.response.contains_key("content-encoding"));
}

#[test]
fn it_runs_after_the_other_response_plugins() {
    assert!(plugin(json!({})).unwrap().phases().encodes);
}

#[test]
fn invalid_settings_are_refused() {
    for bad in [
        json!({ "encodings": [] }),
        json!({ "encodings": ["gzip", "gzip"] }),
        json!({ "encodings": ["deflate"] }),
        json!({ "types": ["html"] }),
        json!({ "levels": { "gzip": 0 } }),
        json!({ "levels": { "br": 12 } }),
        json!({ "levels": { "zstd": 20 } }),
        json!({ "min_size": "1k" }),
    ] {
        assert!(plugin(bad.clone()).is_err(), "{bad}");
    }
}
