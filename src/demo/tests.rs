//! The demo backends over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::{Backends, Error, Facts, banner, live_page, loopback};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;
use tungstenite::{Message, WebSocket};

/// A backend that runs until dropped.
struct Running {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

fn start() -> Running {
    start_with_admin(None)
}

fn start_with_admin(admin: Option<SocketAddr>) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let backends = runtime.block_on(Backends::bind(&[any])).unwrap();
    let address = backends.addresses()[0].1;
    runtime.spawn(backends.with_admin(admin).serve());
    Running { address, _runtime: runtime }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends everything, and reads until the backend closes.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // A reset after the response is acceptable: only the bytes before it matter.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn open(address: SocketAddr, path: &str) -> (WebSocket<TcpStream>, serde_json::Value) {
    let (mut socket, _) = tungstenite::client(format!("ws://{address}{path}"), connect(address)).unwrap();
    let protocols = socket.read().unwrap();
    (socket, serde_json::from_str(protocols.to_text().unwrap()).unwrap())
}

#[test]
fn the_page_has_no_external_references() {
    let running = start();
    let answer = exchange(running.address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("X-Backend: blue\r\n") && answer.ends_with("</html>\n"));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!answer.contains(outside), "the page refers to {outside}");
    }
}

#[test]
fn the_page_links_to_the_live_page() {
    let running = start_with_admin(live_page("127.0.0.1:9901"));
    let answer = exchange(running.address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.contains(r#"<a href="http://127.0.0.1:9901/" "#), "{answer}");
}

#[test]
fn the_live_page_is_reached_by_loopback_if_it_listens_on_all_addresses() {
    for (written, reached) in [
        ("127.0.0.1:9901", Some("127.0.0.1:9901")),
        ("0.0.0.0:9901", Some("127.0.0.1:9901")),
        ("[::]:9901", Some("[::1]:9901")),
        ("192.0.2.1:9901", Some("192.0.2.1:9901")),
        ("127.0.0.1:0", None),
        ("localhost:9901", None),
    ] {
        assert_eq!(live_page(written).map(|address| address.to_string()).as_deref(), reached, "{written}");
    }
}

#[test]
fn whoami_names_the_backend_and_the_request() {
    let running = start();
    let request = b"GET /whoami?a=1 HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    let answer = exchange(running.address, request);
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["backend"], "blue");
    assert_eq!(body["host"], "shop");
    assert_eq!(body["forwarded_for"], "192.0.2.1");
    assert_eq!(body["served"], 1);
}

#[test]
fn requests_in_a_row_are_answered_in_order_and_bodies_skipped() {
    let running = start();
    let answer = exchange(
        running.address,
        b"POST /whoami HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\
          HEAD / HTTP/1.1\r\nHost: x\r\n\r\n\
          GET /health HTTP/1.1\r\nHost: x\r\n\r\n\
          GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n\
          GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|part| &part[..3]).collect();
    assert_eq!(statuses, ["405", "200", "200", "404"], "{answer}");
    assert!(!answer.contains("<html"), "a HEAD got a body");
}

#[test]
fn any_path_greets_and_echoes() {
    let running = start();
    let (mut first, protocols) = open(running.address, "/acts_competition/3");
    assert_eq!(protocols, serde_json::json!({"backend": "blue", "n": 1, "path": "/acts_competition/3"}));
    let (_second, protocols) = open(running.address, "/ws");
    assert_eq!(protocols["n"], 2);

    for message in [Message::text("hello"), Message::binary(vec![7; 100_000])] {
        first.send(message.clone()).unwrap();
        assert_eq!(first.read().unwrap(), message);
    }
    first.close(None).unwrap();
    assert!(matches!(first.read().unwrap(), Message::Close(_)));
}

#[test]
fn a_probe_is_greeted_but_not_counted() {
    let running = start();
    let (_probe, protocols) = open(running.address, "/health");
    assert_eq!(protocols["n"], 0);
    let (_visitor, protocols) = open(running.address, "/ws");
    assert_eq!(protocols["n"], 1);
    let answer = exchange(running.address, b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.contains(r#""websockets":1"#), "{answer}");
}

#[test]
fn an_invalid_handshake_gets_a_matching_status() {
    let running = start();
    let handshake = |line: &str, version: &str, key: &str| {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        exchange(running.address, head.as_bytes())
    };
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let right = handshake("GET /ws", "13", key);
    assert!(right.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{right}");
    let old = handshake("GET /ws", "8", key);
    assert!(old.starts_with("HTTP/1.1 426 ") && old.contains("Sec-WebSocket-Version: 13\r\n"), "{old}");
    assert!(handshake("GET /ws", "13", "dG9vIHNob3J0").starts_with("HTTP/1.1 400 "));
    assert!(handshake("POST /ws", "13", key).starts_with("HTTP/1.1 405 "));
}

#[test]
fn malformed_requests_end_only_their_own_connection() {
    let running = start();
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200));
    let cases: [(&[u8], &str); 7] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", "413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "411"),
        (long.as_bytes(), "431"),
        (many.as_bytes(), "431"),
        (b"GET / HTT", ""),
    ];
    for (bytes, status) in cases {
        let answer = exchange(running.address, bytes);
        assert_eq!(answer.get(9..12).unwrap_or(""), status, "{}", String::from_utf8_lossy(bytes));
    }
    assert!(exchange(running.address, b"GET /health HTTP/1.0\r\n\r\n").ends_with("ok\n"));
}

#[test]
fn a_dropped_backend_closes_its_sockets() {
    let running = start();
    let (mut socket, _) = open(running.address, "/ws");
    drop(running);
    assert!(socket.read().is_err());
}

#[test]
fn a_taken_port_is_named() {
    let running = start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(Backends::bind(&[running.address])).unwrap_err();
    assert!(matches!(refused, Error::Taken(address) if address == running.address));
    assert!(refused.to_string().starts_with(&format!("{} is in use: ", running.address)));
    assert!(matches!(runtime.block_on(Backends::bind(&[])), Err(Error::NothingToPlay)));
}

#[test]
fn loopback_endpoints_are_served_once_and_others_never() {
    let written = [
        "127.0.0.1:8081",
        "192.0.2.1:80",
        "backend.local:80",
        "[::1]:8082",
        "unix:/run/x",
        "127.0.0.1:8081",
        "127.0.0.1:0",
    ];
    let played: Vec<SocketAddr> = vec!["127.0.0.1:8081".parse().unwrap(), "[::1]:8082".parse().unwrap()];
    assert_eq!(loopback(written.into_iter()), played);
}

#[test]
fn the_banner_names_the_actual_addresses() {
    let backends = [("blue".to_owned(), "127.0.0.1:8081".parse().unwrap())];
    let facts = Facts {
        gateway: "127.0.0.1:8080",
        admin: live_page("127.0.0.1:9901"),
        config: "conf/moongate.yaml",
        pid: 4711,
        backends: &backends,
    };
    let text = banner(&facts);
    for fact in [
        "http://127.0.0.1:8080/",
        "blue",
        "127.0.0.1:8081",
        "http://127.0.0.1:9901/",
        "kill -HUP 4711",
        "conf/moongate.yaml",
    ] {
        assert!(text.contains(fact), "{fact} is missing in:{text}");
    }
    assert!(!banner(&Facts { admin: None, ..facts }).contains("admin"));
}
