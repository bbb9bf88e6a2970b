//! Names of fields over HTTP/1.1 keep spelling and order, and what the gateway adds is written as usual programs do. Some
//! clients and servers compare names by their bytes.

use crate::support::h2ws::Client;
use crate::support::{Gateway, Next, Origin, Wire};
use tungstenite::handshake::derive_accept_key;

/// The lines of a header without the first one.
fn lines(head: &str) -> Vec<&str> {
    head.trim_end().split("\r\n").skip(1).collect()
}

/// A request for a WebSocket in an unusual spelling and order.
const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nuPGRADE: websocket\r\nX-oNE: 1\r\nsec-WebSocket-kEY: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    hOST: localhost\r\nCOOKIE: a=1\r\nX-One: 2\r\nconnection: Upgrade\r\nSEC-WEBSOCKET-VERSION: 13\r\nx-ONE: 3\r\n\r\n";

#[test]
fn a_handshake_keeps_spelling_and_order_in_both_directions() {
    let origin = Origin::scripted("a", |seen, wire| {
        let accept = derive_accept_key(seen.field("sec-websocket-key").unwrap().as_bytes());
        wire.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nX-b: 1\r\nSEC-WebSocket-aCCEPT: {accept}\r\nUpgradE: websocket\r\n\
             SeRVer: x\r\nx-B: 2\r\nconnectioN: Upgrade\r\n\r\n"
        ));
        Next::Keep
    });
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    let mut wire = Wire::connect(gateway.web());
    wire.send(HANDSHAKE);
    let head = String::from_utf8(wire.head().unwrap().unwrap()).unwrap();
    assert_eq!(
        lines(&head),
        [
            "X-b: 1",
            "SEC-WebSocket-aCCEPT: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "UpgradE: websocket",
            "SeRVer: x",
            "x-B: 2",
            "connectioN: Upgrade",
        ]
    );
    let seen = &origin.seen()[0];
    let sent = lines(HANDSHAKE);
    assert_eq!(lines(&seen.head)[..sent.len()], sent);
    for added in &lines(&seen.head)[sent.len()..] {
        let name = added.split(':').next().unwrap();
        assert!(
            ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-ID"].contains(&name),
            "{added}"
        );
    }
}

#[test]
fn requests_responses_and_interim_responses_keep_spelling_and_order() {
    let origin = Origin::fixed(
        "HTTP/1.1 103 Early Hints\r\nX-b: 1\r\nliNK: </a>\r\nx-B: 2\r\n\r\n\
         HTTP/1.1 200 OK\r\nX-b: 1\r\neTAG: \"x\"\r\nContent-LENGTH: 0\r\nx-B: 2\r\nWww-aUTHENTICATE: y\r\n\r\n",
        Next::Close,
    );
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{origin}'] }}]"));
    let sent = "POST /a HTTP/1.1\r\nX-oNE: 1\r\nhOST: localhost\r\nX-One: 2\r\ncontent-LENGTH: 1\r\nx-ONE: 3\r\n\r\n";
    let mut wire = Wire::connect(gateway.web());
    wire.send(format!("{sent}x"));
    let interim = String::from_utf8(wire.head().unwrap().unwrap()).unwrap();
    assert_eq!(lines(&interim), ["X-b: 1", "liNK: </a>", "x-B: 2"]);
    let head = String::from_utf8(wire.head().unwrap().unwrap()).unwrap();
    let expected = ["X-b: 1", "eTAG: \"x\"", "Content-LENGTH: 0", "x-B: 2", "Www-aUTHENTICATE: y"];
    assert_eq!(lines(&head)[..expected.len()], expected);
    for added in &lines(&head)[expected.len()..] {
        assert!(["Date", "Connection"].contains(&added.split(':').next().unwrap()), "{added}");
    }
    let seen = &origin.seen()[0];
    assert_eq!(lines(&seen.head)[..5], lines(sent)[..]);
}

#[test]
fn what_http_2_brings_and_the_gateway_says_is_written_as_usual_programs_do() {
    let origin = Origin::named("a");
    let gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [h2c, http1] }}]
routes:
  - {{ upstream: ['{origin}'], path: /ws }}
  - {{ path: /own, plugins: [{{ kind: respond, status: 401, headers: {{ www-authenticate: Basic, x-request-id: a, etag: b }} }}] }}
"
    ));
    let client = Client::plain(gateway.web());
    let mut socket =
        client.open_with("/ws", &[("x-my-ip", "1"), ("dnt", "1"), ("x-own-name", "1")]).ok().unwrap();
    socket.echo("hello");
    let seen = &origin.seen()[0];
    let names: Vec<_> =
        lines(&seen.head).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(names[0], "Host");
    for name in [
        "Connection",
        "Upgrade",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "X-Forwarded-For",
        "X-My-IP",
        "DNT",
        "X-Own-Name",
    ] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
    let response = gateway.get("/own");
    for name in ["\r\nWWW-Authenticate: ", "\r\nX-Request-ID: ", "\r\nETag: ", "\r\nContent-Length: "] {
        assert!(response.head.contains(name), "{name}: {}", response.head);
    }
    let missing = gateway.get("/none");
    assert!(missing.head.contains("\r\nContent-Type: "), "{}", missing.head);
}

#[test]
fn fields_of_a_connection_stand_where_they_were_received() {
    let date = "daTE: Thu, 01 Jan 1970 00:00:00 GMT";
    let origin = Origin::fixed(
        format!(
            "HTTP/1.1 200 OK\r\nX-b: 1\r\n{date}\r\nconnectioN: keep-alive, X-gone\r\nX-gone: 1\r\n\
             transfer-ENCODING: chunked\r\nx-B: 2\r\n\r\n0\r\n\r\n"
        ),
        Next::Keep,
    );
    let gateway = Gateway::start(&format!(
        "upstreams: {{ closing: {{ endpoints: ['{origin}'], keepalive_timeout: 0s }} }}
routes: [{{ path: /closing, upstream: closing }}, {{ upstream: ['{origin}'] }}]"
    ));
    let sent = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nX-oNE: 1\r\ntransfer-ENCODING: Chunked\r\nhOST: localhost\r\n\
             connectioN: te, keep-alive, X-gone\r\nX-One: 2\r\ntE: gzip;q=0.5, trailers\r\nX-gone: 1\r\nx-ONE: 3\r\n\r\n"
        )
    };
    for (path, options) in [("/open", "TE"), ("/closing", "close, TE")] {
        let mut wire = Wire::connect(gateway.web());
        wire.send(format!("{}1\r\nx\r\n0\r\n\r\n", sent(path)));
        let response = wire.response();
        assert_eq!(
            lines(&response.head),
            ["X-b: 1", date, "connectioN: keep-alive", "transfer-ENCODING: chunked", "x-B: 2"]
        );
        let seen = origin.seen().pop().unwrap();
        let connection = format!("connectioN: {options}");
        let expected = [
            "X-oNE: 1",
            "transfer-ENCODING: chunked",
            "hOST: localhost",
            &connection,
            "X-One: 2",
            "tE: trailers",
            "x-ONE: 3",
        ];
        assert_eq!(lines(&seen.head)[..expected.len()], expected);
    }
}

#[test]
fn a_large_header_keeps_spelling_and_order_too() {
    // More than are searched one by one, with empty values, which have no place in memory.
    let many: Vec<_> = (0..200)
        .map(|number| format!("{}-{number}: {}", if number % 2 == 0 { "X-a" } else { "x-A" }, number % 3))
        .chain((0..20).map(|_| "X-eMPTY: ".to_owned()))
        .collect();
    let origin = Origin::fixed(
        format!("HTTP/1.1 200 OK\r\n{}\r\nContent-LENGTH: 0\r\n\r\n", many.join("\r\n")),
        Next::Keep,
    );
    let gateway = Gateway::start(&format!(
        "routes: [{{ upstream: ['{origin}'], plugins: [{{ kind: headers, request: {{ set: {{ x-a-150: new }} }}, \
         response: {{ set: {{ x-a-150: new }} }} }}] }}]"
    ));
    let changed: Vec<_> = many.iter().map(|line| line.replace("X-a-150: 0", "X-a-150: new")).collect();
    let mut wire = Wire::connect(gateway.web());
    wire.send(format!("GET /a HTTP/1.1\r\nhOST: localhost\r\n{}\r\n\r\n", many.join("\r\n")));
    let response = wire.response();
    assert_eq!(lines(&response.head)[..changed.len()], changed);
    assert_eq!(lines(&origin.seen()[0].head)[1..=changed.len()], changed);
}
