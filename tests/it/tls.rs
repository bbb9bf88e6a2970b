//! TLS to clients: selection of certificates, client authentication, the reported facts, and failed
//! handshakes.

use crate::support::certs::{Authority, Client, Pair, Sort, der};
use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Seen, Wire, eventually};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, DigitallySignedStruct, Error, SignatureScheme};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// The line of a certificate in a configuration.
pub(crate) fn listed(pair: &Pair) -> String {
    format!("{{ cert: {}, key: {} }}", pair.cert.display(), pair.key.display())
}

/// A file with a plain listener `web` and a listener `secure` with those TLS settings.
pub(crate) fn file(tls: &str, origin: &Origin, more: &str) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0 }}
server: {{ header_timeout: 2s }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - name: secure
    address: 127.0.0.1:0
    tls: {{ {tls} }}
routes:
  - upstream: [{origin}]
{more}"
    )
}

fn start(tls: &str, origin: &Origin) -> (Gateway, SocketAddr) {
    let gateway = Gateway::start_whole(&file(tls, origin, ""));
    let secure = gateway.listener("secure");
    (gateway, secure)
}

fn failures(gateway: &Gateway, reason: &str) -> f64 {
    gateway
        .metrics()
        .sum("moongate_tls_handshake_failures_total", &[("listener", "secure"), ("reason", reason)])
}

#[test]
fn the_certificate_is_selected_by_sni() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let default = ca.issue("default", &["default.example"]);
    let exact = ca.issue("exact", &["b.wild.example", "second.example"]);
    let wild = ca.issue("wild", &["*.wild.example"]);
    let certificates = [&default, &exact, &wild].map(listed).join(", ");
    let (gateway, secure) = start(&format!("certificates: [{certificates}]"), &origin);
    let client = ca.client();
    for (name, pair) in [
        ("default.example", &default),
        ("b.wild.example", &exact),
        ("B.Wild.Example", &exact),
        ("second.example", &exact),
        ("a.wild.example", &wild),
    ] {
        let mut connection = client.connect(secure, name).unwrap();
        assert_eq!(connection.shown(), der(pair), "{name}");
        assert_eq!(connection.get(name, "/").unwrap().text(), "a");
    }
    // A wildcard matches one label.
    for name in ["wild.example", "a.b.wild.example", "other.example"] {
        let shown = anybody().0.connect(secure, name).unwrap().shown();
        assert_eq!(shown, der(&default), "{name}");
    }
    // An address is no server name: no SNI is sent.
    assert_eq!(anybody().0.connect(secure, "127.0.0.1").unwrap().shown(), der(&default));
    let status = gateway.status();
    let shown = &status["listeners"][1]["certificates"];
    assert_eq!(shown[1]["names"][1], "second.example", "{status}");
    assert_eq!(shown[1]["key"], "ecdsa");
    let expiry =
        gateway.metrics().sum("moongate_tls_certificate_expiry_timestamp_seconds", &[("listener", "secure")]);
    assert!(expiry > 3.0 * 1.7e9, "{expiry}");
}

#[test]
fn a_client_gets_the_key_that_it_can_verify() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let rsa = ca.issue_with("rsa", &["a.example"], Sort::Rsa, |_| ());
    let ecdsa = ca.issue("ecdsa", &["a.example"]);
    let (_gateway, secure) = start(&format!("certificates: [{}, {}]", listed(&rsa), listed(&ecdsa)), &origin);
    for versions in [[&TLS13], [&TLS12]] {
        let modern = ca.client_with(&versions, None);
        assert_eq!(modern.connect(secure, "a.example").unwrap().shown(), der(&ecdsa));
        let mut old = anybody().0;
        old.config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&versions)
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anything::of(&[
                    SignatureScheme::RSA_PSS_SHA256,
                    SignatureScheme::RSA_PKCS1_SHA256,
                ])))
                .with_no_client_auth();
        for name in ["a.example", "none.example"] {
            assert_eq!(old.connect(secure, name).unwrap().shown(), der(&rsa), "{name}");
        }
    }
}

#[test]
fn an_unknown_name_gets_the_alert_if_configured() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let tls = format!("certificates: [{}], unknown_sni: reject", listed(&pair));
    let level = std::ffi::OsStr::new("info,moongate::server::tls_handshake=debug");
    let gateway = Gateway::start_whole_with("RUST_LOG", level, &file(&tls, &origin, ""));
    let secure = gateway.listener("secure");
    for (name, told) in [("b.example", "no certificate for b.example"), ("127.0.0.1", "no server name (SNI)")]
    {
        let mark = gateway.log().mark();
        let cut = anybody().0.connect(secure, name).unwrap_err();
        assert_eq!(cut.alert(), Some(AlertDescription::UnrecognisedName), "{cut:?}");
        let line = gateway.log().wait(mark, &["TLS handshake failed"]);
        assert!(line.contains(" listener=secure client=127.0.0.1:"), "{line}");
        assert!(line.ends_with(&format!(" reason=unknown_name error=\"{told}\"")), "{line}");
    }
    assert_eq!(ca.client().get(secure, "a.example", "/").unwrap().text(), "a");
    eventually("both are counted", || (failures(&gateway, "unknown_name") == 2.0).then_some(()));
    assert_eq!(origin.count(), 1);
}

#[test]
fn sessions_are_resumed_across_reloads_and_versions() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let tls = format!("certificates: [{}]", listed(&pair));
    let (gateway, secure) = start(&tls, &origin);
    for (version, name) in [(&TLS13, "TLSv1.3"), (&TLS12, "TLSv1.2")] {
        let client = ca.client_with(&[version], None);
        assert_eq!(client.get(secure, "a.example", "/").unwrap().status, 200);
        for round in 0..4 {
            if round == 2 {
                gateway.reload_whole(&file(&tls, &origin, "")).unwrap();
            }
            let mut connection = client.connect(secure, "a.example").unwrap();
            assert!(connection.is_resumed(), "{name} {round}");
            assert_eq!(connection.get("a.example", "/").unwrap().status, 200);
        }
        let count = |result| {
            let labels = [("listener", "secure"), ("result", result), ("version", name)];
            gateway.metrics().sum("moongate_tls_handshakes_total", &labels)
        };
        assert_eq!((count("full"), count("resumed")), (1.0, 4.0), "{name}");
    }
}

#[test]
fn a_session_is_resumed_at_another_gateway_with_the_same_key_and_nowhere_else() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let key = |name: &str, seed: u8| {
        let path = ca.path(name);
        std::fs::write(&path, (0..80).map(|n| n ^ seed).collect::<Vec<u8>>()).unwrap();
        path.display().to_string()
    };
    let (one, two) = (key("one", 1), key("two", 2));
    let with =
        |keys: &str| start(&format!("certificates: [{}], ticket_keys: [{keys}]", listed(&pair)), &origin);
    let (_first, first) = with(&one);
    let (second, next) = with(&format!("{two}, {one}"));
    let (_other, other) = with(&two);
    let client = ca.client();
    assert_eq!(client.get(first, "a.example", "/").unwrap().status, 200);
    let mut resumed = client.connect(next, "a.example").unwrap();
    assert!(resumed.is_resumed());
    resumed.get("a.example", "/").unwrap();
    assert!(client.connect(other, "a.example").unwrap().is_resumed(), "the first key encrypts");

    // A session without a client certificate is not resumed where one is required.
    let client = ca.client();
    client.get(next, "a.example", "/").unwrap();
    let tls = format!(
        "certificates: [{}], ticket_keys: [{two}, {one}], client_auth: {{ ca: {}, mode: optional }}",
        listed(&pair),
        ca.file().display()
    );
    second.reload_whole(&file(&tls, &origin, "")).unwrap();
    assert!(!client.connect(next, "a.example").unwrap().is_resumed());
}

#[test]
fn only_clients_with_a_certificate_are_accepted_and_plugins_know_them() {
    let (ca, other, origin) = (Authority::new(), Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let alice = ca.issue("alice", &["alice.example"]);
    let mallory = other.issue("mallory", &["alice.example"]);
    let late = ca.issue_expired("late", &["late.example"]);
    let plugins = "
    plugins:
      - kind: headers
        request: { set: { X-Client-Subject: '{cel: request.tls.client.subject}', X-Tls: '{cel: request.tls.version}' } }
";
    let config = |mode: &str| {
        let tls = format!(
            "certificates: [{}], client_auth: {{ ca: {}, mode: {mode} }}",
            listed(&pair),
            ca.file().display()
        );
        file(&tls, &origin, plugins)
    };
    let gateway = Gateway::start_whole(&config("require"));
    let secure = gateway.listener("secure");
    let forged = "GET / HTTP/1.1\r\nHost: a.example\r\nX-Client-Subject: CN=root\r\nx_client_subject: CN=root\r\nx_client-subject: CN=root\r\n\r\n";
    let shadows = |seen: &Seen| ["x_client_subject", "x_client-subject"].map(|name| seen.fields(name).len());
    for version in [&TLS13, &TLS12] {
        let client = ca.client_with(&[version], Some(&alice));
        for resumed in [false, true] {
            let mut connection = client.connect(secure, "a.example").unwrap();
            assert_eq!(connection.is_resumed(), resumed);
            assert_eq!(connection.ask(forged).unwrap().status, 200);
            let all = origin.seen();
            let seen = all.last().unwrap();
            let told = seen.fields("x-client-subject");
            assert_eq!(told, ["CN=alice"]);
            assert_eq!(shadows(seen), [0, 0], "no other spelling passes");
            assert!(seen.field("x-tls").unwrap().starts_with("TLSv1."));
        }
        let seen = origin.count();
        for (shows, alert) in [
            (None, AlertDescription::CertificateRequired),
            (Some(&mallory), AlertDescription::UnknownCA),
            (Some(&late), AlertDescription::CertificateExpired),
        ] {
            let cut = ca.client_with(&[version], shows).get(secure, "a.example", "/").unwrap_err();
            assert_eq!(cut.alert(), Some(alert), "{cut:?}");
        }
        assert_eq!(origin.count(), seen);
    }
    eventually("all are counted", || {
        let reasons = ["no_client_certificate", "client_certificate", "client_certificate_expired"];
        (reasons.map(|reason| failures(&gateway, reason)) == [2.0; 3]).then_some(())
    });

    gateway.reload_whole(&config("optional")).unwrap();
    let mut nobody = ca.client().connect(secure, "a.example").unwrap();
    assert_eq!(nobody.ask(forged).unwrap().status, 200);
    let all = origin.seen();
    let seen = all.last().unwrap();
    assert_eq!(seen.fields("x-client-subject").concat(), "");
    assert_eq!(shadows(seen), [0, 0], "no other spelling passes");
    let cut = ca.client_with(&[&TLS13], Some(&mallory)).get(secure, "a.example", "/").unwrap_err();
    assert_eq!(cut.alert(), Some(AlertDescription::UnknownCA));
}

#[test]
fn failed_tls_handshakes_get_the_alert_of_the_standard() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let tls = format!("certificates: [{}], min_version: '1.3'", listed(&pair));
    let (gateway, secure) = start(&tls, &origin);
    let client = ca.client();

    let plain = ask(secure, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!((plain.status, plain.field("connection")), (400, Some("close")));
    assert_eq!(plain.text(), "The plain HTTP request was sent to HTTPS port\n");

    for offered in [&["http/1.0"][..], &["http/1.0", "http/1.1"], &["smtp", "http/1.0"]] {
        let got = client.clone().offering(offered).get(secure, "a.example", "/").unwrap();
        assert_eq!((got.status, got.text().as_str()), (200, "a"), "{offered:?}");
    }

    origin.forget();
    let cut = client.clone().offering(&["smtp"]).connect(secure, "a.example").unwrap_err();
    assert_eq!(cut.alert(), Some(AlertDescription::NoApplicationProtocol), "{cut:?}");

    let cut = ca.client_with(&[&TLS12], None).connect(secure, "a.example").unwrap_err();
    assert_eq!(cut.alert(), Some(AlertDescription::ProtocolVersion), "{cut:?}");

    let mut garbage = Wire::connect(secure);
    // A ClientHello of one byte.
    garbage.send([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 9]);
    let said = garbage.rest();
    assert_eq!(said.first(), Some(&21), "an alert: {said:?}");

    drop(Wire::connect(secure));
    let mut slow = Wire::connect(secure);
    slow.send([0x16, 3, 1]);
    assert!(slow.ended(), "after the time of a head");

    for reason in ["plain_http", "no_protocol", "version", "malformed", "closed", "timeout"] {
        eventually(reason, || (failures(&gateway, reason) == 1.0).then_some(()));
    }
    assert_eq!(origin.count(), 0, "nothing of it reached the backend");
    let mut wire = gateway.wire();
    wire.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(wire.response().status, 200);
}

#[test]
fn a_tls_1_1_client_gets_the_protocol_version_alert() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let (gateway, secure) = start(&format!("certificates: [{}]", listed(&pair)), &origin);
    // A ClientHello with one cipher suite and no extension, in one piece and in three.
    let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    let hello = [&[22, 3, 1, 0, 45, 1, 0, 0, 41][..], &body].concat();
    for cuts in [&[50][..], &[3, 10, 50]] {
        let mut wire = Wire::connect(secure);
        let mut sent = 0;
        for cut in cuts {
            wire.send(&hello[sent..*cut]);
            sent = *cut;
        }
        assert_eq!(wire.rest(), [21, 3, 2, 0, 2, 2, 70]);
    }
    eventually("both are counted", || (failures(&gateway, "version") == 2.0).then_some(()));
}

#[test]
fn the_ocsp_response_is_stapled() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    // `successful`, with bytes that only the client reads.
    let response = [0x30, 5, 0x0a, 1, 0, 0x05, 0];
    let staple = ca.path("a.ocsp");
    std::fs::write(&staple, response).unwrap();
    let tls = format!(
        "certificates: [{{ cert: {}, key: {}, ocsp: {} }}]",
        pair.cert.display(),
        pair.key.display(),
        staple.display()
    );
    let (_gateway, secure) = start(&tls, &origin);
    let (client, verifier) = anybody();
    client.connect(secure, "a.example").unwrap();
    assert_eq!(verifier.stapled(), response);
}

#[test]
fn last_responses_reach_clients_with_tls() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let tls = format!("certificates: [{}]", listed(&pair));
    let yaml =
        file(&tls, &origin, "").replace("header_timeout: 2s", "header_timeout: 1s, max_header_size: 4KiB");
    let gateway = Gateway::start_whole(&yaml);
    let secure = gateway.listener("secure");
    let client = ca.client().offering(&["http/1.1"]);
    let mut slow = client.connect(secure, "a.example").unwrap();
    slow.send(b"GET / HTTP/1.1\r\nHost: a").unwrap();
    assert_eq!(slow.response().unwrap().status, 408);
    let mut rest = [0; 1];
    let end = slow.stream.read(&mut rest);
    assert!(matches!(end, Ok(0 | 1)), "it ends: {end:?}");

    let mut large = client.connect(secure, "a.example").unwrap();
    large.send(format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(16 << 10)).as_bytes()).unwrap();
    assert_eq!(large.response().unwrap().status, 431);
}

#[test]
fn http_redirects_to_https_and_https_sends_hsts() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let tls = format!("certificates: [{}]", listed(&pair));
    let more = "
    plugins:
      - { kind: redirect, https: true, port: 8443 }
      - { kind: security_headers, hsts: 365d }
";
    let gateway = Gateway::start_whole(&file(&tls, &origin, more));
    let mut wire = gateway.wire();
    wire.send("POST /a/b?c=d&e HTTP/1.1\r\nHost: a.example:8080\r\nContent-Length: 0\r\n\r\n");
    let moved = wire.response();
    assert_eq!((moved.status, moved.field("location")), (308, Some("https://a.example:8443/a/b?c=d&e")));
    assert_eq!(moved.field("strict-transport-security"), None);
    let there = ca.client().get(gateway.listener("secure"), "a.example", "/a/b?c=d&e").unwrap();
    assert_eq!(there.status, 200);
    assert_eq!(there.field("strict-transport-security"), Some("max-age=31536000"));
    assert_eq!(origin.seen().last().unwrap().field("x-forwarded-proto"), Some("https"));
}

#[test]
fn the_access_log_has_the_version_and_the_cipher() {
    let (ca, origin) = (Authority::new(), Origin::named("a"));
    let pair = ca.issue("a", &["a.example"]);
    let log = ca.path("access.log");
    let more = format!("access_log: {{ path: {} }}", log.display());
    let gateway = Gateway::start_whole(&file(&format!("certificates: [{}]", listed(&pair)), &origin, &more));
    ca.client().get(gateway.listener("secure"), "a.example", "/secure").unwrap();
    gateway.get("/plain");
    let lines = eventually("both lines", || {
        let text = std::fs::read_to_string(&log).ok()?;
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() == 2).then_some(lines)
    });
    let of = |path: &str| lines.iter().find(|line| line["path"] == path).unwrap();
    assert_eq!(of("/secure")["tls_version"], "TLSv1.3");
    assert!(of("/secure")["tls_cipher"].as_str().unwrap().starts_with("TLS_AES_"), "{lines:?}");
    assert!(of("/plain").get("tls_version").is_none(), "{lines:?}");
}

/// A client that accepts every certificate, and the verifier that recorded the stapled data.
pub(crate) fn anybody() -> (Client, Arc<Anything>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let verifier = Arc::new(Anything::of(&schemes));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
        .with_no_client_auth();
    (Client { config }, verifier)
}

#[derive(Debug)]
pub(crate) struct Anything {
    schemes: Vec<SignatureScheme>,
    stapled: Mutex<Vec<u8>>,
}

impl Anything {
    /// The OCSP response of the last handshake.
    pub(crate) fn stapled(&self) -> Vec<u8> {
        self.stapled.lock().unwrap().clone()
    }

    pub(crate) fn of(schemes: &[SignatureScheme]) -> Self {
        Self { schemes: schemes.to_vec(), stapled: Mutex::default() }
    }
}

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        stapled: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.stapled.lock().unwrap() = stapled.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
