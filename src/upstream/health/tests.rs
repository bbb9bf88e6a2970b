//! Tests of probes against real listeners on the loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::upstream::address::Address;
use crate::upstream::connector::Connector;
use crate::upstream::testing::{placed, settings, upstream};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

fn probe(kind: &str, pairs: &[(&str, &str)]) -> Box<dyn Probe> {
    let kind = Kind::find(PROBES, "health check", kind).unwrap();
    (kind.build)(&settings(pairs)).unwrap()
}

/// An address without TLS and PROXY protocol.
fn at(address: &Address) -> Target<'_> {
    static PLAIN: std::sync::LazyLock<Arc<Connector>> =
        std::sync::LazyLock::new(|| Connector::compile(&upstream(&["127.0.0.1:1"]), None).unwrap());
    Target::new(address, None, &PLAIN)
}

async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// A backend that reads one header and sends the response of `answer`; the task returns what it read
/// afterwards.
async fn backend<F>(answer: F) -> (Address, tokio::task::JoinHandle<(String, Vec<u8>)>)
where
    F: FnOnce(&str) -> Vec<u8> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        stream.write_all(&answer(&head)).await.unwrap();
        let mut rest = vec![0; 64];
        let length = stream.read(&mut rest).await.unwrap_or(0);
        rest.truncate(length);
        (head, rest)
    });
    (Address::Tcp(address), served)
}

/// An address that refuses connections: bound for a moment, never listened on.
async fn refusing() -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Address::Tcp(listener.local_addr().unwrap())
}

#[tokio::test]
async fn tcp_is_healthy_if_the_port_accepts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    probe("tcp", &[]).probe(&at(&address)).await.unwrap();
    assert!(probe("tcp", &[]).probe(&at(&refusing().await)).await.is_err());
}

#[tokio::test]
async fn tcp_knows_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let address = Address::Unix(path.clone());
    assert!(probe("tcp", &[]).probe(&at(&address)).await.is_err());
    let _listener = UnixListener::bind(path).unwrap();
    probe("tcp", &[]).probe(&at(&address)).await.unwrap();
}

#[tokio::test]
async fn http_sends_the_configured_request_and_judges_the_status() {
    let (address, served) = backend(|_| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()).await;
    let http =
        probe("http", &[("path", "/ok?x=1"), ("host", "app.test"), ("method", "HEAD"), ("expect", "204")]);
    http.probe(&at(&address)).await.unwrap();
    drop(http);
    let (head, _) = served.await.unwrap();
    assert!(head.starts_with("HEAD /ok?x=1 HTTP/1.1\r\nHost: app.test\r\n"), "{head}");
}

#[tokio::test]
async fn http_takes_lists_and_ranges_of_statuses() {
    for (expect, status, well) in [
        ("200-399", 302, true),
        ("[200, 300-302]", 302, true),
        ("[200, 300-301]", 302, false),
        ("200", 500, false),
    ] {
        let (address, _served) = backend(move |_| format!("HTTP/1.1 {status} X\r\n\r\n").into_bytes()).await;
        let outcome = probe("http", &[("expect", expect)]).probe(&at(&address)).await;
        assert_eq!(outcome.is_ok(), well, "{expect} {status}");
    }
}

#[tokio::test]
async fn a_response_that_is_no_http_or_has_no_end_is_unhealthy() {
    let endless = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 2 << 20]].concat();
    let fields = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(300), b"\r\n".to_vec()].concat();
    let unclear = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_vec();
    for answer in [b"SSH-2.0-OpenSSH\r\n".to_vec(), endless, fields, unclear] {
        let (address, _served) = backend(|_| answer).await;
        let outcome = probe("http", &[]).probe(&at(&address)).await;
        assert!(matches!(outcome, Err(Failure::Malformed(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn interim_responses_are_skipped_as_for_requests() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    for (status, well) in [(204, true), (503, false)] {
        let answer = format!("{interim}HTTP/1.1 {status} X\r\n\r\n").into_bytes();
        let (address, _served) = backend(|_| answer).await;
        assert_eq!(probe("http", &[]).probe(&at(&address)).await.is_ok(), well, "{status}");
    }
    let (address, _served) =
        backend(move |head| [interim.as_bytes(), &handshake(head, right)].concat()).await;
    probe("websocket", &[]).probe(&at(&address)).await.unwrap();
}

#[tokio::test]
async fn interim_responses_are_skipped_over_http2_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = ::h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        respond.send_informational(::http::Response::builder().status(103).body(()).unwrap()).unwrap();
        respond.send_response(::http::Response::builder().status(503).body(()).unwrap(), true).unwrap();
        while connection.accept().await.is_some() {}
    });
    let spec = crate::config::Upstream {
        protocol: placed(crate::config::UpstreamProtocol::H2c),
        ..upstream(&["127.0.0.1:1"])
    };
    let connector = Connector::compile(&spec, None).unwrap();
    let outcome = probe("http", &[]).probe(&Target::new(&address, None, &connector)).await;
    assert!(matches!(outcome, Err(Failure::Status(503))), "{outcome:?}");
}

#[tokio::test]
async fn a_header_as_large_as_requests_accept_is_healthy() {
    let fields = format!("a: {}\r\n", "x".repeat(1000)).repeat(200);
    for kind in ["http", "websocket"] {
        let fields = fields.clone();
        let (address, _served) = backend(move |head| {
            let answer =
                if kind == "http" { b"HTTP/1.1 200 OK\r\n\r\n".to_vec() } else { handshake(head, right) };
            String::from_utf8(answer).unwrap().replacen("\r\n", &format!("\r\n{fields}"), 1).into()
        })
        .await;
        probe(kind, &[]).probe(&at(&address)).await.unwrap();
    }
}

fn handshake(head: &str, accept: impl Fn(&str) -> String) -> Vec<u8> {
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept(key)
    )
    .into_bytes()
}

/// The accept key by an implementation other than ours.
fn right(key: &str) -> String {
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}

#[tokio::test]
async fn websocket_completes_a_handshake_and_sends_a_close() {
    let (address, served) = backend(|head| handshake(head, right)).await;
    probe("websocket", &[("path", "/ws"), ("protocols", "[chat, graphql-ws]")])
        .probe(&at(&address))
        .await
        .unwrap();
    let (head, frame) = served.await.unwrap();
    assert!(
        head.starts_with("GET /ws HTTP/1.1\r\n")
            && head.contains("Sec-WebSocket-Protocol: chat, graphql-ws\r\n")
    );
    let [0x88, 0x82, m0, m1, _, _, high, low] = frame[..] else { panic!("{frame:?} is no masked Close") };
    assert_eq!(u16::from_be_bytes([high ^ m0, low ^ m1]), 1000);
}

#[tokio::test]
async fn websocket_refuses_a_wrong_accept_and_what_is_no_handshake() {
    type Answer = fn(&str) -> Vec<u8>;
    let answers: [(&str, Answer); 8] = [
        ("wrong accept", |head| handshake(head, |_| right("another key"))),
        ("no upgrade", |head| {
            String::from_utf8(handshake(head, right)).unwrap().replace("Upgrade: W", "X: w").into()
        }),
        ("no connection", |head| {
            String::from_utf8(handshake(head, right)).unwrap().replace("upgrade\r\n", "x\r\n").into()
        }),
        ("a subprotocol that was not offered", |head| {
            String::from_utf8(handshake(head, right))
                .unwrap()
                .replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: x\r\n\r\n")
                .into()
        }),
        ("two subprotocols", |head| {
            let field = "\r\nSec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: x\r\n\r\n";
            String::from_utf8(handshake(head, right)).unwrap().replace("\r\n\r\n", field).into()
        }),
        ("an extension that was not offered", |head| {
            let field = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
            String::from_utf8(handshake(head, right)).unwrap().replace("\r\n\r\n", field).into()
        }),
        ("HTTP/1.0", |head| {
            String::from_utf8(handshake(head, right)).unwrap().replace("HTTP/1.1", "HTTP/1.0").into()
        }),
        ("a page", |_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
    ];
    for (what, answer) in answers {
        let (address, _served) = backend(answer).await;
        assert!(probe("websocket", &[]).probe(&at(&address)).await.is_err(), "{what}");
    }
}

#[test]
fn the_schedule_has_defaults_and_bounds() {
    let schedule = probe("http", &[]).schedule();
    assert_eq!(
        (schedule.interval.as_secs(), schedule.timeout.as_secs(), schedule.jitter.as_millis()),
        (5, 2, 500)
    );
    assert_eq!((schedule.thresholds.healthy_after.get(), schedule.thresholds.unhealthy_after.get()), (1, 3));
    for _ in 0..100 {
        assert!((5000..=5500).contains(&schedule.pause().as_millis()));
    }
}

#[test]
fn settings_are_checked() {
    let refused: &[(&str, &[(&str, &str)])] = &[
        ("tcp", &[("path", "/")]),
        ("tcp", &[("interval", "0s")]),
        ("tcp", &[("healthy_after", "0")]),
        ("http", &[("timeout", "1ms"), ("path", "nothing")]),
        ("http", &[("path", "/a b")]),
        ("http", &[("host", "a\r\nb")]),
        ("http", &[("method", "GET /")]),
        ("http", &[("expect", "600-200")]),
        ("http", &[("expect", "ok")]),
        ("http", &[("expect", "103")]),
        ("http", &[("expect", "100-299")]),
        ("websocket", &[("protocols", "[a b]")]),
    ];
    for (kind, pairs) in refused {
        let found = Kind::find(PROBES, "health check", kind).unwrap();
        assert!((found.build)(&settings(pairs)).is_err(), "{kind} {pairs:?}");
    }
    let both = Kind::find(PROBES, "health check", "http").unwrap();
    let problems = (both.build)(&settings(&[("timeout", "1ms"), ("path", "nothing")])).err().unwrap();
    assert_eq!(problems.0.len(), 2, "all at once");
}

#[test]
fn the_default_host_is_the_address() {
    let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 80)));
    assert_eq!(at(&address).authority(), "127.0.0.1:80");
    assert_eq!(at(&Address::Unix("/x".into())).authority(), "localhost");
}
