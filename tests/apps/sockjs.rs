//! The example of examples/sockjs: SockJS by polling, each session at one of two backends, and the commands of its
//! pages. tests/browser/sockjs.mjs runs its page in a browser.

use crate::application::{Application, Place, answer, installed, root};
use crate::browser::Browser;
use crate::guide::Guide;
use crate::support::Gateway;
use std::collections::BTreeSet;
use std::net::SocketAddr;

const EXAMPLE: &str = "examples/sockjs";
const PACKAGES: &str = "examples/sockjs/node_modules/sockjs/package.json";

/// Two backends, blue and green.
struct Backends {
    addresses: [SocketAddr; 2],
    _running: [Application; 2],
    _places: [Place; 2],
}

impl Backends {
    fn start() -> Self {
        let places = [Place::new(), Place::new()];
        let addresses = places.each_ref().map(Place::address);
        let running = [0, 1].map(|index| {
            let (place, address) = (&places[index], addresses[index]);
            let mut command = place.command("/usr/bin/env");
            command.arg("node").arg(root(EXAMPLE).join("server.mjs")).arg(["blue", "green"][index]);
            command.arg(address.port().to_string()).env("HOST", address.ip().to_string());
            place.start(&mut command, || answer(address, "/health").is_some())
        });
        Self { addresses, _running: running, _places: places }
    }

    /// Two backends behind a gateway with the configuration of a page.
    fn behind(guide: &Guide) -> (Self, Gateway) {
        let backends = Self::start();
        let replace = backends.addresses();
        let replace: Vec<_> = replace.iter().map(|(from, to)| (*from, to.as_str())).collect();
        let gateway = Gateway::start(&guide.yaml(&replace));
        (backends, gateway)
    }

    /// Replacements of the addresses in the pages and in moongate.yaml.
    fn addresses(&self) -> [(&'static str, String); 2] {
        let [blue, green] = self.addresses;
        [("127.0.0.1:8081", blue.to_string()), ("127.0.0.1:8082", green.to_string())]
    }
}

/// The payload of the next response to a poll, without the line end.
fn poll(browser: &mut Browser, session: &str) -> String {
    let response = browser.send("POST", &format!("{session}/xhr"), &[], b"");
    assert_eq!(response.status, 200, "{session}: {}", response.head);
    response.text().trim_end().to_owned()
}

/// The JSON of the only message of an array frame (`a["…"]`).
fn message(frame: &str) -> serde_json::Value {
    let texts: Vec<String> = serde_json::from_str(frame.strip_prefix('a').unwrap_or(frame)).unwrap();
    assert_eq!(texts.len(), 1, "{frame}");
    serde_json::from_str(&texts[0]).unwrap()
}

#[test]
fn every_request_of_a_sockjs_session_reaches_its_backend() {
    if !installed("every_request_of_a_sockjs_session_reaches_its_backend", &[PACKAGES]) {
        return;
    }
    let guide = Guide::of("sockjs");
    let (_backends, gateway) = Backends::behind(&guide);
    guide.check(gateway.web(), &[]);

    let mut used = BTreeSet::new();
    for client in 0..8 {
        let mut browser = Browser::new(gateway.web());
        browser.open("/acts_competition/", "/acts_competition/", &[]);
        let session = format!("/acts_competition/sockjs/000/client{client}");
        assert_eq!(poll(&mut browser, &session), "o");
        let backend = message(&poll(&mut browser, &session))["backend"].clone();
        for count in 1..=3 {
            let sent = serde_json::json!([r#"{"type":"message","id":1,"text":"hello"}"#]).to_string();
            let fields = [("Content-Type", "text/plain")];
            let response = browser.send("POST", &format!("{session}/xhr_send"), &fields, sent.as_bytes());
            assert_eq!(response.status, 204, "{}{}", response.head, response.text());
            let echo = message(&poll(&mut browser, &session));
            assert_eq!((&echo["backend"], &echo["count"]), (&backend, &count.into()), "client {client}");
        }
        used.insert(backend.to_string());
    }
    assert_eq!(used.len(), 2, "{used:?}");
}

#[test]
fn a_page_of_another_site_is_refused() {
    if !installed("a_page_of_another_site_is_refused", &[PACKAGES]) {
        return;
    }
    let (_backends, gateway) = Backends::behind(&Guide::of("sockjs"));
    let foreign = [("Origin", "https://other.example")];
    let refused = Browser::new(gateway.web()).send("GET", "/acts_competition/sockjs/info", &foreign, b"");
    assert_eq!(refused.status, 403, "{}", refused.head);
}

#[test]
fn the_commands_of_the_sockjs_example_show_what_its_readme_shows() {
    if !installed("the_commands_of_the_sockjs_example_show_what_its_readme_shows", &[PACKAGES]) {
        return;
    }
    let backends = Backends::start();
    let mut yaml = std::fs::read_to_string(root(EXAMPLE).join("moongate.yaml")).unwrap();
    for (from, to) in [("127.0.0.1:8080", "127.0.0.1:0"), ("127.0.0.1:9901", "127.0.0.1:0")] {
        assert!(yaml.contains(from), "{yaml}");
        yaml = yaml.replace(from, to);
    }
    let addresses = backends.addresses();
    for (from, to) in &addresses {
        assert!(yaml.contains(from), "{yaml}");
        yaml = yaml.replace(from, to);
    }
    let gateway = Gateway::start_whole(&yaml);
    let admin = gateway.admin().to_string();
    let mut replace: Vec<_> = addresses.iter().map(|(from, to)| (*from, to.as_str())).collect();
    replace.push(("127.0.0.1:9901", &admin));
    Guide::at("examples/sockjs/README.md").check(gateway.web(), &replace);
}
