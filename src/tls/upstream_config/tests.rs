//! Tests of an upstream's certificate files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::super::tests::VERSION_1;
use super::*;
use moongate_config::{Place, Severity};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use std::fs;
use std::path::Path;

/// PKCS #8 with an unknown type of key.
const UNKNOWN_KEY_TYPE: &str = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";

fn years(name: &str, from: i32, to: i32) -> CertificateParams {
    let mut params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    params
}

/// `ca.pem`, and `gateway.pem` issued by it, with its key and validity in years.
fn folder(issuer: [i32; 2], shown: [i32; 2]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut params = years("issuer", issuer[0], issuer[1]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = years("gateway", shown[0], shown[1]).signed_by(&key, &issuer).unwrap();
    fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
    fs::write(folder.path().join("gateway.pem"), certificate.pem()).unwrap();
    fs::write(folder.path().join("gateway.key"), key.serialize_pem()).unwrap();
    folder
}

fn compile(folder: &Path, ca: &str, prior: Option<&Arc<Client>>) -> Result<Arc<Client>, Problems> {
    let file = |key: &str, name: &str| {
        let place = Place { path: key.into(), ..Place::nowhere() };
        Some(Placed { value: folder.join(name).display().to_string(), place })
    };
    let written = UpstreamTls {
        ca: file("ca", ca),
        cert: file("cert", "gateway.pem"),
        key: file("key", "gateway.key"),
        ..UpstreamTls::default()
    };
    Client::compile(&Placed { value: written, place: Place::nowhere() }, prior)
}

/// Paths and messages.
fn messages(problems: &[Problem]) -> Vec<(String, String)> {
    let messages =
        |problem: &Problem| (problem.place.clone().unwrap().path.to_string(), problem.message.clone());
    problems.iter().map(messages).collect()
}

fn only(problems: &[Problem], key: &str, message: &str) {
    let messages = messages(problems);
    assert!(messages.len() == 1 && messages[0].0 == key && messages[0].1.contains(message), "{messages:?}");
}

#[test]
fn valid_files_cause_no_warning() {
    let folder = folder([2000, 4000], [2000, 4000]);
    assert_eq!(compile(folder.path(), "ca.pem", None).unwrap().advice(), []);
}

#[test]
fn a_client_certificate_must_be_valid_unless_already_in_use() {
    for (shown, message) in [([2000, 2001], "expired"), ([3999, 4000], "not valid before")] {
        let folder = folder([2000, 4000], shown);
        let refused = compile(folder.path(), "ca.pem", None).unwrap_err();
        only(&refused.0, "cert", message);
        assert!(refused.refuse());
    }
    let folder = folder([2000, 4000], [2000, 4000]);
    let good = compile(folder.path(), "ca.pem", None).unwrap();
    let late = self::folder([2000, 4000], [2000, 2001]);
    let file = fs::read(late.path().join("gateway.pem")).unwrap();
    let chain = pem::certificates(&file).unwrap();
    let Ok(mut good) = Arc::try_unwrap(good) else { panic!("the test holds the only reference") };
    let key = good.identity.take().unwrap().key;
    good.identity = Some(Identity { chain, key });
    let taken = compile(late.path(), "ca.pem", Some(&Arc::new(good))).unwrap();
    only(taken.advice(), "cert", "expired");
    assert_eq!(taken.advice()[0].severity, Severity::Warning);
}

#[test]
fn doubtful_issuers_are_accepted_with_a_warning() {
    let folder = folder([2000, 2001], [2000, 4000]);
    let taken = compile(folder.path(), "ca.pem", None).unwrap();
    only(taken.advice(), "ca", "has expired");
    let folder = self::folder([2000, 4000], [2000, 4000]);
    let taken = compile(folder.path(), "gateway.pem", None).unwrap();
    only(taken.advice(), "ca", "is not a CA certificate");
    // A backend's own certificate is self-signed.
    let own = years("own", 2000, 4000).self_signed(&KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.path().join("own.pem"), own.pem()).unwrap();
    let taken = compile(folder.path(), "own.pem", None).unwrap();
    assert_eq!(taken.advice(), []);
    let mut roots = RootCertStore::empty();
    roots.add(own.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let name = ServerName::try_from("own.example").unwrap();
    verifier.verify_server_cert(own.der(), &[], &name, &[], UnixTime::now()).unwrap();
}

#[test]
fn an_unusable_pair_is_refused_with_the_reason() {
    let good = folder([2000, 4000], [2000, 4000]);
    let other = KeyPair::generate().unwrap().serialize_pem();
    for (file, bytes, key, message) in [
        ("gateway.key", other.as_str(), "key", "does not match the certificate"),
        ("gateway.key", UNKNOWN_KEY_TYPE, "key", "the private key cannot be used"),
    ] {
        fs::write(good.path().join(file), bytes).unwrap();
        only(&compile(good.path(), "ca.pem", None).unwrap_err().0, key, message);
    }
    fs::write(good.path().join("gateway.pem"), VERSION_1).unwrap();
    let messages = messages(&compile(good.path(), "ca.pem", None).unwrap_err().0);
    let wrong = "the certificate has X.509 version 1; version 3 with subjectAltName is required";
    assert!(messages.contains(&("cert".to_owned(), wrong.to_owned())), "{messages:?}");
}
