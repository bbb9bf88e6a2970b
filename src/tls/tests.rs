//! Tests of a listener's files with any content.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::{Acceptor, AcceptorContext, Alpn, Challenges, RefreshOutcome};
use crate::config::{Certificate, ClientAuth, ClientAuthMode, ListenerTls, TicketKeys};
use moongate_config::{Place, Placed, Problems};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// The output of `openssl x509 -req` without `-extfile`.
pub(super) const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBEjCBugIBATAKBggqhkjOPQQDAjAVMRMwEQYDVQQDDAp2MS5leGFtcGxlMCAX
DTI2MTEyMzA3NDgwM1oYDzIxMjYxMDMwMDc0ODAzWjAVMRMwEQYDVQQDDAp2MS5l
eGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEUIY+VSpSlGwb3w+5UbX+
G8xcXRgS1Q8nJk/eHfqID53Dhm4eZNIykk6hNnDzOOmkNt2U2R8yHRwD3g7LvFjf
ITAKBggqhkjOPQQDAgNHADBEAiB//MSLbiXDefIHH4mviZsKnBcXX+Dw7XSKK1s3
+sScBwIgPqYlcGrB5/AHoau7eLEigTwgcEeEWIcrMmxMpJ5cby0=
-----END CERTIFICATE-----
";

const NAMES: [&str; 5] = ["a.pem", "a.key", "a.ocsp", "ca.pem", "tickets"];

fn placed<T>(value: T) -> Placed<T> {
    Placed { value, place: Place::nowhere() }
}

/// A folder with valid files for all settings of a listener.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let good = [
        certificate.pem().into_bytes(),
        key.serialize_pem().into_bytes(),
        vec![0x30, 3, 0x0a, 1, 0],
        certificate.pem().into_bytes(),
        (0..48).collect(),
    ];
    for (name, bytes) in NAMES.iter().zip(good) {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn compile(folder: &Path) -> (Result<Arc<Acceptor>, Problems>, Problems) {
    let file = |name: &str| placed(folder.join(name).display().to_string());
    let written = ListenerTls {
        certificates: vec![placed(Certificate {
            cert: file("a.pem"),
            key: file("a.key"),
            ocsp: Some(file("a.ocsp")),
        })],
        acme: None,
        unknown_sni: Default::default(),
        min_version: Default::default(),
        client_auth: Some(placed(ClientAuth { ca: file("ca.pem"), mode: ClientAuthMode::Require })),
        ticket_keys: TicketKeys::Files(vec![file("tickets")]),
    };
    let mut warnings = Problems::default();
    let around = AcceptorContext {
        secrets: None,
        listener: "l",
        prior: None,
        later: None,
        challenges: &Arc::<Challenges>::default(),
    };
    let alpn = Alpn { h2: true, http1: true };
    (Acceptor::compile(&placed(written), alpn, around, &mut warnings), warnings)
}

#[test]
fn valid_files_are_used_and_refreshed() {
    let folder = folder();
    let (acceptor, _) = compile(folder.path());
    let acceptor = acceptor.unwrap();
    assert_eq!(acceptor.certificates()[0].names, ["a.example"]);
    assert!(matches!(acceptor.look(), RefreshOutcome::Same));
    fs::write(folder.path().join("tickets"), (1..=80).collect::<Vec<u8>>()).unwrap();
    assert!(matches!(acceptor.look(), RefreshOutcome::Changed(_)));
    assert!(matches!(acceptor.look(), RefreshOutcome::Same));
}

#[test]
fn a_problem_is_reported_once_after_two_refreshes() {
    let folder = folder();
    let acceptor = compile(folder.path()).0.unwrap();
    let good = fs::read(folder.path().join("a.key")).unwrap();
    for _ in 0..2 {
        fs::write(folder.path().join("a.key"), "half").unwrap();
        assert!(matches!(acceptor.look(), RefreshOutcome::Same), "the file may be partly written");
        assert!(matches!(acceptor.look(), RefreshOutcome::Refused(_)));
        assert!(matches!(acceptor.look(), RefreshOutcome::Same));
        assert_eq!(acceptor.certificates().len(), 1);
        fs::write(folder.path().join("a.key"), &good).unwrap();
        assert!(matches!(acceptor.look(), RefreshOutcome::Same), "the certificate in use equals the file");
    }
}

#[test]
fn a_chain_in_the_wrong_order_is_a_warning() {
    let folder = folder();
    let mut unrelated = CertificateParams::new(vec!["b.example".to_owned()]).unwrap();
    unrelated.distinguished_name.push(rcgen::DnType::CommonName, "b");
    let unrelated = unrelated.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let chain = fs::read_to_string(folder.path().join("a.pem")).unwrap() + &unrelated.pem();
    fs::write(folder.path().join("a.pem"), chain).unwrap();
    let (acceptor, warnings) = compile(folder.path());
    acceptor.unwrap();
    assert!(warnings.0.iter().any(|warning| warning.message.contains("out of order")), "{warnings:?}");
}

#[test]
fn a_certificate_of_version_1_is_refused_for_that_alone() {
    let folder = folder();
    fs::write(folder.path().join("a.pem"), VERSION_1).unwrap();
    let (refused, warnings) = compile(folder.path());
    let messages: Vec<_> = refused.unwrap_err().0.into_iter().map(|problem| problem.message).collect();
    let wrong = "the certificate has X.509 version 1; version 3 with subjectAltName is required";
    assert!(messages.iter().any(|message| message == wrong), "{messages:?}");
    assert!(
        messages.iter().all(|message| message == wrong || message.contains("not valid before")),
        "{messages:?}"
    );
    assert_eq!(warnings.0, []);
}

/// Arbitrary bytes, or PEM sections with arbitrary content.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let label = prop::sample::select(vec!["CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"]);
    let section = (label, "[A-Za-z0-9+/=\n]{0,200}", any::<bool>()).prop_map(|(label, text, whole)| {
        let end = if whole { format!("\n-----END {label}-----\n") } else { String::new() };
        format!("-----BEGIN {label}-----\n{text}{end}").into_bytes()
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), section]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_file_panics(which in 0..NAMES.len(), bytes in bytes()) {
        let folder = folder();
        fs::write(folder.path().join(NAMES[which]), bytes).unwrap();
        let _ = compile(folder.path());
    }

    #[test]
    fn a_damaged_file_does_not_panic(which in 0..NAMES.len(), at: prop::sample::Index, byte: u8) {
        let folder = folder();
        let path = folder.path().join(NAMES[which]);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fs::write(&path, bytes).unwrap();
        let _ = compile(folder.path());
    }
}
