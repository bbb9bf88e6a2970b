//! TLS server names that are no DNS names count as unknown, and the transcript is that of the client.

mod any_name_client;

use crate::moved_websockets::upgraded;
use crate::support::certs::{Authority, Pair, Secure, der};
use crate::support::ws::{handshake, masked};
use crate::support::{Gateway, Origin, Wire, eventually};
use crate::tls::{file, listed};
use any_name_client::{AnyNameClient, KeyShare};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ContentType, SupportedProtocolVersion};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

const VERSIONS: [(&SupportedProtocolVersion, &str); 2] = [(&TLS13, "TLSv1.3"), (&TLS12, "TLSv1.2")];

/// Names of programs that take them from `host:port` or a pattern, and others.
const NAMES: [&str; 12] = [
    "localhost:8443",
    "[::1]",
    "*.foo.com",
    "foo-.com",
    "a..b",
    "\u{fc}mlaut.example",
    ".a.example",
    "a.example:443",
    "a.example\0",
    "a.123",
    "-",
    "\"\r\nERROR x",
];

struct Setup {
    ca: Authority,
    default: Pair,
    origin: Origin,
    gateway: Gateway,
    secure: SocketAddr,
}

fn start(more: &str) -> Setup {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let default = ca.issue("default", &["default.example"]);
    let others = ca.issue("others", &["a.example", "*.foo.com", "localhost", "xn--mlaut-jva.example"]);
    let tls = format!("certificates: [{}, {}]{more}", listed(&default), listed(&others));
    let plugins = "
    plugins: [{ kind: headers, request: { set: { X-Name: '<{cel: request.tls.server_name}>' } } }]";
    let level = std::ffi::OsStr::new("info,moongate::server::tls_handshake=debug");
    let gateway = Gateway::start_whole_with("RUST_LOG", level, &file(&tls, &origin, plugins));
    let secure = gateway.listener("secure");
    Setup { ca, default, origin, gateway, secure }
}

impl Setup {
    fn failures(&self, reason: &str) -> f64 {
        let labels = [("listener", "secure"), ("reason", reason)];
        self.gateway.metrics().sum("moongate_tls_handshake_failures_total", &labels)
    }

    /// The connection gets responses, with the certificate for unknown names and without a name for plugins.
    #[track_caller]
    fn serves(&self, mut connection: Secure) {
        assert_eq!(connection.shown(), der(&self.default));
        for path in ["/1", "/2"] {
            let response = connection.get("a.example", path).unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, "a"));
        }
        let seen = self.origin.seen();
        assert_eq!(seen.last().unwrap().field("x-name"), Some("<>"));
    }
}

#[test]
fn a_name_that_is_no_dns_name_gets_the_certificate_for_unknown_names() {
    let long = format!("{}.example", "l".repeat(64));
    for more in ["", ", unknown_sni: default"] {
        let setup = start(more);
        for (version, label) in VERSIONS {
            for name in NAMES.into_iter().chain([&*long]) {
                let client = AnyNameClient::new(name.as_bytes(), version, KeyShare::Usable);
                setup.serves(client.connect(setup.secure).unwrap_or_else(|cut| panic!("{name}: {cut:?}")));
            }
            // Not UTF-8 either.
            let client = AnyNameClient::new(b"\xff\xfe.example", version, KeyShare::Usable);
            setup.serves(client.connect(setup.secure).unwrap());
            // An IP address is no name either, and counts as none (RFC 6066 §3).
            setup.serves(
                AnyNameClient::new(b"127.0.0.1", version, KeyShare::Usable).connect(setup.secure).unwrap(),
            );
            let labels = [("listener", "secure"), ("result", "full"), ("version", label)];
            let count = setup.gateway.metrics().sum("moongate_tls_handshakes_total", &labels);
            assert_eq!(count, NAMES.len() as f64 + 3.0);
        }
        assert_eq!(setup.failures("invalid_name"), 0.0);
        assert_eq!(setup.ca.client().get(setup.secure, "a.example", "/").unwrap().status, 200);
        assert_eq!(setup.origin.seen().last().unwrap().field("x-name"), Some("<a.example>"));
    }
}

#[test]
fn a_name_that_is_no_dns_name_is_rejected_if_configured() {
    let setup = start(", unknown_sni: reject");
    for (version, _) in VERSIONS {
        for name in NAMES {
            let mark = setup.gateway.log().mark();
            let client = AnyNameClient::new(name.as_bytes(), version, KeyShare::Usable);
            let cut = client.connect(setup.secure).unwrap_err();
            assert_eq!(cut.alert(), Some(AlertDescription::UnrecognisedName), "{name}: {cut:?}");
            let line =
                setup.gateway.log().wait(mark, &["TLS handshake failed listener=secure client=127.0.0.1:"]);
            let cause = format!("{:?}", format!("no certificate for {name}"));
            assert!(line.ends_with(&format!(" reason=unknown_name error={cause}")), "{line}");
        }
    }
    let count = (2 * NAMES.len()) as f64;
    eventually("all are counted", || (setup.failures("unknown_name") == count).then_some(()));
    assert_eq!(setup.origin.count(), 0);
    assert_eq!(setup.ca.client().get(setup.secure, "a.example", "/").unwrap().text(), "a");
}

#[test]
fn a_served_name_has_no_line_in_the_log() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let tls = format!("certificates: [{}]", listed(&ca.issue("a", &["a.example"])));
    let gateway = Gateway::start_whole(&file(&tls, &origin, ""));
    let secure = gateway.listener("secure");
    for name in [&b"localhost:8443"[..], b"127.0.0.1"] {
        let mark = gateway.log().mark();
        let client = AnyNameClient::new(name, &TLS13, KeyShare::Usable);
        assert_eq!(client.connect(secure).unwrap().get("a.example", "/").unwrap().status, 200);
        // A line after it.
        gateway.reload_whole(&file(&tls, &origin, "")).unwrap();
        gateway.log().wait(mark, &["reload"]);
        let text = gateway.log().text();
        assert!(!text.contains("SNI") && !text.contains("localhost:8443"), "{text}");
    }
}

#[test]
fn sessions_of_such_names_are_resumed() {
    let setup = start("");
    for (version, label) in VERSIONS {
        for share in [KeyShare::Usable, KeyShare::Unusable] {
            let client = AnyNameClient::new(b"localhost:8443", version, share);
            for resumed in [false, true, true] {
                let connection = client.connect(setup.secure).unwrap();
                assert_eq!(connection.is_resumed(), resumed, "{label}");
                setup.serves(connection);
            }
        }
    }
}

#[test]
fn a_hello_retry_request_is_followed() {
    let setup = start("");
    for name in NAMES {
        let client = AnyNameClient::new(name.as_bytes(), &TLS13, KeyShare::Unusable);
        let connection = client.connect(setup.secure).unwrap_or_else(|cut| panic!("{name}: {cut:?}"));
        let kind = rustls::HandshakeKind::FullWithHelloRetryRequest;
        assert_eq!(connection.session.handshake_kind(), Some(kind), "{name}");
        setup.serves(connection);
    }
    // The second ClientHello has the same name (RFC 8446 §4.1.2).
    let retried = |name: &[u8], second: &[u8]| {
        let client = AnyNameClient::with(name, Some(second), &TLS13, KeyShare::Unusable, None);
        client.connect(setup.secure).unwrap_err()
    };
    let cut = retried(b"localhost:8443", b"localhost:8444");
    assert_eq!(cut.alert(), Some(AlertDescription::IllegalParameter), "{cut:?}");
    eventually("it is counted", || (setup.failures("invalid_name") == 1.0).then_some(()));
    retried(b"a.ex:mple", b"a.example");
    eventually("it is counted", || (setup.failures("malformed") == 1.0).then_some(()));
}

#[test]
fn a_client_hello_arrives_in_any_records_and_segments() {
    let setup = start("");
    // Records of that many bytes, and segments of that many bytes.
    for (record, segment) in [(1, 1 << 14), (3, 100), (50, 1), (1 << 14, 7), (70, 71)] {
        let pieces = |flight: Vec<u8>| {
            let mut bytes = Vec::new();
            let mut rest = &flight[..];
            while let [kind, major, minor, high, low, after @ ..] = rest {
                let (content, after) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
                rest = after;
                // Encrypted records stay as they are.
                let is_hello = *kind == u8::from(ContentType::Handshake) && content.first() == Some(&1);
                for content in content.chunks(if is_hello { record } else { content.len() }) {
                    bytes.extend([*kind, *major, *minor]);
                    bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
                    bytes.extend(content);
                }
            }
            bytes.chunks(segment).map(<[u8]>::to_vec).collect()
        };
        for (version, _) in VERSIONS {
            for share in [KeyShare::Usable, KeyShare::Unusable] {
                let client = AnyNameClient::new(b"localhost:8443", version, share);
                let connection = client.connect_in_pieces(setup.secure, pieces);
                setup.serves(connection.unwrap_or_else(|cut| panic!("{record} {segment}: {cut:?}")));
            }
        }
    }
}

#[test]
fn client_certificates_are_verified() {
    let (ca, other) = (Authority::new(), Authority::new());
    let origin = Origin::named("a");
    let pair = ca.issue("a", &["a.example"]);
    let (alice, mallory) = (ca.issue("alice", &["alice"]), other.issue("mallory", &["alice"]));
    let tls = format!("certificates: [{}], client_auth: {{ ca: {} }}", listed(&pair), ca.file().display());
    let plugins = "
    plugins: [{ kind: headers, request: { set: { X-Client: '{cel: request.tls.client.subject}' } } }]";
    let gateway = Gateway::start_whole(&file(&tls, &origin, plugins));
    let secure = gateway.listener("secure");
    for (version, label) in VERSIONS {
        let client = |shows| AnyNameClient::with(b"[::1]", None, version, KeyShare::Usable, shows);
        let alice = client(Some(&alice));
        for resumed in [false, true] {
            let mut connection = alice.connect(secure).unwrap_or_else(|cut| panic!("{label}: {cut:?}"));
            assert_eq!(connection.is_resumed(), resumed, "{label}");
            assert_eq!(connection.get("a.example", "/").unwrap().status, 200);
            assert_eq!(origin.seen().last().unwrap().field("x-client"), Some("CN=alice"));
        }
        for (shows, alert) in
            [(None, AlertDescription::CertificateRequired), (Some(&mallory), AlertDescription::UnknownCA)]
        {
            let ended =
                client(shows).connect(secure).and_then(|mut connection| connection.get("a.example", "/"));
            assert_eq!(ended.unwrap_err().alert(), Some(alert), "{label}");
        }
    }
}

#[test]
fn a_websocket_with_such_a_name_moves_to_a_new_process() {
    let setup = start("");
    for share in [KeyShare::Usable, KeyShare::Unusable] {
        let mut secure = AnyNameClient::new(b"localhost:8443", &TLS13, share).connect(setup.secure).unwrap();
        assert_eq!(secure.ask(&handshake("/", "")).unwrap().status, 101);
        let mut echo = |text: &[u8]| {
            secure.send(&masked(1, text)).unwrap();
            assert_eq!(secure.exactly(2 + text.len()).unwrap()[2..], *text);
        };
        echo(b"before");
        assert_eq!(upgraded(&setup.gateway), (1, 0));
        echo(b"after");
        drop(secure);
        setup.origin.await_sockets(0);
    }
}

#[test]
fn a_client_hello_that_cannot_be_served_gets_an_alert() {
    let setup = start("");
    let config = setup.ca.client().config;
    let hello = |name: &[u8], replaced: [&[u8]; 2]| {
        let valid = "x".repeat(name.len());
        let name_of_hello = rustls::pki_types::ServerName::try_from(valid.clone()).unwrap();
        let mut hello = Vec::new();
        let config = std::sync::Arc::new(config.clone());
        rustls::ClientConnection::new(config, name_of_hello).unwrap().write_tls(&mut hello).unwrap();
        for [from, to] in [[valid.as_bytes(), name], replaced] {
            let at = hello.windows(from.len()).position(|bytes| bytes == from).unwrap();
            hello[at..at + to.len()].copy_from_slice(to);
        }
        hello
    };
    // The extension of the points' formats becomes the one that replaces a name: a ClientHello that no known client sends.
    let points = [&[0, 11, 0, 2, 1, 0][..], &[0xff, 0x4d, 0, 2, 1, 0]];
    let mut wire = Wire::connect(setup.secure);
    wire.send(hello(b"localhost:8443", points));
    // illegal_parameter
    assert_eq!(wire.rest(), [21, 3, 3, 0, 2, 2, 47]);
    eventually("it is counted", || (setup.failures("invalid_name") == 1.0).then_some(()));
    setup
        .gateway
        .log()
        .wait(0, &["TLS handshake failed listener=secure client=127.0.0.1:", "reason=invalid_name"]);
    // With a DNS name, it is an unknown extension.
    let mut wire = Wire::connect(setup.secure);
    wire.send(hello(b"a.example", points));
    assert_eq!(wire.exactly(1).unwrap(), [22], "a ServerHello");
    // Invalid in another way: an extension beyond the end.
    let mut cut = hello(b"localhost:8443", points);
    let at = cut.windows(2).position(|bytes| bytes == [0xff, 0x4d]).unwrap();
    cut[at + 2] = 0xff;
    let mut wire = Wire::connect(setup.secure);
    wire.send(cut);
    // decode_error
    assert_eq!(wire.rest(), [21, 3, 3, 0, 2, 2, 50]);
    eventually("it is counted", || (setup.failures("malformed") == 1.0).then_some(()));
}

/// The output of `openssl s_client` for a request.
fn openssl(address: SocketAddr, options: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-ign_eof"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    // A failed handshake ends it before.
    let _ = child.stdin.take().unwrap().write_all(request);
    let output = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn openssl_connects_with_such_names() {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        // Not by a macro, whose output is hidden for a test that passes.
        writeln!(std::io::stderr(), "skipped: there is no openssl here (apt-get install openssl)").unwrap();
        return;
    }
    let (default, reject) = (start(""), start(", unknown_sni: reject"));
    let sessions = tempfile::tempdir().unwrap();
    let session = sessions.path().join("session");
    let session = session.to_str().unwrap();
    for version in ["-tls1_3", "-tls1_2"] {
        for name in ["localhost:8443", "[::1]", "*.foo.com", "foo-.com", "a..b", "\u{fc}mlaut.example"] {
            let name = ["-servername", name, version];
            let served = |more: &[&str], kind: &str| {
                let output = openssl(default.secure, &[&name[..], more].concat());
                assert!(output.contains("HTTP/1.1 200"), "{name:?} {more:?}\n{output}");
                assert!(
                    output.contains("subject=CN = default") || output.contains("subject=CN=default"),
                    "{output}"
                );
                assert!(output.contains(&format!("\n{kind}, TLSv1.")), "{name:?} {more:?}\n{output}");
            };
            served(&["-sess_out", session], "New");
            served(&["-sess_in", session, "-sess_out", session], "Reused");
            served(&["-sess_in", session], "Reused");
            // The gateway does not have the first group, so that TLS 1.3 needs a HelloRetryRequest.
            let groups = ["-groups", "P-521:P-256"];
            served(&groups, "New");
            served(&[&["-sess_in", session], &groups[..]].concat(), "Reused");
            let output = openssl(reject.secure, &name);
            assert!(output.contains("alert number 112"), "{name:?}\n{output}");
        }
    }
}
