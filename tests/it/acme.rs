//! Automatic certificates from Pebble over real sockets.
#![cfg(target_os = "linux")]

use crate::support::eventually::within;
use crate::support::pebble::{Manners, Place, Secure, await_status, files};
use crate::support::raw::get;
use crate::support::{Gateway, LIMIT, moongate};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

fn is_issued(status: &Value) -> bool {
    status["issued"].is_u64()
}

fn has_failed(reason: &'static str) -> impl Fn(&Value) -> bool {
    move |status| status["last_failure"]["reason"] == reason
}

#[test]
fn a_certificate_is_got_by_a_request_kept_for_its_owner_alone_and_served() {
    let Some(place) = Place::find("http-01") else { return };
    let pebble = place.start(&Manners { bad_nonces: 15, ..Manners::default() });
    let more = ", challenge: http-01, email: [admin@example.com]";
    let gateway = Gateway::start_whole(&place.gateway("one.example.com, Two.example.com", more));
    let status = await_status(&gateway, "a certificate", is_issued);
    assert_eq!(status["domains"], serde_json::json!(["one.example.com", "two.example.com"]));
    assert!(status["expires"].as_u64() > status["next_attempt"].as_u64(), "{status}");
    for name in ["one.example.com", "two.example.com"] {
        let mut secure = Secure::connect(place.tls(), name, Some(pebble.root()), &["http/1.1"]).unwrap();
        assert_eq!(secure.get("/").status, 502, "the route's backend is none");
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("moongate_acme_issued_total", &[]), 1.0);
    let certificate = status["certificate"].as_str().unwrap();
    for metric in ["certificate_expiry_timestamp_seconds", "last_success_timestamp_seconds"] {
        let name = format!("moongate_acme_{metric}");
        assert!(metrics.sum(&name, &[("certificate", certificate)]) > 1.7e9, "{name}");
    }
    let kept = files(&place.storage());
    assert_eq!(kept.len(), 2, "an account and a certificate: {kept:?}");
    for file in &kept {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    // The challenge is over: a request like any other.
    assert_eq!(get(gateway.web(), "/.well-known/acme-challenge/token").status, 502);
}

#[test]
fn a_handshake_proves_a_name_and_a_restart_needs_no_authority() {
    let Some(place) = Place::find("tls-alpn-01") else { return };
    let yaml = place.gateway("name.example.com", "");
    let gateway = Gateway::start_whole(&yaml);
    await_status(&gateway, "a failure", has_failed("unreachable"));
    let refused = Secure::connect(place.tls(), "name.example.com", None, &[]);
    assert!(refused.is_err(), "there is nothing to be shown yet");
    let pebble = place.start(&Manners::default());
    await_status(&gateway, "a certificate", is_issued);
    let root = pebble.root();
    let first = Secure::connect(place.tls(), "name.example.com", Some(root.clone()), &[]).unwrap();
    let asked = Secure::connect(place.tls(), "name.example.com", None, &["acme-tls/1"]);
    assert!(asked.is_err(), "no proof is asked for now");
    drop((pebble, gateway));
    let gateway = Gateway::start_whole(&yaml);
    let again = Secure::connect(place.tls(), "name.example.com", Some(root), &[]).unwrap();
    assert_eq!(first.certificate(), again.certificate());
    assert!(gateway.status()["acme"][0]["last_failure"].is_null(), "nobody was asked");
}

#[test]
fn a_certificate_is_renewed_ahead_of_time_and_stays_in_use_if_that_fails() {
    let Some(place) = Place::find("renewal") else { return };
    let pebble = place.start(&Manners { validity: Some(30), ..Manners::default() });
    let gateway = Gateway::start_whole(&place.gateway("name.example.com", ""));
    await_status(&gateway, "a certificate", is_issued);
    let (address, root) = (place.tls(), pebble.root());
    let shake =
        || Secure::connect(address, "name.example.com", Some(root.clone()), &[]).unwrap().certificate();
    let first = shake();
    let second = within(LIMIT * 2, "another certificate", || Some(shake()).filter(|now| *now != first));
    pebble.mislead();
    let status = await_status(&gateway, "a failure", has_failed("challenge"));
    let (failed, next) = (status["last_failure"]["at"].as_u64(), status["next_attempt"].as_u64());
    assert!(next.unwrap() >= failed.unwrap() + 300, "the authority is left in peace: {status}");
    let detail = status["last_failure"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("name.example.com: "), "{detail}");
    assert_eq!(shake(), second, "what is there serves on");
    let labels = [("reason", "challenge"), ("certificate", "name.example.com")];
    assert_eq!(gateway.metrics().sum("moongate_acme_failures_total", &labels), 1.0);
}

#[test]
fn a_reload_with_one_more_name_serves_the_others_meanwhile_and_an_unchanged_one_orders_nothing() {
    let Some(place) = Place::find("a reload") else { return };
    let pebble = place.start(&Manners::default());
    let gateway = Gateway::start_whole(&place.gateway("one.example.com", ""));
    await_status(&gateway, "a certificate", is_issued);
    let shake = |name: &str| Secure::connect(place.tls(), name, Some(pebble.root()), &[]);
    let first = shake("one.example.com").unwrap().certificate();
    gateway.reload_whole(&place.gateway("one.example.com", "")).unwrap();
    assert_eq!(gateway.metrics().sum("moongate_acme_issued_total", &[]), 1.0);
    assert_eq!(shake("one.example.com").unwrap().certificate(), first);
    pebble.mislead();
    gateway.reload_whole(&place.gateway("one.example.com, two.example.com", "")).unwrap();
    await_status(&gateway, "a failure", has_failed("challenge"));
    assert_eq!(shake("one.example.com").unwrap().certificate(), first);
}

#[test]
fn an_external_account_is_used_and_a_wrong_key_is_reported() {
    let Some(place) = Place::find("external accounts") else { return };
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let _pebble = place.start(&Manners { external: Some(("kid-1", key)), ..Manners::default() });
    let account = |key: &str| format!(", external_account: {{ id: kid-1, key: {key} }}");
    let gateway = Gateway::start_whole(&place.gateway("name.example.com", &account("d3Jvbmc")));
    await_status(&gateway, "a failure", has_failed("account"));
    // A CA shows no client certificate to a validation, even if clients must have one.
    let ca = place.issuer();
    let strict =
        format!("tls: {{ min_version: \"1.3\", unknown_sni: reject, client_auth: {{ ca: {ca} }}, acme");
    let yaml = place.gateway("name.example.com", &account(key)).replace("tls: { acme", &strict);
    gateway.reload_whole(&yaml).unwrap();
    await_status(&gateway, "a certificate", is_issued);
}

#[test]
fn an_unwritable_folder_is_reported_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "a file").unwrap();
    let file = folder.path().join("moongate.yaml");
    let yaml = format!(
        "listeners: [{{ address: \"127.0.0.1:0\", tls: {{ acme: {{ domains: [example.com], storage: {} }} }} }}]\n\
         routes: [{{ upstream: [\"127.0.0.1:1\"] }}]\n",
        taken.display()
    );
    std::fs::write(&file, yaml).unwrap();
    let file = file.to_str().unwrap();
    for command in ["check", "run"] {
        let output = moongate(&[command, "-c", file]);
        let report = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{command}: {report}");
        assert!(report.contains("certificates cannot be stored in"), "{command}: {report}");
    }
    // A directory that can be created is accepted, and checking does not create it.
    std::fs::remove_file(&taken).unwrap();
    assert!(moongate(&["check", "-c", file]).status.success());
    assert!(!taken.exists(), "checking touches nothing");
}
