//! The PROXY protocol from load balancers: raw headers in any form, and HAProxy itself. 127.0.0.1 is the load
//! balancer; other loopback addresses are not.

// Only Linux treats every address of 127.0.0.0/8 as local.
#![cfg(target_os = "linux")]

use crate::support::raw::{Wire, fields};
use crate::support::{Gateway, LIMIT, Origin, Response, eventually};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const ERRORS: &str = "moongate_proxy_protocol_errors_total";

/// A gateway that accepts headers from 127.0.0.1, with more settings of the listener and of the process.
fn gateway(origin: &Origin, listener: &str, server: &str) -> Gateway {
    Gateway::start_whole(&configuration(origin, "127.0.0.1", listener, server))
}

fn configuration(origin: &Origin, from: &str, listener: &str, server: &str) -> String {
    format!(
        "server: {{ {server} }}
admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0, proxy_protocol: {{ from: [{from}] }}{listener} }}]
routes: [{{ upstream: ['{origin}'] }}]"
    )
}

/// Version 1.
fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 192.0.2.250 4711 443\r\n").into_bytes()
}

/// Version 2 with that command, family and block.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, block].concat()
}

/// The client 192.0.2.9 in version 2, with these TLVs.
fn v2_client(elements: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&[192, 0, 2, 9, 192, 0, 2, 250, 0x12, 0x67, 0x01, 0xbb], elements].concat())
}

/// A connection from that address.
fn from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.set_write_timeout(Some(LIMIT)).unwrap();
    socket.into()
}

/// A request after these bytes, in one write.
fn ask(gateway: &Gateway, header: &[u8]) -> Response {
    let mut wire = gateway.wire();
    wire.send([header, GET.as_bytes()].concat());
    wire.response()
}

/// The client of the latest request, as the backend received it.
fn told(origin: &Origin) -> String {
    let seen = origin.seen().pop().unwrap();
    fields(&seen.head, "x-forwarded-for").collect::<Vec<_>>().join(" and ")
}

fn refused(gateway: &Gateway, reason: &str, count: f64) {
    let labels = [("listener", "web"), ("reason", reason)];
    eventually(&format!("{count} refused as {reason}"), || {
        (gateway.metrics().sum(ERRORS, &labels) == count).then_some(())
    });
}

#[test]
fn a_header_sets_the_client() {
    let origin = Origin::named("a");
    let gateway = gateway(&origin, "", "");
    // A padding TLV longer than the first peek.
    let padding = [&[4, 0x0e, 0][..], &[0; 0x0e00]].concat();
    let six = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9][..], &[0; 16], &[0; 4]].concat();
    for (header, client) in [
        (v1("192.0.2.7"), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.8 ::1 1 2\r\n".to_vec(), "192.0.2.8"),
        (v2_client(&[]), "192.0.2.9"),
        (v2_client(&padding), "192.0.2.9"),
        (v2(0x21, 0x21, &six), "2001:db8::9"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN 1.2.3.4 whatever\r\n".to_vec(), "127.0.0.1"),
        (v2(0x20, 0, &[]), "127.0.0.1"),
        (v2(0x20, 0x11, &[1; 12]), "127.0.0.1"),
        (v2(0x21, 0, &[]), "127.0.0.1"),
        (v2(0x21, 0x31, &[0; 216]), "127.0.0.1"),
    ] {
        let shown = String::from_utf8_lossy(&header).into_owned();
        let response = ask(&gateway, &header);
        assert_eq!((response.status, &*told(&origin)), (200, client), "{shown:?}");
    }
    assert!(!gateway.metrics().has(ERRORS, &[]));
    // The header applies to the whole connection, and a second header is no request.
    let mut wire = gateway.wire();
    wire.send([&v1("192.0.2.7")[..], GET.as_bytes(), GET.as_bytes()].concat());
    for _ in 0..2 {
        assert_eq!((wire.response().status, &*told(&origin)), (200, "192.0.2.7"));
    }
    wire.send([&v1("192.0.2.8")[..], GET.as_bytes()].concat());
    assert_eq!(wire.response().status, 400);
}

#[test]
fn a_header_may_come_in_any_pieces() {
    let origin = Origin::named("a");
    let gateway = gateway(&origin, "", "");
    for (header, client) in [(v1("192.0.2.7"), "192.0.2.7"), (v2_client(&[4, 0, 2, 0, 0]), "192.0.2.9")] {
        let whole = [&header[..], GET.as_bytes()].concat();
        for cut in 1..header.len() + 2 {
            let mut wire = gateway.wire();
            wire.send(&whole[..cut]);
            // A response on another connection: time for the first piece to be read alone.
            assert_eq!(ask(&gateway, &v1("192.0.2.1")).status, 200);
            wire.send(&whole[cut..]);
            assert_eq!((wire.response().status, &*told(&origin)), (200, client), "cut at {cut}");
        }
        let mut wire = gateway.wire();
        whole.iter().for_each(|byte| wire.send([*byte]));
        assert_eq!((wire.response().status, &*told(&origin)), (200, client));
    }
    assert!(!gateway.metrics().has(ERRORS, &[]));
}

#[test]
fn what_is_no_header_ends_the_connection() {
    let origin = Origin::named("a");
    let gateway = gateway(&origin, "", "");
    let endless = [&b"PROXY UNKNOWN "[..], &[b'a'; 200], b"\r\n"].concat();
    let mut checksum = v2_client(&[3, 0, 4, 1, 2, 3, 4]);
    checksum.extend_from_slice(GET.as_bytes());
    for (bytes, reason) in [
        (GET.as_bytes().to_vec(), "missing"),
        (b"\x16\x03\x01\x02\0\x01".to_vec(), "missing"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "missing"),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(), "missing"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 80\r\nGET / HTTP/1.1\r\n\r\n".to_vec(), "malformed"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 +80 80\r\n".to_vec(), "malformed"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 80 80\n".to_vec(), "malformed"),
        (v2(0x22, 0x11, &[0; 12]), "malformed"),
        (v2(0x21, 0x41, &[0; 12]), "malformed"),
        (v2(0x21, 0x11, &[0; 11]), "malformed"),
        (v2_client(&[4, 0, 9]), "malformed"),
        (endless, "too_long"),
        (v2(0x20, 0, &[0; 8000]), "too_long"),
        (checksum, "checksum"),
    ] {
        let labels = [("listener", "web"), ("reason", reason)];
        let before = gateway.metrics().sum(ERRORS, &labels);
        let mut wire = gateway.wire();
        // The connection may be closed before the last byte is sent.
        let _ = wire.try_send(&bytes);
        assert!(wire.ended(), "{:?}", String::from_utf8_lossy(&bytes));
        refused(&gateway, reason, before + 1.0);
    }
    let mut wire = gateway.wire();
    wire.send(b"PROXY TCP4 192.0");
    wire.half_close();
    assert!(wire.ended());
    refused(&gateway, "closed", 1.0);
    // A connection without bytes, as from a port check, is no error.
    let wire = gateway.wire();
    wire.half_close();
    let mut wire = wire;
    assert!(wire.ended());
    refused(&gateway, "closed", 1.0);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_slow_header_costs_its_time_and_nothing_else() {
    let origin = Origin::named("a");
    let gateway = gateway(&origin, "", "header_timeout: 1s");
    let cpu = || gateway.metrics().sum("process_cpu_seconds_total", &[]);
    let before = cpu();
    let start = Instant::now();
    let slow = |bytes: &[u8]| {
        let mut wire = gateway.wire();
        wire.send(bytes);
        wire
    };
    let header = v2_client(&[]);
    let mut wires = [slow(b"PROXY TCP4 19"), slow(&header[..20]), slow(b"P"), slow(b"\r\n\r"), slow(b"")];
    assert!(wires.iter_mut().all(Wire::ended));
    assert!(start.elapsed() >= Duration::from_millis(900));
    // A busy loop over the same bytes would have used the whole second.
    let took = cpu() - before;
    assert!(took < 0.5, "{took} s of CPU time");
    refused(&gateway, "timeout", 5.0);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn no_other_source_is_trusted() {
    let origin = Origin::named("a");
    let gateway = gateway(&origin, "", "");
    let send = |bytes: &[u8]| {
        let mut wire = Wire::of(from("127.0.0.2", gateway.web()));
        wire.send(bytes);
        wire.response()
    };
    assert_eq!((send(GET.as_bytes()).status, &*told(&origin)), (200, "127.0.0.2"));
    origin.forget();
    for header in [v1("192.0.2.7"), v2_client(&[])] {
        assert_eq!(send(&[&header[..], GET.as_bytes()].concat()).status, 400);
    }
    assert_eq!(origin.count(), 0);
    assert!(!gateway.metrics().has(ERRORS, &[]));
}

#[test]
fn everything_uses_the_client_of_the_header() {
    let origin = Origin::named("a");
    let log = tempfile::NamedTempFile::new().unwrap();
    let gateway = Gateway::start_whole(&format!(
        "server: {{ trusted_proxies: [192.0.2.7] }}
admin: {{ address: 127.0.0.1:0 }}
access_log: {{ path: '{}' }}
listeners: [{{ name: web, address: 127.0.0.1:0, proxy_protocol: {{ from: [127.0.0.0/24] }} }}]
routes:
  - path: /
    upstream: ['{origin}']
    plugins: [{{ kind: ip_access, deny: [192.0.2.66] }}]
  - path: /ws
    upstream: ['{origin}']
    websocket: {{ max_connections_per_client: 1 }}",
        log.path().display()
    ));
    let ask = |client: &str, request: &str| {
        let mut wire = gateway.wire();
        wire.send([&v1(client)[..], request.as_bytes()].concat());
        let response = wire.response();
        (response.status, wire)
    };
    assert_eq!(ask("192.0.2.66", GET).0, 403);
    // The client is a trusted proxy; the load balancer is not.
    let forwarded = "GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.5\r\n\r\n";
    assert_eq!(ask("192.0.2.7", forwarded).0, 200);
    assert_eq!(told(&origin), "203.0.113.5, 192.0.2.7");
    assert_eq!(ask("192.0.2.8", forwarded).0, 200);
    assert_eq!(told(&origin), "192.0.2.8");
    let upgrade = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let (one, _kept) = ask("192.0.2.10", upgrade);
    let (again, _) = ask("192.0.2.10", upgrade);
    let (other, _kept_too) = ask("192.0.2.11", upgrade);
    assert_eq!((one, again, other), (101, 429, 101));
    eventually("the access log names the clients", || {
        let lines = fs::read_to_string(log.path()).unwrap();
        ["192.0.2.66", "203.0.113.5", "192.0.2.8"]
            .iter()
            .all(|client| lines.contains(&format!("\"{client}\"")))
            .then_some(())
    });
}

fn tls_listener() -> String {
    let folder = format!("{}/tests/it/support/tls", env!("CARGO_MANIFEST_DIR"));
    format!(", tls: {{ certificates: [{{ cert: {folder}/server.pem, key: {folder}/server.key }}] }}")
}

#[test]
fn on_a_tls_listener_the_header_comes_before_the_handshake() {
    let origin = Origin::named("a");
    let gateway = gateway(&origin, &tls_listener(), "");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(include_bytes!("support/tls/ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let ask = |source: &str, header: &[u8], cut: usize| {
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut stream = from(source, gateway.web());
        stream.set_nodelay(true).unwrap();
        // The header and the first bytes of the handshake in one packet, or the header in two.
        let mut first = header.to_vec();
        session.write_tls(&mut first).unwrap();
        stream.write_all(&first[..cut]).unwrap();
        stream.write_all(&first[cut..]).unwrap();
        let mut stream = rustls::StreamOwned::new(session, stream);
        let request = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut answer)).is_ok()
    };
    for header in [v1("192.0.2.7"), v2_client(&[])] {
        for cut in [0, 1, 14, header.len() - 1, header.len(), header.len() + 1] {
            origin.forget();
            assert!(ask("127.0.0.1", &header, cut));
            assert!(told(&origin).starts_with("192.0.2."));
            assert_eq!(origin.seen()[0].field("x-forwarded-proto"), Some("https"));
        }
        assert!(!ask("127.0.0.2", &header, 0), "a header from anybody else is no handshake");
    }
    assert!(!ask("127.0.0.1", &[], 0), "a handshake without a header");
    assert!(ask("127.0.0.2", &[], 0));
    assert_eq!(told(&origin), "127.0.0.2");
    refused(&gateway, "missing", 1.0);
}

#[test]
fn http2_begins_behind_the_header() {
    // Preface, SETTINGS, and a GET of / with every field from HPACK's static table except the authority's
    // value.
    let request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
                    \0\0\x0e\x01\x05\0\0\0\x01\x82\x86\x84\x41\x09localhost";
    for protocols in ["h2c", "http1, h2c"] {
        let origin = Origin::named("a");
        let gateway = gateway(&origin, &format!(", protocols: [{protocols}]"), "");
        for (header, client) in [(v1("192.0.2.7"), "192.0.2.7"), (v2_client(&[]), "192.0.2.9")] {
            origin.forget();
            let mut wire = gateway.wire();
            wire.send([&header[..], request].concat());
            assert_eq!(wire.exactly(9).unwrap()[3], 4, "the gateway's SETTINGS");
            origin.await_seen(1);
            assert_eq!(told(&origin), client);
        }
    }
}

#[test]
fn tls_that_the_balancer_ended_is_https() {
    let origin = Origin::named("a");
    let gateway = gateway(&origin, "", "");
    for (flags, scheme) in [(1, "https"), (0, "http")] {
        assert_eq!(ask(&gateway, &v2_client(&[0x20, 0, 5, flags, 0, 0, 0, 0])).status, 200);
        assert_eq!(origin.seen().pop().unwrap().field("x-forwarded-proto"), Some(scheme));
    }
}

#[test]
fn a_reload_changes_the_trusted_sources() {
    let origin = Origin::named("a");
    let gateway = gateway(&origin, "", "");
    let web = gateway.web();
    let mut before = gateway.wire();
    before.send([&v1("192.0.2.7")[..], GET.as_bytes()].concat());
    assert_eq!(before.response().status, 200);
    gateway.reload_whole(&configuration(&origin, "127.0.0.2", "", "")).unwrap();
    before.send(GET);
    assert_eq!((before.response().status, &*told(&origin)), (200, "192.0.2.7"));
    assert_eq!(ask(&gateway, b"").status, 200);
    assert_eq!(told(&origin), "127.0.0.1");
    let mut wire = Wire::of(from("127.0.0.2", web));
    wire.send([&v1("192.0.2.8")[..], GET.as_bytes()].concat());
    assert_eq!((wire.response().status, &*told(&origin)), (200, "192.0.2.8"));
    let report = gateway.reload_whole(&configuration(&origin, "lb.internal", "", "")).unwrap_err();
    assert!(report.contains("`lb.internal` is neither an address nor a CIDR block"), "{report}");
    let mut wire = Wire::of(from("127.0.0.2", web));
    wire.send([&v1("192.0.2.9")[..], GET.as_bytes()].concat());
    assert_eq!((wire.response().status, &*told(&origin)), (200, "192.0.2.9"));
}

#[test]
fn over_a_unix_socket_every_peer_may_send_a_header() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let _gateway = Gateway::start_whole(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: inside, address: 'unix:{}', proxy_protocol: {{ from: [unix] }} }}
routes: [{{ upstream: ['{origin}'], on_client_close: finish }}]",
        path.display()
    ));
    let ask = |pieces: &[&[u8]]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        pieces.iter().for_each(|piece| stream.write_all(piece).unwrap());
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        // A rejection may reset unread bytes.
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let header = v1("192.0.2.7");
    for cut in [1, 20, header.len()] {
        origin.forget();
        assert!(ask(&[&header[..cut], &header[cut..], GET.as_bytes()]).starts_with("HTTP/1.1 200"));
        assert_eq!(told(&origin), "192.0.2.7");
    }
    origin.forget();
    assert_eq!(ask(&[GET.as_bytes()]), "");
    assert_eq!(origin.count(), 0);
}

/// HAProxy in front of a gateway, on a socket created by the test, so that its port is known.
struct Haproxy {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Haproxy {
    fn start(program: &str, gateway: SocketAddr, sends: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        rustix::io::fcntl_setfd(listener.as_fd(), rustix::io::FdFlags::empty()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("haproxy.cfg");
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             listen in\n bind fd@{}\n server gateway {gateway} {sends}\n",
            listener.as_raw_fd()
        );
        fs::write(&file, text).unwrap();
        let child = Command::new(program)
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address, _folder: folder }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn haproxy_reports_its_clients() {
    // Debian installs it outside of a user's PATH.
    let runs = |program: &&str| Command::new(program).arg("-v").stdout(Stdio::null()).status().is_ok();
    let Some(program) = ["haproxy", "/usr/sbin/haproxy"].into_iter().find(runs) else {
        // Not by a macro, whose output is hidden for a test that passes.
        writeln!(std::io::stderr(), "skipped: there is no haproxy here (apt-get install haproxy)").unwrap();
        return;
    };
    let origin = Origin::named("a");
    let gateway = gateway(&origin, "", "");
    for sends in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority,ssl",
        "send-proxy-v2-ssl-cn",
        // Its health checks send a header of their own.
        "send-proxy check inter 100ms check-send-proxy",
        "send-proxy-v2 check inter 100ms check-send-proxy",
    ] {
        let haproxy = Haproxy::start(program, gateway.web(), sends);
        let mut wire = Wire::of(from("127.0.0.9", haproxy.address));
        wire.send(GET);
        assert_eq!((wire.response().status, &*told(&origin)), (200, "127.0.0.9"), "{sends}");
    }
    assert!(!gateway.metrics().has(ERRORS, &[]));
}
