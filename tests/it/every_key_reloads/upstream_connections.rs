//! How `upstreams` connect: protocol, TLS, PROXY header, and connections that are kept.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::secured::{Front, Http2, Issuer, Life};
use crate::support::{Origin, eventually};
use std::net::TcpListener;
use std::time::Duration;

pub(super) const CASES: &[Case] = &[
    case(&["upstreams.protocol"], protocol),
    case(&["upstreams.tls"], tls),
    case(&["upstreams.tls.sni"], sni),
    case(&["upstreams.tls.ca"], ca),
    case(&["upstreams.tls.cert", "upstreams.tls.key"], client_certificate),
    case(&["upstreams.tls.verify"], verify),
    case(&["upstreams.proxy_protocol"], proxy_protocol),
    case(&["upstreams.connect_timeout"], connect_timeout),
    case(&["upstreams.keepalive_timeout"], |gateway| {
        check_kept_connections(gateway, "keepalive_timeout", ["1h", "0s"]);
    }),
    case(&["upstreams.max_idle_connections"], |gateway| {
        check_kept_connections(gateway, "max_idle_connections", ["512", "0"]);
    }),
];

fn protocol(gateway: &LoadedGateway) {
    let (http1, http2) = (Origin::named("one"), Http2::start(None));
    gateway.reload(&File::upstream(&[&http1], "protocol: http1", ""));
    assert_eq!(gateway.get("/case").text(), "one");
    gateway.reload(&File::upstream(&[&http2.address], "protocol: h2c", ""));
    assert_eq!(gateway.get("/case").text(), "two");
    gateway.reload(&File::upstream(&[&http1], "protocol: http1", ""));
    assert_eq!(gateway.get("/case").text(), "one");
}

/// A backend behind TLS with a certificate for these names.
fn secured(issuer: &Issuer, names: &[&str], asks: bool) -> (Origin, Front) {
    let origin = Origin::named("a");
    let front = Front::start(Some(issuer.server(names, Life::Now, asks)), false, origin.address());
    (origin, front)
}

/// Reloads these settings of `tls` and returns the status of a request.
fn status(gateway: &LoadedGateway, front: &Front, tls: &str) -> u16 {
    gateway.reload(&File::upstream(
        &[&front.address],
        format!("tls: {{ {tls} }}, passive_health: {{ failures: 0 }}"),
        "",
    ));
    gateway.get("/case").status
}

fn trusting(issuer: &Issuer) -> String {
    format!("ca: '{}'", issuer.file("ca.pem").display())
}

fn tls(gateway: &LoadedGateway) {
    let issuer = Issuer::new();
    let (_origin, front) = secured(&issuer, &["127.0.0.1"], false);
    gateway.reload(&File::upstream(&[&front.address], "", ""));
    assert_eq!(gateway.get("/case").status, 502, "the backend does not take plain HTTP");
    assert_eq!(status(gateway, &front, &trusting(&issuer)), 200);
}

fn sni(gateway: &LoadedGateway) {
    let issuer = Issuer::new();
    let (_origin, front) = secured(&issuer, &["a.example"], false);
    for (name, expected) in [("b.example", 502), ("a.example", 200)] {
        assert_eq!(status(gateway, &front, &format!("{}, sni: {name}", trusting(&issuer))), expected);
    }
    let names = front.seen.names.lock().unwrap();
    assert_eq!(names.last().unwrap().as_deref(), Some("a.example"));
}

fn ca(gateway: &LoadedGateway) {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let (_origin, front) = secured(&issuer, &["127.0.0.1"], false);
    for (trusted, expected) in [(&other, 502), (&issuer, 200), (&other, 502)] {
        assert_eq!(status(gateway, &front, &trusting(trusted)), expected);
    }
}

fn client_certificate(gateway: &LoadedGateway) {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let (_origin, front) = secured(&issuer, &["127.0.0.1"], true);
    for (of, expected) in [(None, 502), (Some(&other), 502), (Some(&issuer), 200), (None, 502)] {
        let shown = of.map_or_else(String::new, |of| {
            of.issue("gateway", &["gateway.test"], Life::Now);
            let [cert, key] = ["gateway.pem", "gateway.key"].map(|name| of.file(name).display().to_string());
            format!(", cert: '{cert}', key: '{key}'")
        });
        assert_eq!(status(gateway, &front, &(trusting(&issuer) + &shown)), expected, "{shown}");
    }
}

fn verify(gateway: &LoadedGateway) {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let (_origin, front) = secured(&issuer, &["127.0.0.1"], false);
    for (verify, expected) in [(true, 502), (false, 200), (true, 502)] {
        let tls = format!("{}, verify: {verify}", trusting(&other));
        assert_eq!(status(gateway, &front, &tls), expected, "{verify}");
    }
}

fn proxy_protocol(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let front = Front::start(None, true, origin.address());
    for (version, start) in [("v1", &b"PROXY TCP4 127.0.0.1 "[..]), ("v2", b"\r\n\r\n\0\r\nQUIT\n")] {
        gateway.reload(&File::upstream(&[&front.address], format!("proxy_protocol: {version}"), ""));
        assert_eq!(gateway.get("/case").text(), "a");
        assert!(front.headers().last().unwrap().starts_with(start), "{version}");
    }
}

/// The backend accepts connections in the kernel, and its TLS handshake never begins.
fn connect_timeout(gateway: &LoadedGateway) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = silent.local_addr().unwrap();
    let with = |time: &str| format!("tls: {{ verify: false }}, retries: 0, connect_timeout: {time}");
    gateway.reload(&File::upstream(&[&endpoint], with("1h"), "timeout: 0s"));
    let mut unlimited = gateway.gateway().wire();
    unlimited.send("GET /case HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (waits, _) = silent.accept().unwrap();
    gateway.reload(&File::upstream(&[&endpoint], with("300ms"), "timeout: 0s"));
    let response = gateway.get("/case");
    assert!(response.status >= 502 && response.text().contains("timeout"), "{}", response.text());
    // The first attempt has taken longer, and ends with its backend.
    unlimited.patience(Duration::from_millis(1));
    unlimited.fill().unwrap_err();
    unlimited.patience(crate::support::LIMIT);
    drop(waits);
    assert_eq!(unlimited.response().status, 502);
}

/// A connection to the backend is kept after the first setting and not after the second.
fn check_kept_connections(gateway: &LoadedGateway, key: &str, [keeps, closes]: [&str; 2]) {
    let origin = Origin::named("a");
    for (value, expected) in [(keeps, None), (closes, Some("close")), (keeps, None)] {
        gateway.reload(&File::upstream(&[&origin], format!("{key}: {value}"), ""));
        assert_eq!(gateway.get("/case").status, 200);
        assert_eq!(origin.seen().pop().unwrap().field("connection"), expected, "{key}: {value}");
    }
    let one = origin.connections();
    eventually("a kept connection is used again", || {
        let before = origin.connections();
        assert_eq!(gateway.get("/case").status, 200);
        (origin.connections() == before).then_some(())
    });
    assert!(origin.connections() < one + 20);
}
