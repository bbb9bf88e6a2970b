//! The sockets of listeners: permissions of Unix sockets, and the IP versions of an address.

use crate::support::{Gateway, Origin, Wire, eventually};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

fn with(listener: &str, origin: &Origin) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {listener}
routes: [{{ upstream: [{origin}] }}]
"
    )
}

#[test]
fn a_unix_socket_has_the_configured_mode_and_owners() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let path = folder.path().join("gate.sock");
    // A process may set itself as owner of a file; only root may set others.
    let me = folder.path().metadata().unwrap();
    let (uid, gid) = if me.uid() == 0 { (4711, 4712) } else { (me.uid(), me.gid()) };
    let listener = |mode: &str| {
        format!(
            "{{ name: side, address: 'unix:{}', mode: {mode}, owner: {uid}, group: {gid} }}",
            path.display()
        )
    };
    let gateway = Gateway::start_whole(&with(&listener("0640"), &origin));
    let socket = path.metadata().unwrap();
    assert_eq!((socket.mode() & 0o7777, socket.uid(), socket.gid()), (0o640, uid, gid));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    gateway.signal("TERM");
    eventually("the file goes with the process", || (!path.exists()).then_some(()));
}

#[test]
fn without_a_mode_the_umask_decides() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let (path, other) = (folder.path().join("gate.sock"), folder.path().join("other.sock"));
    let listener = format!("{{ name: side, address: 'unix:{}' }}", path.display());
    let _gateway = Gateway::start_whole(&with(&listener, &origin));
    let _other = std::os::unix::net::UnixListener::bind(&other).unwrap();
    assert_eq!(path.metadata().unwrap().mode(), fs::metadata(other).unwrap().mode());
}

#[test]
fn an_ipv6_address_accepts_ipv4_if_configured() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return; // IPv6 is not available here.
    }
    let origin = Origin::named("a");
    for (only, taken) in [("false", true), ("true", false)] {
        let listener = format!("{{ name: side, address: '[::]:0', ipv6_only: {only} }}");
        let gateway = Gateway::start_whole(&with(&listener, &origin));
        let port = gateway.listener("side").port();
        assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok());
        assert_eq!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(), taken, "ipv6_only: {only}");
        if taken {
            let mut wire = Wire::connect((Ipv4Addr::LOCALHOST, port).into());
            wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(wire.response().status, 200);
            let seen = origin.seen().pop().unwrap();
            assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"), "the client by its IPv4 address");
        }
    }
}
