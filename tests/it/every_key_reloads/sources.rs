//! `sources` of the kind `etcd`. The server is one of the test; tests/it/sources.rs has real ones.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::fake_etcd::FakeEtcd;
use crate::support::secured::{Front, Issuer, Life};
use crate::support::{Origin, eventually};
use std::fmt;

pub(super) const CASES: &[Case] = &[
    case(&["sources", "sources.kind", "sources.etcd", "sources.servers"], servers),
    case(&["sources.prefix"], prefix),
    case(&["sources.user", "sources.password"], |gateway| {
        user(gateway, |password| format!("user: ann, password: {password}"));
    }),
    case(&["sources.password_file"], |gateway| {
        let file = gateway.path("etcd-password");
        user(gateway, |password| {
            std::fs::write(&file, format!("{password}\n")).unwrap();
            format!("user: ann, password_file: '{}'", file.display())
        });
    }),
    case(&["sources.tls", "sources.tls.ca", "sources.tls.sni", "sources.tls.verify"], trust),
    case(&["sources.tls.cert", "sources.tls.key"], identity),
];

fn discovered(settings: impl fmt::Display) -> File {
    File::top(format!("sources: [{{ kind: etcd, {settings} }}]"))
}

/// A document with a route to this endpoint.
fn document(origin: &Origin) -> String {
    format!("routes: [{{ path: /case, upstream: ['{origin}'] }}]")
}

fn await_text(gateway: &LoadedGateway, name: &str) {
    eventually("the other endpoint", || (gateway.get("/case").text() == name).then_some(()));
}

/// Waits for the error of the source; none for an empty text.
fn await_error(gateway: &LoadedGateway, part: &str) {
    eventually(part, || {
        let status = gateway.gateway().status();
        let error = &status["sources"][0]["error"];
        match part {
            "" => error.is_null().then_some(()),
            part => error.as_str()?.contains(part).then_some(()),
        }
    });
}

fn servers(gateway: &LoadedGateway) {
    let (first, second) = (FakeEtcd::start(), FakeEtcd::start());
    let origins = ["a", "b"].map(Origin::named);
    first.put("/case/x", &document(&origins[0]));
    second.put("/case/x", &document(&origins[1]));
    for (etcd, name) in [(&first, "a"), (&second, "b"), (&first, "a")] {
        gateway.reload(&discovered(format!("servers: ['{}'], prefix: /case/", etcd.url())));
        await_text(gateway, name);
    }
}

fn prefix(gateway: &LoadedGateway) {
    let etcd = FakeEtcd::start();
    let origins = ["a", "b"].map(Origin::named);
    for (name, origin) in ["a", "b"].iter().zip(&origins) {
        etcd.put(&format!("/{name}/x"), &document(origin));
    }
    for name in ["a", "b", "a"] {
        gateway.reload(&discovered(format!("servers: ['{}'], prefix: /{name}/", etcd.url())));
        await_text(gateway, name);
    }
}

fn user(gateway: &LoadedGateway, settings: impl Fn(&str) -> String) {
    let (etcd, origin) = (FakeEtcd::start(), Origin::named("a"));
    etcd.put("/case/x", &document(&origin));
    etcd.require("ann", "hush");
    let of = |settings: &str| discovered(format!("servers: ['{}'], prefix: /case/, {settings}", etcd.url()));
    gateway.reload(&of(""));
    await_error(gateway, "invalid auth token");
    gateway.reload(&of(&settings("wrong")));
    await_error(gateway, "authentication failed");
    gateway.reload(&of(&settings("hush")));
    await_error(gateway, "");
    await_text(gateway, "a");
}

/// A server with TLS: an error where `expected` has one.
fn secure(gateway: &LoadedGateway, issuer: &Issuer, asks: bool, cases: &[(String, &str)]) {
    let (etcd, origin) = (FakeEtcd::start(), Origin::named("a"));
    etcd.put("/case/x", &document(&origin));
    let server = issuer.server(&["etcd.test"], Life::Now, asks);
    let front = Front::start(Some(server), false, etcd.address());
    for (tls, error) in cases {
        let server = front.address;
        gateway
            .reload(&discovered(format!("servers: ['https://{server}'], prefix: /case/, tls: {{ {tls} }}")));
        await_error(gateway, error);
        await_text(gateway, "a");
    }
}

fn trusting(issuer: &Issuer) -> String {
    format!("sni: etcd.test, ca: '{}'", issuer.file("ca.pem").display())
}

fn trust(gateway: &LoadedGateway) {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let named = |name: &str| trusting(&issuer).replace("etcd.test", name);
    let cases = [
        (trusting(&issuer), ""),
        (trusting(&other), "certificate"),
        (trusting(&issuer), ""),
        (named("other.test"), "certificate"),
        (named("other.test") + ", verify: false", ""),
    ];
    secure(gateway, &issuer, false, &cases);
}

fn identity(gateway: &LoadedGateway) {
    let issuer = Issuer::new();
    issuer.issue("gateway", &["gateway.test"], Life::Now);
    let [cert, key] = ["gateway.pem", "gateway.key"].map(|name| issuer.file(name).display().to_string());
    let shown = format!("{}, cert: '{cert}', key: '{key}'", trusting(&issuer));
    let cases = [(shown.clone(), ""), (trusting(&issuer), "ertificate"), (shown, "")];
    secure(gateway, &issuer, true, &cases);
}
