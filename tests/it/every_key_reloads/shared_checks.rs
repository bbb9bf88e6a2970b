//! Exchanges that show the effect of several keys.

use super::loaded_gateway::{File, LoadedGateway};
use crate::support::name_server::NameServer;
use crate::support::{Origin, Seen, Wire, eventually};

/// Reloads each setting, requests `/case` with these header lines, and compares the request at the backend.
pub(super) fn requests_after_reloads(
    gateway: &LoadedGateway,
    file: impl Fn(&Origin, &str) -> File,
    lines: &str,
    fact: impl Fn(&Seen) -> Option<String>,
    expected: &[(&str, Option<&str>)],
) {
    let origin = Origin::named("a");
    for (setting, expected) in expected {
        gateway.reload(&file(&origin, setting));
        assert_eq!(gateway.get_with("/case", lines).status, 200, "{setting}");
        let seen = origin.seen();
        assert_eq!(fact(seen.last().unwrap()).as_deref(), *expected, "{setting}");
    }
}

/// Reloads each setting and compares the status of a GET of `/case`.
pub(super) fn statuses_after_reloads(
    gateway: &LoadedGateway,
    file: impl Fn(&str) -> File,
    lines: &str,
    expected: &[(&str, u16)],
) {
    for (setting, status) in expected {
        gateway.reload(&file(setting));
        let response = gateway.get_with("/case", lines);
        assert_eq!(response.status, *status, "{setting}: {}", response.text());
    }
}

/// Reloads `system` and `hickory`: only the latter queries this name server, which resolves every name.
pub(super) fn check_resolver(
    gateway: &LoadedGateway,
    names: &NameServer,
    port: u16,
    file: impl Fn(&str, &str) -> File,
) {
    // `getaddrinfo` takes it for 127.0.0.1 and needs no server. For DNS it is a name.
    let endpoint = format!("0x7f000001:{port}");
    for (resolver, queries) in [("system", false), ("hickory", true)] {
        let before = names.questions();
        gateway.reload(&file(resolver, &endpoint));
        eventually("the name is resolved", || (gateway.get("/case").text() == "a").then_some(()));
        if queries {
            eventually("the server is queried", || (names.questions() > before).then_some(()));
        }
        assert_eq!(names.questions() > before, queries, "{resolver}");
    }
}

/// A POST of `/case` with the header and the first byte of its body.
pub(super) fn begin_upload(gateway: &LoadedGateway) -> Wire {
    let mut wire = gateway.gateway().wire();
    wire.send("POST /case HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nx");
    wire
}

/// Under `before` a transfer may take longer than it may under `after`.
pub(super) fn check_limit(
    gateway: &LoadedGateway,
    [before, after]: [&File; 2],
    begin: impl Fn(&LoadedGateway) -> Wire,
    is_ended: impl Fn(&mut Wire),
    complete: impl Fn(&mut Wire),
) {
    gateway.reload(before);
    let mut unlimited = begin(gateway);
    gateway.reload(after);
    is_ended(&mut begin(gateway));
    // It has taken longer than the other one.
    complete(&mut unlimited);
}
