//! Tests of both handshakes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::net::http1::field_names::FieldNames;
use crate::net::tunnel_io::TunnelIo;
use crate::websocket::accept;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The example of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const LIMIT: Duration = Duration::from_secs(5);

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    lines.iter().map(line).collect::<Vec<_>>().into_iter().fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    })
}

fn good() -> HeaderMap {
    headers(&[
        ("host", "example.com"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ])
}

fn verdict(headers: &HeaderMap) -> Result<Handshake, HandshakeError> {
    check(&Method::GET, Version::HTTP_11, headers)
}

fn with(name: &'static str, value: &'static str) -> Result<Handshake, HandshakeError> {
    let mut headers = good();
    headers.insert(name, HeaderValue::from_static(value));
    verdict(&headers)
}

fn without(name: &str) -> Result<Handshake, HandshakeError> {
    let mut headers = good();
    headers.remove(name);
    verdict(&headers)
}

#[test]
fn the_accept_equals_that_of_the_rfc() {
    assert_eq!(accept(KEY.as_bytes()), ACCEPT.as_bytes());
}

#[test]
fn a_good_handshake_gives_its_key() {
    assert_eq!(verdict(&good()).unwrap().key, KEY.as_bytes());
    assert!(with("upgrade", "h2c, websocket").is_ok());
    assert!(with("content-length", "0").is_ok());
}

#[test]
fn other_requests_are_ordinary_http() {
    assert_eq!(check(&Method::POST, Version::HTTP_11, &good()), Err(HandshakeError::NotWebSocket));
    assert_eq!(check(&Method::GET, Version::HTTP_10, &good()), Err(HandshakeError::NotWebSocket));
    assert_eq!(check(&Method::GET, Version::HTTP_2, &good()), Err(HandshakeError::NotWebSocket));
    assert_eq!(with("upgrade", "h2c"), Err(HandshakeError::NotWebSocket));
    assert_eq!(with("upgrade", "websockets"), Err(HandshakeError::NotWebSocket));
    assert_eq!(with("connection", "keep-alive"), Err(HandshakeError::NotWebSocket));
    assert_eq!(without("connection"), Err(HandshakeError::NotWebSocket));
    assert_eq!(without("upgrade"), Err(HandshakeError::NotWebSocket));
}

#[test]
fn another_version_is_refused_as_such() {
    assert_eq!(with("sec-websocket-version", "8"), Err(HandshakeError::Version));
    assert_eq!(without("sec-websocket-version"), Err(HandshakeError::Version));
}

#[test]
fn a_key_with_spare_bits_is_accepted_unchanged() {
    for key in ["dGhlIHNhbXBsZSBub25jZR==", "AAAAAAAAAAAAAAAAAAAAAB==", "AAAAAAAAAAAAAAAAAAAAAP=="] {
        assert_eq!(with("sec-websocket-key", key).unwrap().key, key.as_bytes(), "{key}");
    }
}

#[test]
fn a_broken_handshake_is_refused() {
    for key in ["", "AAAA", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZSE=", "!!!!IHNhbXBsZSBub25jZQ=="]
    {
        assert!(matches!(with("sec-websocket-key", key), Err(HandshakeError::Bad(_))), "{key}");
    }
    assert!(matches!(without("sec-websocket-key"), Err(HandshakeError::Bad(_))));
    assert!(matches!(without("host"), Err(HandshakeError::Bad(_))));
    assert!(matches!(with("content-length", "5"), Err(HandshakeError::Bad(_))));
    assert!(matches!(with("transfer-encoding", "chunked"), Err(HandshakeError::Bad(_))));
    let mut twice = good();
    twice.append("sec-websocket-key", HeaderValue::from_static(KEY));
    assert!(matches!(verdict(&twice), Err(HandshakeError::Bad(_))));
    let mut versions = good();
    versions.append("sec-websocket-version", HeaderValue::from_static("13"));
    assert!(matches!(verdict(&versions), Err(HandshakeError::Bad(_))));
}

fn request(extra: &[(&'static str, &'static str)]) -> Request {
    let mut all = good();
    all.extend(headers(extra));
    write_request(b"/chat?a=b", all, &FieldNames::default(), &verdict(&good()).unwrap()).unwrap()
}

#[test]
fn a_backend_receives_the_gateways_own_upgrade_request() {
    let text =
        String::from_utf8(request(&[("origin", "https://a.example"), ("cookie", "a=1")]).bytes).unwrap();
    let expected = format!(
        "GET /chat?a=b HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nOrigin: https://a.example\r\nCookie: a=1\r\n\r\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn a_target_cannot_end_the_request_line() {
    let handshake = verdict(&good()).unwrap();
    for target in [&b""[..], b"chat", b"/a b", b"/a\r\nx: y", b"/\0", b"/\x7f"] {
        let none = FieldNames::default();
        assert!(write_request(target, HeaderMap::new(), &none, &handshake).is_err(), "{target:?}");
    }
}

#[test]
fn the_client_receives_the_gateways_own_101() {
    let mut out = bytes::BytesMut::new();
    let mut backend = headers(&[
        ("sec-websocket-protocol", "chat"),
        ("connection", "close"),
        ("content-length", "7"),
        ("sec-websocket-accept", "forged"),
    ]);
    write_switching(&mut out, &accept(&verdict(&good()).unwrap().key), &mut backend, &FieldNames::default());
    let expected = format!(
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: chat\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\nUpgrade: websocket\r\n\r\n"
    );
    assert_eq!(String::from_utf8(out.to_vec()).unwrap(), expected);
}

fn pipe() -> (TunnelIo, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    (TunnelIo::Boxed(Box::new(ours)), theirs)
}

/// The result of a backend that has sent `answer`, in pieces of `chunk` bytes, and closed.
async fn answer_to(request: &Request, answer: &[u8]) -> Result<HandshakeResponse, ResponseError> {
    let (mut tunnel_io, mut backend) = pipe();
    backend.write_all(answer).await.unwrap();
    backend.shutdown().await.unwrap();
    exchange(&mut tunnel_io, request, LIMIT).await
}

fn switching(extra: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{extra}\r\n"
    )
}

#[tokio::test]
async fn early_frames_after_the_101_are_kept() {
    let bytes = switching("Server: x\r\n") + "\u{1}frames";
    let HandshakeResponse::Upgraded { headers, early, .. } =
        answer_to(&request(&[]), bytes.as_bytes()).await.unwrap()
    else {
        panic!("not upgraded");
    };
    assert_eq!(headers["server"], "x");
    assert_eq!(&early[..], b"\x01frames");
}

#[tokio::test]
async fn interim_responses_are_skipped() {
    let bytes = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_owned()
        + &switching("");
    let answer = answer_to(&request(&[]), bytes.as_bytes()).await.unwrap();
    assert!(matches!(answer, HandshakeResponse::Upgraded { early, .. } if early.is_empty()));
}

#[tokio::test]
async fn any_other_response_is_returned_complete() {
    let bytes = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    let HandshakeResponse::Other { status, read } = answer_to(&request(&[]), bytes).await.unwrap() else {
        panic!("upgraded");
    };
    assert_eq!((status, &read[..]), (403, &bytes[..]));
}

#[tokio::test]
async fn an_invalid_101_is_refused() {
    let wrong = [
        switching("").replace(ACCEPT, KEY),
        switching("").replace("Upgrade: websocket\r\n", ""),
        switching("").replace("Connection: Upgrade\r\n", ""),
        switching("").replace("HTTP/1.1", "HTTP/1.0"),
        switching(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n")),
        switching("Sec-WebSocket-Protocol: other\r\n"),
        switching("Sec-WebSocket-Protocol: chat, superchat\r\n"),
        switching("Sec-WebSocket-Extensions: x-zip\r\n"),
        "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
    ];
    let request = request(&[
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ]);
    for bytes in wrong {
        let answer = answer_to(&request, bytes.as_bytes()).await;
        assert!(matches!(answer, Err(ResponseError::Bad(_))), "{bytes}: {answer:?}");
    }
}

#[tokio::test]
async fn offered_values_may_be_selected() {
    let request = request(&[
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits, x-other"),
    ]);
    let bytes = switching(
        "Sec-WebSocket-Protocol: superchat\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n",
    );
    assert!(matches!(answer_to(&request, bytes.as_bytes()).await, Ok(HandshakeResponse::Upgraded { .. })));
}

#[tokio::test]
async fn a_header_may_arrive_byte_by_byte() {
    let (mut tunnel_io, mut backend) = pipe();
    let request = request(&[]);
    let slow = async {
        for byte in switching("").bytes() {
            backend.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        backend
    };
    let (answer, _backend) = tokio::join!(exchange(&mut tunnel_io, &request, LIMIT), slow);
    assert!(matches!(answer, Ok(HandshakeResponse::Upgraded { .. })));
}

#[tokio::test]
async fn a_closed_connection_is_an_error() {
    assert!(matches!(answer_to(&request(&[]), b"").await, Err(ResponseError::Closed)));
    assert!(matches!(answer_to(&request(&[]), b"HTTP/1.1 101 Sw").await, Err(ResponseError::Closed)));
}

#[tokio::test]
async fn an_endless_header_is_refused() {
    let bytes = "HTTP/1.1 101 Switching Protocols\r\n".to_owned() + &"x: y\r\n".repeat(20_000) + "\r\n";
    assert!(matches!(answer_to(&request(&[]), bytes.as_bytes()).await, Err(ResponseError::Bad(_))));
}

#[tokio::test(start_paused = true)]
async fn a_silent_backend_times_out() {
    let (mut tunnel_io, mut backend) = pipe();
    let request = request(&[]);
    let answer = exchange(&mut tunnel_io, &request, LIMIT).await;
    assert!(matches!(answer, Err(ResponseError::TimedOut)));
    let mut sent = vec![0; request.bytes.len()];
    backend.read_exact(&mut sent).await.unwrap();
    assert_eq!(sent, request.bytes);
}

#[test]
fn a_replaced_value_has_the_same_length_and_changes_nothing_else() {
    let name = HeaderName::from_static("traceparent");
    let before = request(&[("x-a", "traceparent: 1"), ("traceparent", "old"), ("x-b", "b")]);
    let mut after = before.clone();
    after.replace(&name, b"new");
    let expected =
        String::from_utf8(before.bytes.clone()).unwrap().replace("traceparent: old", "traceparent: new");
    assert_eq!(String::from_utf8(after.bytes.clone()).unwrap(), expected);
    for other in [&b"longer than before"[..], b"x"] {
        after.replace(&name, other);
        assert_eq!(String::from_utf8(after.bytes.clone()).unwrap(), expected, "another length");
    }
    let mut without = request(&[("x-a", "traceparent: 1")]);
    let bytes = without.bytes.clone();
    without.replace(&name, b"1");
    assert_eq!(without.bytes, bytes);
}
