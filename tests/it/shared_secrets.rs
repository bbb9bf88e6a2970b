//! Secrets of `sticky` cookies and TLS session tickets that gateways share through a real Redis server.

use crate::moved_websockets::upgraded;
use crate::support::certs::{Authority, Pair};
use crate::support::raw::ask;
use crate::support::redis::{Redis, is_installed};
use crate::support::{Gateway, Origin, Response, eventually, moongate};
use crate::tls::listed;
use rustls::version::{TLS12, TLS13};
use std::process::Output;

const STICKY: &str = "balance: { kind: sticky, store: fleet }";

fn sticky(store: &str, backends: &[Origin; 2]) -> String {
    let [a, b] = backends;
    format!(
        "stores: {{ fleet: {{ kind: redis, url: 'redis://{store}', deadline: 1s }} }}
upstreams: {{ all: {{ endpoints: ['{a}', '{b}'], {STICKY} }} }}
routes: [{{ name: all, upstream: all }}]
"
    )
}

fn backends() -> [Origin; 2] {
    ["a", "b"].map(Origin::named)
}

fn get(gateway: &Gateway, cookie: Option<&str>) -> Response {
    let line = cookie.map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
    ask(gateway.web(), format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{line}\r\n"))
}

/// The name and value of the cookie that a response sets.
fn set_cookie(response: &Response) -> Option<String> {
    Some(response.field("set-cookie")?.split(';').next()?.to_owned())
}

/// A new client's cookie, and the backend that it names.
fn new_client(gateway: &Gateway) -> (String, String) {
    let response = get(gateway, None);
    (set_cookie(&response).expect("a cookie"), response.text())
}

/// A client with this cookie reaches this backend. Returns the cookie that replaces its own, if one does.
fn follow(gateway: &Gateway, cookie: &str, backend: &str) -> Option<String> {
    // With two backends every other client without a valid cookie would reach this one too.
    let responses: Vec<_> = (0..8).map(|_| get(gateway, Some(cookie))).collect();
    assert!(responses.iter().all(|response| response.text() == backend), "{cookie} leads to {backend}");
    set_cookie(&responses[0])
}

/// The version that signs.
fn version(gateway: &Gateway) -> u64 {
    gateway.status()["stores"][0]["secrets"].as_u64().unwrap()
}

fn await_version(gateways: &[&Gateway], wanted: u64) {
    eventually(&format!("version {wanted} signs"), || {
        gateways.iter().all(|gateway| version(gateway) == wanted).then_some(())
    });
}

fn rotate(gateway: &Gateway) -> Output {
    moongate(&["secrets", "rotate", "--admin", &gateway.admin().to_string()])
}

#[test]
fn cookies_are_accepted_by_every_gateway_before_and_after_rotations() {
    if !is_installed("cookies_are_accepted_by_every_gateway_before_and_after_rotations") {
        return;
    }
    let (redis, backends) = (Redis::start(), backends());
    let yaml = sticky(&redis.address(), &backends);
    let [first, second] = [Gateway::start(&yaml), Gateway::start(&yaml)];
    let both = [&first, &second];
    await_version(&both, 1);
    let (cookie, backend) = new_client(&first);
    assert_eq!(both.map(|gateway| follow(gateway, &cookie, &backend)), [None, None]);

    let done = rotate(&first);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "fleet: secret 2 added; it signs in 5 s\n");
    // Not before every gateway knows it.
    assert_eq!(both.map(version), [1, 1]);
    assert_eq!(both.map(|gateway| follow(gateway, &cookie, &backend)), [None, None]);
    let again = rotate(&second);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not complete"), "{again:?}");
    // A client in between that meets one gateway with the new secret and one with the old one keeps its session.
    let mut current = cookie.clone();
    eventually("the new secret signs at both", || {
        for gateway in both {
            current = follow(gateway, &current, &backend).unwrap_or_else(|| current.clone());
        }
        (both.map(version) == [2, 2]).then_some(())
    });
    let renewed = follow(&second, &cookie, &backend).expect("an old cookie is replaced");
    let tag = |cookie: &str| cookie.split('.').next().unwrap().to_owned();
    assert_ne!(tag(&renewed), tag(&cookie));
    assert_eq!(renewed.split('.').nth(1), cookie.split('.').nth(1), "its session stays");
    assert_eq!(both.map(|gateway| follow(gateway, &renewed, &backend)), [None, None]);

    // Two before the signing one are accepted, and no more.
    for wanted in [3, 4] {
        assert!(rotate(&second).status.success());
        await_version(&both, wanted);
        assert!(follow(&first, &renewed, &backend).is_some());
    }
    for gateway in both {
        let replaced = (0..8).filter_map(|_| set_cookie(&get(gateway, Some(&cookie)))).count();
        assert_eq!(replaced, 8, "the cookie of the first secret is that of a new client");
    }
    assert_eq!(redis.command(&["GET", "moongate:secrets"]).split(',').count(), 4);
}

#[test]
fn sessions_of_tls_are_resumed_at_every_gateway_before_and_after_a_rotation() {
    if !is_installed("sessions_of_tls_are_resumed_at_every_gateway_before_and_after_a_rotation") {
        return;
    }
    let (redis, origin, ca) = (Redis::start(), Origin::named("a"), Authority::new());
    let pair: Pair = ca.issue("a", &["a.example"]);
    let yaml = format!(
        "admin: {{ address: 127.0.0.1:0 }}
stores: {{ fleet: {{ kind: redis, url: 'redis://{}', deadline: 1s }} }}
listeners:
  - {{ name: web, address: 127.0.0.1:0 }}
  - {{ name: secure, address: 127.0.0.1:0, tls: {{ certificates: [{}], ticket_keys: {{ store: fleet }} }} }}
routes: [{{ upstream: ['{origin}'] }}]
",
        redis.address(),
        listed(&pair)
    );
    let [first, second] = [Gateway::start_whole(&yaml), Gateway::start_whole(&yaml)];
    await_version(&[&first, &second], 1);
    let at = [&first, &second].map(|gateway| gateway.listener("secure"));
    let clients = [&TLS13, &TLS12].map(|version| (ca.client_with(&[version], None), version));
    let early = [&TLS13, &TLS12].map(|version| ca.client_with(&[version], None));
    for client in &early {
        assert_eq!(client.get(at[0], "a.example", "/").unwrap().status, 200);
    }
    for (client, version) in &clients {
        for (round, address) in [at[0], at[1], at[0], at[1]].into_iter().enumerate() {
            let mut connection = client.connect(address, "a.example").unwrap();
            assert_eq!(connection.is_resumed(), round > 0, "{version:?} {round}");
            connection.get("a.example", "/").unwrap();
        }
    }
    assert!(rotate(&second).status.success());
    await_version(&[&first, &second], 2);
    for client in &early {
        let mut connection = client.connect(at[1], "a.example").unwrap();
        assert!(connection.is_resumed(), "a ticket of the first secret");
        connection.get("a.example", "/").unwrap();
        assert!(client.connect(at[0], "a.example").unwrap().is_resumed(), "a ticket of the second one");
    }
}

#[test]
fn a_gateway_without_its_store_keeps_its_secrets() {
    if !is_installed("a_gateway_without_its_store_keeps_its_secrets") {
        return;
    }
    let (mut redis, backends) = (Redis::start(), backends());
    let yaml = sticky(&redis.address(), &backends);
    redis.kill();
    let first = Gateway::start(&yaml);
    first.log().wait(0, &["secrets of this process in use", "fleet"]);
    assert_eq!(version(&first), 0);
    let (own, backend) = new_client(&first);
    assert_eq!(follow(&first, &own, &backend), None);
    // A new process knows them too.
    upgraded(&first);
    assert_eq!(follow(&first, &own, &backend), None);

    redis.restart();
    await_version(&[&first], 1);
    let second = Gateway::start(&yaml);
    await_version(&[&second], 1);
    // The secret of the first gateway became that of the fleet.
    assert_eq!(follow(&second, &own, &backend), None);

    redis.kill();
    eventually("the store is lost", || {
        [&first, &second].iter().all(|gateway| gateway.status()["stores"][0]["up"] == false).then_some(())
    });
    assert_eq!([&first, &second].map(|gateway| follow(gateway, &own, &backend)), [None, None]);
    let refused = rotate(&first);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("the store `fleet` is unavailable"),
        "{refused:?}"
    );

    // A store that was lost gets them again.
    redis.restart();
    eventually("the store is back", || {
        [&first, &second].iter().all(|gateway| gateway.status()["stores"][0]["up"] == true).then_some(())
    });
    assert_eq!([&first, &second].map(version), [1, 1]);
    assert_eq!(follow(&second, &own, &backend), None);
    assert!(redis.command(&["GET", "moongate:secrets"]).starts_with("1:"));
}

#[test]
fn secrets_that_nothing_uses_are_not_rotated() {
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{origin}'] }}]\n"));
    let refused = rotate(&gateway);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("no secrets of a store are used"),
        "{refused:?}"
    );
}
