//! `listeners.tls.acme`, with a CA that records orders and issues nothing.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::certs::Authority;
use crate::support::origin::answer;
use crate::support::secured::{Front, Issuer, Life};
use crate::support::{Next, Origin, Seen, eventually};
use crate::tls::listed;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

pub(super) const CASES: &[Case] = &[
    case(&["listeners.tls.acme"], section),
    case(&["listeners.tls.acme.domains"], domains),
    case(&["listeners.tls.acme.directory"], directory),
    case(&["listeners.tls.acme.email"], email),
    case(&["listeners.tls.acme.challenge"], challenge),
    case(&["listeners.tls.acme.storage"], storage),
    case(&["listeners.tls.acme.directory_ca"], directory_ca),
    case(
        &[
            "listeners.tls.acme.external_account",
            "listeners.tls.acme.external_account.id",
            "listeners.tls.acme.external_account.key",
        ],
        external_account,
    ),
];

/// A CA whose orders become invalid after the challenge (RFC 8555 §7).
fn authority(scheme: &'static str) -> Origin {
    Origin::scripted("authority", move |seen, wire| {
        let base = format!("{scheme}://{}", seen.field("host").unwrap_or_default());
        let url = |path: &str| format!("{base}{path}");
        let order = |status: &str| json!({ "status": status, "identifiers": [], "authorizations": [url("/authz")], "finalize": url("/finalize") });
        let challenge = |kind: &str| json!({ "type": kind, "url": url(&format!("/{kind}")), "token": "t", "status": "pending" });
        let (status, body) = match seen.target() {
            "/dir" => {
                let names = [("newNonce", "/nonce"), ("newAccount", "/account"), ("newOrder", "/new-order")];
                (200, names.iter().map(|(name, path)| ((*name).to_owned(), json!(url(path)))).collect())
            }
            "/account" => (201, json!({ "status": "valid" })),
            "/new-order" => (201, order("pending")),
            "/authz" => {
                let challenges = [challenge("http-01"), challenge("tls-alpn-01")];
                let identifier = json!({ "type": "dns", "value": "a.example" });
                (200, json!({ "status": "pending", "identifier": identifier, "challenges": challenges }))
            }
            "/order" => (200, order("invalid")),
            "/http-01" | "/tls-alpn-01" => (200, challenge(seen.target().trim_start_matches('/'))),
            _ => (200, Value::Null),
        };
        let location = match seen.target() {
            "/account" => format!("Location: {}\r\n", url("/account/1")),
            "/new-order" => format!("Location: {}\r\n", url("/order")),
            _ => String::new(),
        };
        let fields = format!("Replay-Nonce: bm9uY2U\r\nContent-Type: application/json\r\n{location}");
        let mut response = answer(status, &fields, body.to_string().as_bytes());
        if seen.line().starts_with("HEAD") {
            response.truncate(response.len() - body.to_string().len());
        }
        wire.try_send(response).map_or(Next::Close, |()| Next::Keep)
    })
}

/// Reloads a listener with these settings of `acme`.
fn reload(gateway: &LoadedGateway, acme: &str) {
    gateway.reload(
        &File::default()
            .and_listener(format!("name: automatic, address: 127.0.0.1:0, tls: {{ acme: {{ {acme} }} }}")),
    );
}

/// The required settings, with a storage folder of this name.
fn acme(gateway: &LoadedGateway, authority: &Origin, storage: &str, more: &str) -> String {
    let storage = gateway.path(storage);
    format!(
        "domains: [a.example], directory: 'http://{authority}/dir', storage: '{}'{more}",
        storage.display()
    )
}

fn decoded(text: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

/// The payload of a signed request (RFC 8555 §6.2).
fn payload(seen: &Seen) -> Value {
    let signed: Value = serde_json::from_slice(&seen.body).unwrap();
    serde_json::from_slice(&decoded(&signed["payload"])).unwrap()
}

/// Waits for the last request to this path, if it fulfils this.
fn await_request(authority: &Origin, path: &str, wanted: impl Fn(&Seen) -> bool) {
    eventually(&format!("a request to {path}"), || {
        authority.seen().iter().rfind(|seen| seen.target() == path).filter(|seen| wanted(seen)).map(drop)
    });
}

fn section(gateway: &LoadedGateway) {
    let (certificates, ca) = (Authority::new(), authority("http"));
    let pair = certificates.issue("a", &["a.example"]);
    let tls = format!("tls: {{ certificates: [{}] }}", listed(&pair));
    gateway.reload(&File::default().and_listener(format!("name: automatic, address: 127.0.0.1:0, {tls}")));
    assert!(gateway.gateway().status()["acme"].as_array().is_none_or(Vec::is_empty));
    reload(gateway, &acme(gateway, &ca, "section", ""));
    await_request(&ca, "/new-order", |_| true);
    gateway.reload(&File::default());
    assert!(gateway.gateway().status()["acme"].as_array().is_none_or(Vec::is_empty));
}

fn domains(gateway: &LoadedGateway) {
    let ca = authority("http");
    for domains in ["a.example", "b.example, c.example"] {
        reload(gateway, &acme(gateway, &ca, "domains", "").replace("[a.example]", &format!("[{domains}]")));
        await_request(&ca, "/new-order", |seen| {
            let order = payload(seen);
            let names = order["identifiers"].as_array().unwrap().iter();
            names.map(|name| name["value"].as_str().unwrap()).collect::<Vec<_>>().join(", ") == domains
        });
    }
}

fn directory(gateway: &LoadedGateway) {
    for authority in [authority("http"), authority("http")] {
        reload(gateway, &acme(gateway, &authority, "directory", ""));
        await_request(&authority, "/new-order", |_| true);
    }
}

fn email(gateway: &LoadedGateway) {
    let ca = authority("http");
    for email in ["one@example.com", "two@example.com"] {
        // The account of the first reload is updated by the second.
        let path = if email.starts_with("one") { "/account" } else { "/account/1" };
        reload(gateway, &acme(gateway, &ca, "email", &format!(", email: [{email}]")));
        await_request(&ca, path, |seen| payload(seen)["contact"] == json!([format!("mailto:{email}")]));
    }
}

fn challenge(gateway: &LoadedGateway) {
    let ca = authority("http");
    for challenge in ["tls-alpn-01", "http-01"] {
        reload(gateway, &acme(gateway, &ca, challenge, &format!(", challenge: {challenge}")));
        await_request(&ca, &format!("/{challenge}"), |_| true);
    }
}

fn storage(gateway: &LoadedGateway) {
    let ca = authority("http");
    for storage in ["storage-1", "storage-2"] {
        reload(gateway, &acme(gateway, &ca, storage, ""));
        let folder = gateway.path(storage);
        eventually("the account is stored", || {
            (folder.is_dir() && !crate::support::pebble::files(&folder).is_empty()).then_some(())
        });
    }
}

fn directory_ca(gateway: &LoadedGateway) {
    let (issuer, other, ca) = (Issuer::new(), Issuer::new(), authority("https"));
    let front = Front::start(Some(issuer.server(&["127.0.0.1"], Life::Now, false)), false, ca.address());
    let with = |issuer: &Issuer, storage: &str| {
        let plain =
            acme(gateway, &ca, storage, &format!(", directory_ca: '{}'", issuer.file("ca.pem").display()));
        plain.replace(&format!("http://{ca}"), &format!("https://{}", front.address))
    };
    reload(gateway, &with(&other, "untrusted"));
    eventually("the directory is not trusted", || {
        let failure = &gateway.gateway().status()["acme"][0]["last_failure"];
        (!failure.is_null()).then_some(())
    });
    assert_eq!(ca.count(), 0);
    reload(gateway, &with(&issuer, "trusted"));
    await_request(&ca, "/new-order", |_| true);
}

fn external_account(gateway: &LoadedGateway) {
    let ca = authority("http");
    reload(gateway, &acme(gateway, &ca, "external-0", ""));
    await_request(&ca, "/account", |seen| payload(seen).get("externalAccountBinding").is_none());
    for (id, key) in
        [("id-1", "a key of 32 bytes for the MAC, 1"), ("id-2", "a key of 32 bytes for the MAC, 2")]
    {
        let encoded = URL_SAFE_NO_PAD.encode(key);
        let account = format!(", external_account: {{ id: {id}, key: {encoded} }}");
        reload(gateway, &acme(gateway, &ca, id, &account));
        await_request(&ca, "/account", |seen| {
            let binding = &payload(seen)["externalAccountBinding"];
            let Some(protected) = binding["protected"].as_str() else { return false };
            let header: Value = serde_json::from_slice(&decoded(&binding["protected"])).unwrap();
            let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
            mac.update(format!("{protected}.{}", binding["payload"].as_str().unwrap()).as_bytes());
            header["kid"] == id && mac.verify_slice(&decoded(&binding["signature"])).is_ok()
        });
    }
}
