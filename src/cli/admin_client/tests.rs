//! Tests of the client against scripted responses on real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::testing::{FakeGateway, block_on, events, json};
use super::*;
use crate::cli::BAD_CONFIG;
use clap::Parser;
use serde_json::json;
use std::net::TcpListener;
use std::path::Path;

fn target() -> RequestTarget {
    RequestTarget::new("/api/v1/status")
}

fn get(response: &str) -> Result<Value, RequestError> {
    let response = response.to_owned();
    let gateway = FakeGateway::start(move |_| response.clone());
    block_on(gateway.client(None).get(&target()))
}

fn report(error: RequestError) -> String {
    CommandError::from(error).text().to_owned()
}

#[test]
fn a_body_of_every_framing_is_read() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}trailing",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"a\":1}",
        "HTTP/1.0 200 OK\r\n\r\n{\"a\":1}",
    ] {
        assert_eq!(get(response).unwrap(), json!({ "a": 1 }), "{response}");
    }
}

#[test]
fn an_incomplete_or_foreign_response_is_an_error() {
    for (response, part) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"a\":1}", "cannot reach"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n", "cannot reach"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "cannot reach"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<h1>", "its body is not JSON"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "is not that of a Moongate admin address"),
        ("HTTP/1.1 xyz\r\n\r\n", "is not that of a Moongate admin address"),
    ] {
        let said = report(get(response).unwrap_err());
        assert!(said.starts_with("error: ") && said.contains(part), "{response}: {said}");
        assert!(said.contains("  = help: check "), "{said}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", " ".repeat(LARGEST + 1));
    assert!(report(get(&endless).unwrap_err()).contains("too large"));
}

#[test]
fn each_status_has_an_error_with_help() {
    for (status, body, message, help) in [
        (401, r#"{"error":"unauthorized","status":401}"#, "requires another admin token", "--token-file"),
        (403, r#"{"error":"foreign_host","status":403}"#, "403 foreign_host", "IP address"),
        (403, r#"{"error":"tap_off","status":403}"#, "403 tap_off", "admin: { tap: true }"),
        (404, r#"{"error":"not_found","status":404}"#, "404 not_found", "another version"),
        (404, "<h1>Not Found</h1>\u{1b}", "404: <h1>Not Found</h1>\\u{1b}", "check the address"),
        (422, r#"{"error":"bad_filter","status":422,"detail":"no field `a`"}"#, "error: no field `a`", ""),
        (503, r#"{"error":"too_many_connections","status":503}"#, "503", "try again"),
    ] {
        let said = report(get(&json(status, body)).unwrap_err());
        assert!(said.contains(message) && said.contains(help), "{status}: {said}");
    }
    let usage = CommandError::from(get(&json(422, r#"{"error":"x","detail":"y"}"#)).unwrap_err());
    assert_eq!(usage, CommandError::usage("y"));
    let long = get(&json(500, &"é".repeat(4000))).unwrap_err();
    assert!(report(long).len() < 400);
}

#[test]
fn an_address_without_a_gateway_is_unreachable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = AdminClient::new(port.to_string().parse().unwrap(), None);
    let error = block_on(client.get(&target())).unwrap_err();
    assert!(error.is_temporary() && !error.is_timeout());
    assert!(report(error).starts_with(&format!("error: cannot reach the gateway at {port}: ")));
}

#[test]
fn a_silent_gateway_costs_no_more_than_the_limit() {
    let gateway = FakeGateway::start(|_| String::new());
    let limit = Duration::from_millis(50);
    let error = block_on(gateway.client(None).call(Method::GET, &target(), limit)).unwrap_err();
    assert!(error.is_timeout(), "{error}");
}

#[test]
fn requests_have_host_token_and_no_body() {
    let gateway = FakeGateway::start(|_| json(200, "{}"));
    block_on(gateway.client(Some("secret")).post(&RequestTarget::new("/api/v1/reload"))).unwrap();
    let head = gateway.requests().pop().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post /api/v1/reload http/1.1\r\n"), "{head}");
    for field in [format!("host: {}", gateway.address()), "authorization: bearer secret".to_owned()] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{head}");
    }
}

#[test]
fn a_stream_gives_its_events_and_ends() {
    let gateway =
        FakeGateway::start(|_| events(": ping\n\nevent: a\ndata: {}\n\nevent: b\ndata: 1\n\nevent: c\n"));
    block_on(async {
        let mut stream = gateway.client(None).stream(&target()).await.unwrap();
        for (name, data) in [("a", "{}"), ("b", "1")] {
            let event = stream.next().await.unwrap().unwrap();
            assert_eq!((event.name.as_str(), event.data.as_str()), (name, data));
        }
        assert_eq!(stream.next().await.unwrap(), None);
    });
}

#[test]
fn a_stream_of_another_type_is_refused() {
    let gateway = FakeGateway::start(|_| json(200, "{}"));
    let error = block_on(gateway.client(None).stream(&target())).unwrap_err();
    assert!(report(error).contains("not a stream of events"));
    let gateway = FakeGateway::start(|_| json(403, r#"{"error":"tap_off","status":403}"#));
    let error = block_on(gateway.client(None).stream(&target())).unwrap_err();
    assert_eq!(error.response("tap_off").unwrap().status, 403);
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    admin: AdminArguments,
}

/// The client of a command line.
fn client(arguments: &[&str]) -> Result<AdminClient, CommandError> {
    let line = Line::try_parse_from([&["moongate"], arguments].concat()).unwrap();
    line.admin.client(Duration::from_secs(60))
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn shown(client: &AdminClient) -> (&str, Option<&str>) {
    let token = client.token.as_ref().map(|token| token.to_str().unwrap());
    (client.address.as_str(), token)
}

#[test]
fn address_and_token_come_from_the_options_or_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, text: &str| file(folder.path(), name, text);
    let full = with("full.yaml", "admin: { address: 127.0.0.1:9901, token: of-file }\nroutes: []\n");
    // An invalid file with a readable admin address.
    let invalid = with("invalid.yaml", "admin: { address: 127.0.0.1:9902 }\nroutes: [{ upstraem: a }]\n");
    let token = with("token", "of-option\n");
    for (arguments, address, token) in [
        (&["-c", &full][..], "127.0.0.1:9901", Some("Bearer of-file")),
        (&["-c", &full, "--token-file", &token], "127.0.0.1:9901", Some("Bearer of-option")),
        (&["-c", &invalid], "127.0.0.1:9902", None),
        (&["--admin", "192.0.2.1:80"], "192.0.2.1:80", None),
        (&["--admin", "192.0.2.1:80", "-c", &full], "192.0.2.1:80", Some("Bearer of-file")),
    ] {
        assert_eq!(shown(&client(arguments).unwrap()), (address, token), "{arguments:?}");
    }
}

#[test]
fn an_unusable_file_or_token_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, text: &str| file(folder.path(), name, text);
    let none = with("none.yaml", "routes: []\n");
    let system = with("system.yaml", "admin: { address: 127.0.0.1:0 }\n");
    let (empty, odd) = (with("empty", "\n"), with("odd", "a\u{1}b"));
    let gateway = ["--admin", "127.0.0.1:1", "--token-file"];
    for (arguments, part) in [
        (vec!["-c", &none], "has no admin address"),
        (vec!["-c", &system], "has port 0"),
        ([&gateway[..], &[&empty]].concat(), "has no admin token"),
        ([&gateway[..], &[&odd]].concat(), "cannot contain"),
        ([&gateway[..], &["/no/such/file"]].concat(), "cannot be read"),
    ] {
        let error = client(&arguments).unwrap_err();
        assert!(error.text().contains(part), "{arguments:?}: {}", error.text());
        assert!(error.text().starts_with("error: "));
    }
    let broken = with("broken.yaml", "admin: [\n");
    let error = client(&["-c", &broken]).unwrap_err();
    assert_eq!(error, CommandError::report(error.text().to_owned(), BAD_CONFIG));
}
