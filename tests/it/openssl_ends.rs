//! Ends of TLS connections as OpenSSL sees them, through Python's `ssl` with `suppress_ragged_eofs=False`: a missing
//! close_notify (RFC 8446 §6.1) is an error there, also after a whole response or a closed WebSocket. Skipped without
//! Python.

use crate::support::certs::Authority;
use crate::support::raw::ask;
use crate::support::secured::quoted;
use crate::support::ws::{accepted, frame};
use crate::support::{Gateway, Next, Origin};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

/// An alert that is sometimes missing is missing in a few of these.
const TIMES: usize = 50;

const CLOSE: u8 = 8;

struct Setup {
    authority: Authority,
    gateway: Gateway,
}

/// Connections that are read to their end.
struct Readers {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Readers {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Readers {
    /// What each connection ended with.
    fn ends(mut self) -> Vec<String> {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success(), "{text}");
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn all_end_with(self, end: &str) {
        let ends = self.ends();
        let expected = format!("clean, {end}");
        assert_eq!(ends.len(), TIMES);
        let others: Vec<_> = ends.iter().filter(|end| **end != expected).collect();
        assert!(others.is_empty(), "{} of {TIMES} do not end with {expected}: {others:?}", others.len());
    }
}

fn has_python(test: &str) -> bool {
    let found = Command::new("python3").args(["-c", "import ssl"]).stderr(Stdio::null()).status();
    let is_there = found.is_ok_and(|status| status.success());
    if !is_there {
        #[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
        {
            eprintln!("{test} is not run: python3 is missing");
        }
    }
    is_there
}

impl Setup {
    fn start(server: &str, rest: &str) -> Self {
        let authority = Authority::new();
        let pair = authority.issue("a", &["localhost"]);
        let gateway = Gateway::start_whole(&format!(
            "admin: {{ address: 127.0.0.1:0 }}
server: {{ threads: 2{server} }}
listeners: [{{ name: web, address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: {}, key: {} }}] }} }}]
{rest}",
            quoted(&pair.cert),
            quoted(&pair.key)
        ));
        Self { authority, gateway }
    }

    /// Opens connections for this case.
    fn open(&self, case: &str) -> Readers {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/openssl_ends/client.py");
        let mut child = Command::new("python3")
            .args([script, &self.gateway.web().port().to_string()])
            .arg(self.authority.file())
            .args([case, &TIMES.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut readers = Readers { output: BufReader::new(child.stdout.take().unwrap()), child };
        let mut line = String::new();
        readers.output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{case}");
        readers
    }
}

#[test]
fn websockets_end_cleanly_for_openssl() {
    if !has_python("websockets_end_cleanly_for_openssl") {
        return;
    }
    let origin = Origin::named("a");
    let closing = Origin::scripted("closing", |seen, wire| {
        wire.send([accepted(seen, "").as_bytes(), &frame(CLOSE, &1000_u16.to_be_bytes())].concat());
        // The gateway's response.
        let _ = wire.fill();
        Next::Close
    });
    let close = "close_timeout: 200ms, drain_window: 0s";
    let setup = Setup::start(
        "",
        &format!(
            "upstreams: {{ drained: {{ endpoints: ['{origin}'] }} }}
routes:
  - {{ path: /idle, upstream: ['{origin}'], websocket: {{ idle_timeout: 300ms, {close} }} }}
  - {{ path: /closing, upstream: ['{closing}'], websocket: {{ {close} }} }}
  - {{ path: /drained, upstream: drained, websocket: {{ {close} }} }}
  - {{ upstream: ['{origin}'], websocket: {{ {close} }} }}
"
        ),
    );
    setup.open("websocket / client").all_end_with("1000");
    setup.open("websocket /closing").all_end_with("1000");
    setup.open("websocket /idle").all_end_with("1001");
    let drained = setup.open("websocket /drained");
    let order = format!(
        "POST /api/v1/upstreams/drained/endpoints/{origin}/drain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    let response = ask(setup.gateway.admin(), order);
    assert!(response.status < 300, "{}", response.text());
    drained.all_end_with("1012");
    let last = setup.open("websocket /");
    setup.gateway.signal("TERM");
    last.all_end_with("1012");
}

#[test]
fn connections_of_http_1_end_cleanly_for_openssl() {
    if !has_python("connections_of_http_1_end_cleanly_for_openssl") {
        return;
    }
    let origin = Origin::named("a");
    let routes = format!("routes: [{{ path: /plain, upstream: ['{origin}'] }}]");
    let setup = Setup::start(", keepalive_timeout: 300ms", &routes);
    setup.open("http close").all_end_with("200");
    setup.open("http idle").all_end_with("200");
    // Idle connections end when the process does.
    let setup = Setup::start("", &routes);
    let idle = setup.open("http idle");
    origin.await_seen(3 * TIMES);
    setup.gateway.signal("TERM");
    idle.all_end_with("200");
}

#[test]
fn connections_of_http_2_end_cleanly_for_openssl() {
    if !has_python("connections_of_http_2_end_cleanly_for_openssl") {
        return;
    }
    let origin = Origin::named("a");
    let routes = format!("routes: [{{ upstream: ['{origin}'] }}]");
    let setup = Setup::start(", keepalive_timeout: 300ms", &routes);
    setup.open("h2").all_end_with("GOAWAY 0");
    let setup = Setup::start("", &routes);
    let idle = setup.open("h2");
    origin.await_seen(2 * TIMES);
    setup.gateway.signal("TERM");
    idle.all_end_with("GOAWAY 0");
}
