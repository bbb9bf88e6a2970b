//! `listeners`, except TLS.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::raw::{ask, get};
use crate::support::{Origin, Socket, Wire, eventually, h2};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(super) const CASES: &[Case] = &[
    case(&["listeners"], section),
    case(&["listeners.name"], name),
    case(&["listeners.address"], address),
    case(&["listeners.mode"], mode),
    case(&["listeners.owner", "listeners.group"], owner_and_group),
    case(&["listeners.ipv6_only"], ipv6_only),
    case(&["listeners.protocols"], protocols),
    case(&["listeners.proxy_protocol"], proxy_protocol),
    case(&["listeners.proxy_protocol.from"], from),
    case(&["listeners.max_connections"], max_connections),
    case(&["listeners.handshake_rate"], handshake_rate),
];

/// A route to this backend.
fn to(origin: &Origin) -> File {
    File::route(format!("name: case, path: /, upstream: ['{origin}']"))
}

fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

fn section(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    gateway.reload(&to(&origin).and_listener("name: side, address: 127.0.0.1:0"));
    let side = gateway.listener("side");
    assert_eq!(get(side, "/").text(), "a");
    gateway.reload(&to(&origin));
    eventually("the removed listener refuses", || refuses(side).then_some(()));
}

/// Two listeners exchange their names. Routes know them by name.
fn name(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let mut addresses = Vec::new();
    for (names, status) in [(["left", "right"], 200), (["right", "left"], 404)] {
        let route = format!("name: case, path: /, listeners: [left], upstream: ['{origin}']");
        let [first, second] = names;
        gateway.reload(
            &File::route(route)
                .and_listener(format!("name: {first}, address: 127.0.0.1:0"))
                .and_listener(format!("name: {second}, address: 127.0.0.2:0")),
        );
        addresses.push(gateway.listener(first));
        assert_eq!(get(gateway.listener(first), "/").status, status);
    }
    assert!(addresses.iter().all(|address| address.ip() == Ipv4Addr::LOCALHOST), "{addresses:?}");
}

fn address(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let mut before: Option<SocketAddr> = None;
    for ip in ["127.0.0.1", "127.0.0.2"] {
        gateway.reload(&to(&origin).and_listener(format!("name: side, address: '{ip}:0'")));
        let side = gateway.listener("side");
        assert_eq!(side.ip().to_string(), ip);
        assert_eq!(get(side, "/").text(), "a");
        if let Some(before) = before.replace(side) {
            eventually("the former address refuses", || refuses(before).then_some(()));
        }
    }
}

fn mode(gateway: &LoadedGateway) {
    let (origin, path) = (Origin::named("a"), gateway.path("mode.sock"));
    for mode in [0o600, 0o666] {
        let listener = format!("name: side, address: 'unix:{}', mode: {mode:04o}", path.display());
        gateway.reload(&to(&origin).and_listener(listener));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, mode);
        UnixStream::connect(&path).unwrap();
    }
}

fn owner_and_group(gateway: &LoadedGateway) {
    let (origin, path) = (Origin::named("a"), gateway.path("owner.sock"));
    let own = path.parent().unwrap().metadata().unwrap();
    // Only root may set others; another user sees that its own are kept.
    let root = own.uid() == 0;
    let mut owners = vec![(own.uid(), own.gid())];
    owners.extend(root.then_some([(4711, own.gid()), (4711, 4712)]).into_iter().flatten());
    for (user, group) in owners {
        let listener =
            format!("name: side, address: 'unix:{}', owner: {user}, group: {group}", path.display());
        gateway.reload(&to(&origin).and_listener(listener));
        let file = path.metadata().unwrap();
        assert_eq!((file.uid(), file.gid()), (user, group));
    }
}

fn ipv6_only(gateway: &LoadedGateway) {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return; // IPv6 is not available here.
    }
    let origin = Origin::named("of ipv6_only");
    // Another test may have the port in IPv4.
    let serves = |address: SocketAddr| {
        let Ok(mut stream) = TcpStream::connect(address) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut response = Vec::new();
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        // It may close the connection, or say nothing.
        let _ = stream.write_all(request).and_then(|()| stream.read_to_end(&mut response));
        response.ends_with(b"of ipv6_only")
    };
    for (only, accepts) in [("true", false), ("false", true), ("true", false)] {
        gateway
            .reload(&to(&origin).and_listener(format!("name: side, address: '[::]:0', ipv6_only: {only}")));
        let port = gateway.listener("side").port();
        assert_eq!(get((Ipv6Addr::LOCALHOST, port).into(), "/").text(), "of ipv6_only");
        let ipv4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        eventually(&format!("ipv6_only: {only}"), || (serves(ipv4) == accepts).then_some(()));
    }
}

fn protocols(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    gateway.reload(&to(&origin).and_listener("name: side, address: 127.0.0.1:0, protocols: [http1]"));
    let side = gateway.listener("side");
    assert_eq!(get(side, "/").text(), "a");
    gateway.reload(&to(&origin).and_listener("name: side, address: 127.0.0.1:0, protocols: [h2c]"));
    assert_eq!(gateway.listener("side"), side, "the socket stays");
    assert_eq!(h2::Client::connect(side).ask(h2::get("/"), &[]).text(), "a");
}

/// A request after a PROXY header: the status, and the client that the backend is told.
fn proxied(address: SocketAddr, origin: &Origin) -> (u16, String) {
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut wire = Wire::connect(address);
    wire.send(format!("PROXY TCP4 192.0.2.9 192.0.2.1 1 2\r\n{request}"));
    let status = wire.try_response("GET").map_or(0, |response| response.status);
    let seen = origin.seen();
    let client = seen.last().and_then(|seen| seen.field("x-forwarded-for")).unwrap_or_default();
    (status, client.to_owned())
}

fn proxy_protocol(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    gateway.reload(&to(&origin).and_listener("name: side, address: 127.0.0.1:0"));
    let side = gateway.listener("side");
    assert_eq!(get(side, "/").text(), "a");
    assert_ne!(proxied(side, &origin).0, 200, "a header is no request");
    let required = "name: side, address: 127.0.0.1:0, proxy_protocol: { from: [127.0.0.1] }";
    gateway.reload(&to(&origin).and_listener(required));
    assert_eq!(proxied(side, &origin), (200, "192.0.2.9".to_owned()));
}

fn from(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (from, has_header) in [("192.0.2.0/24", false), ("127.0.0.0/8", true)] {
        let listener = format!("name: side, address: 127.0.0.1:0, proxy_protocol: {{ from: ['{from}'] }}");
        gateway.reload(&to(&origin).and_listener(listener));
        let side = gateway.listener("side");
        assert_eq!(proxied(side, &origin).0 == 200, has_header, "{from}");
        if !has_header {
            assert_eq!(ask(side, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status, 200);
        }
    }
}

fn max_connections(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let with = |most: u32| {
        to(&origin).and_listener(format!("name: side, address: 127.0.0.1:0, max_connections: {most}"))
    };
    gateway.reload(&with(2));
    let (side, mark) = (gateway.listener("side"), gateway.gateway().log().mark());
    let open = [(); 2].map(|()| Socket::open(side, "/ws"));
    let mut waiting = Wire::connect(side);
    waiting.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    gateway.gateway().log().wait(mark, &["listener has `max_connections` connections"]);
    gateway.reload(&with(3));
    assert_eq!(waiting.response().status, 200);
    drop(open);
}

fn handshake_rate(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (rate, second) in [("0", None), ("1/h", Some(503)), ("0", None)] {
        let listener = format!("name: side, address: 127.0.0.1:0, handshake_rate: {rate}");
        gateway.reload(&to(&origin).and_listener(listener));
        let side = gateway.listener("side");
        let _first = Socket::open(side, "/ws");
        assert_eq!(Socket::open_with(side, "/ws", &[]).err(), second, "{rate}");
    }
}
