//! `admin`. The status of the other cases is at the address that these change, so they await lines of the log alone.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::eventually;
use std::net::{SocketAddr, TcpStream};

pub(super) const CASES: &[Case] = &[case(&["admin", "admin.address", "admin.token", "admin.tap"], all)];

/// Reloads these settings of `admin`, and returns the address.
fn reload(gateway: &LoadedGateway, address: SocketAddr, more: &str) {
    let log = gateway.gateway().log();
    let mark = log.mark();
    gateway.write(&File::default().and_admin(format!("address: '{address}'{more}")));
    gateway.gateway().signal("HUP");
    log.wait(mark, &["configuration reloaded", "configuration rejected"]);
    assert_eq!(log.count(mark, "configuration rejected"), 0, "{more}");
}

fn status(address: SocketAddr, path: &str, token: &str) -> u16 {
    let authorization = format!("Authorization: Bearer {token}\r\n");
    let mut wire = crate::support::Wire::connect(address);
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\r\n"));
    let head = String::from_utf8(wire.head().unwrap().unwrap()).unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn all(gateway: &LoadedGateway) {
    const STATUS: &str = "/api/v1/status";
    const TAP: &str = "/api/v1/tap?route=steady&duration=1s";
    let first = gateway.gateway().admin();
    // The sections of the loaded gateway have the admin address 127.0.0.1:0, which this address replaces.
    let port = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap().port();
    let second = SocketAddr::from(([127, 0, 0, 2], port));
    reload(gateway, second, "");
    eventually("the new address responds", || TcpStream::connect(second).ok().map(drop));
    eventually("the old address refuses", || TcpStream::connect(first).is_err().then_some(()));
    assert_eq!(status(second, STATUS, ""), 200);
    for token in ["one", "two"] {
        reload(gateway, second, &format!(", token: {token}"));
        assert_eq!(
            ["one", "two"].map(|sent| status(second, STATUS, sent) == 200),
            [token == "one", token == "two"]
        );
    }
    for (tap, expected) in [("false", 403), ("true", 200), ("false", 403)] {
        reload(gateway, second, &format!(", token: one, tap: {tap}"));
        assert_eq!(status(second, TAP, "one"), expected, "tap: {tap}");
    }
    // Without the section there is no admin address.
    let log = gateway.gateway().log();
    let mark = log.mark();
    gateway.write(&File::default().without_admin());
    gateway.gateway().signal("HUP");
    log.wait(mark, &["configuration reloaded"]);
    eventually("the address refuses", || TcpStream::connect(second).is_err().then_some(()));
}
