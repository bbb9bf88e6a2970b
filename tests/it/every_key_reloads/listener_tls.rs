//! `listeners.tls`, except ACME.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::Origin;
use crate::support::certs::{Authority, Pair, der};
use crate::support::raw::get;
use crate::tls::{anybody, listed};
use rustls::AlertDescription::{CertificateRequired, ProtocolVersion, UnknownCA, UnrecognisedName};
use rustls::version::{TLS12, TLS13};
use std::net::SocketAddr;

pub(super) const CASES: &[Case] = &[
    case(&["listeners.tls"], section),
    case(&["listeners.tls.certificates"], certificates),
    case(&["listeners.tls.certificates.cert", "listeners.tls.certificates.key"], certificate_and_key),
    case(&["listeners.tls.certificates.ocsp"], ocsp),
    case(&["listeners.tls.unknown_sni"], unknown_sni),
    case(&["listeners.tls.min_version"], min_version),
    case(&["listeners.tls.client_auth"], client_auth),
    case(&["listeners.tls.client_auth.ca"], client_ca),
    case(&["listeners.tls.client_auth.mode"], client_mode),
    case(&["listeners.tls.ticket_keys"], ticket_keys),
];

/// Reloads a listener `secure` with these settings of `tls`, and returns its address.
fn reload(gateway: &LoadedGateway, origin: &Origin, tls: &str) -> SocketAddr {
    let route = format!("name: case, path: /, upstream: ['{origin}']");
    gateway.reload(
        &File::route(route).and_listener(format!("name: secure, address: 127.0.0.1:0, tls: {{ {tls} }}")),
    );
    gateway.listener("secure")
}

fn only(pair: &Pair, more: &str) -> String {
    format!("certificates: [{}]{more}", listed(pair))
}

fn section(gateway: &LoadedGateway) {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let route = format!("name: case, path: /, upstream: ['{origin}']");
    gateway.reload(&File::route(route).and_listener("name: secure, address: 127.0.0.1:0"));
    let plain = gateway.listener("secure");
    assert_eq!(get(plain, "/").text(), "a");
    let secure = reload(gateway, &origin, &only(&ca.issue("a", &["a.example"]), ""));
    assert_eq!(secure, plain, "the socket stays");
    assert_eq!(ca.client().get(secure, "a.example", "/").unwrap().text(), "a");
    assert_eq!(get(secure, "/").status, 400, "plain HTTP is no TLS");
}

fn certificates(gateway: &LoadedGateway) {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let (a, b) = (ca.issue("a", &["a.example"]), ca.issue("b", &["b.example"]));
    let shown = |secure| anybody().0.connect(secure, "b.example").unwrap().shown();
    assert_eq!(shown(reload(gateway, &origin, &only(&a, ""))), der(&a), "the first one is the default");
    let both = format!("certificates: [{}, {}]", listed(&a), listed(&b));
    assert_eq!(shown(reload(gateway, &origin, &both)), der(&b));
}

fn certificate_and_key(gateway: &LoadedGateway) {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    for name in ["first", "second"] {
        let pair = ca.issue(name, &["a.example"]);
        let secure = reload(gateway, &origin, &only(&pair, ""));
        // A handshake succeeds with the key of the certificate alone.
        let mut connection = ca.client().connect(secure, "a.example").unwrap();
        assert_eq!(connection.shown(), der(&pair));
        assert_eq!(connection.get("a.example", "/").unwrap().text(), "a");
    }
}

fn ocsp(gateway: &LoadedGateway) {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let stapled = |secure| {
        let (client, verifier) = anybody();
        client.connect(secure, "a.example").unwrap();
        verifier.stapled()
    };
    assert_eq!(stapled(reload(gateway, &origin, &only(&pair, ""))), [0; 0]);
    // The status `successful`; clients alone read the other bytes.
    let response = [0x30, 5, 0x0a, 1, 0, 0x05, 0];
    std::fs::write(ca.path("a.ocsp"), response).unwrap();
    let with = listed(&pair).replace(" }", &format!(", ocsp: {} }}", ca.path("a.ocsp").display()));
    assert_eq!(stapled(reload(gateway, &origin, &format!("certificates: [{with}]"))), response);
}

fn unknown_sni(gateway: &LoadedGateway) {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    for (setting, alert) in [("default", None), ("reject", Some(UnrecognisedName)), ("default", None)] {
        let secure = reload(gateway, &origin, &only(&pair, &format!(", unknown_sni: {setting}")));
        let cut = anybody().0.connect(secure, "b.example").err();
        assert_eq!(cut.and_then(|cut| cut.alert()), alert, "{setting}");
    }
}

fn min_version(gateway: &LoadedGateway) {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    for (version, alert) in [("1.2", None), ("1.3", Some(ProtocolVersion)), ("1.2", None)] {
        let secure = reload(gateway, &origin, &only(&pair, &format!(", min_version: '{version}'")));
        let cut = ca.client_with(&[&TLS12], None).connect(secure, "a.example").err();
        assert_eq!(cut.and_then(|cut| cut.alert()), alert, "{version}");
    }
}

/// The alert for a client with this certificate.
fn alert(ca: &Authority, secure: SocketAddr, shows: Option<&Pair>) -> Option<rustls::AlertDescription> {
    ca.client_with(&[&TLS13], shows).get(secure, "a.example", "/").err().and_then(|cut| cut.alert())
}

fn client_auth(gateway: &LoadedGateway) {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let auth = format!(", client_auth: {{ ca: {} }}", ca.file().display());
    for (setting, expected) in [("", None), (&*auth, Some(CertificateRequired)), ("", None)] {
        let secure = reload(gateway, &origin, &only(&pair, setting));
        assert_eq!(alert(&ca, secure, None), expected, "{setting}");
    }
}

fn client_ca(gateway: &LoadedGateway) {
    let (ca, other, origin) = (Authority::new(), Authority::new(), Origin::named("a"));
    let (pair, alice) = (ca.issue("a", &["a.example"]), ca.issue("alice", &["alice.example"]));
    for (issuer, expected) in [(&other, Some(UnknownCA)), (&ca, None)] {
        let auth = format!(", client_auth: {{ ca: {} }}", issuer.file().display());
        let secure = reload(gateway, &origin, &only(&pair, &auth));
        assert_eq!(alert(&ca, secure, Some(&alice)), expected);
    }
}

fn client_mode(gateway: &LoadedGateway) {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    for (mode, expected) in [("optional", None), ("require", Some(CertificateRequired))] {
        let auth = format!(", client_auth: {{ ca: {}, mode: {mode} }}", ca.file().display());
        let secure = reload(gateway, &origin, &only(&pair, &auth));
        assert_eq!(alert(&ca, secure, None), expected, "{mode}");
    }
}

fn ticket_keys(gateway: &LoadedGateway) {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let client = ca.client();
    let reload_key = |name: &str, seed: u8| {
        std::fs::write(ca.path(name), (0..80).map(|n| n ^ seed).collect::<Vec<u8>>()).unwrap();
        reload(gateway, &origin, &only(&pair, &format!(", ticket_keys: [{}]", ca.path(name).display())))
    };
    for (name, seed, resumed) in [("one", 1, false), ("one", 1, true), ("two", 2, false), ("two", 2, true)] {
        let mut connection = client.connect(reload_key(name, seed), "a.example").unwrap();
        assert_eq!(connection.is_resumed(), resumed, "{name}");
        // The response follows the tickets.
        connection.get("a.example", "/").unwrap();
    }
}
