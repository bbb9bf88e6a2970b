//! `stores`, and the limits that name one. The store is a server of the test; tests/it/shared_limits.rs has real ones.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::certs::Authority;
use crate::support::fake_store::FakeStore;
use crate::support::{Origin, Socket, eventually};
use crate::tls::listed;
use std::time::Duration;

pub(super) const CASES: &[Case] = &[
    case(&["stores", "stores.redis", "stores.kind", "stores.url"], url),
    case(&["stores.sentinel", "stores.sentinel.servers", "stores.sentinel.master"], sentinel),
    case(&["stores.sentinel.user", "stores.sentinel.password"], |gateway| {
        check_words(
            gateway,
            |at| sentinel_of(at, "master: main, user: ann, password: hush"),
            &["AUTH", "ann", "hush"],
        );
    }),
    case(&["stores.sentinel.password_file"], |gateway| {
        let file = gateway.path("sentinel-password");
        std::fs::write(&file, "hush-file\n").unwrap();
        let more = format!("master: main, password_file: '{}'", file.display());
        check_words(gateway, |at| sentinel_of(at, &more), &["AUTH", "hush-file"]);
    }),
    case(&["stores.cluster"], |gateway| {
        check_words(gateway, |at| format!("cluster: ['{at}']"), &["CLUSTER"]);
    }),
    case(&["stores.user", "stores.password"], |gateway| {
        check_words(
            gateway,
            |at| format!("url: 'redis://{at}', user: ann, password: hush"),
            &["AUTH", "ann", "hush"],
        );
    }),
    case(&["stores.password_file"], |gateway| {
        let file = gateway.path("password");
        std::fs::write(&file, "from-file\n").unwrap();
        let written = format!("password_file: '{}'", file.display());
        check_words(gateway, |at| format!("url: 'redis://{at}', {written}"), &["AUTH", "from-file"]);
    }),
    case(&["stores.key_prefix"], |gateway| {
        check_words(
            gateway,
            |at| format!("url: 'redis://{at}', key_prefix: 'other:'"),
            &["EVALSHA", "other:rate:"],
        );
    }),
    case(&["stores.tls", "stores.tls.ca"], tls),
    case(&["stores.deadline"], deadline),
    case(&["stores.on_failure"], on_failure),
    case(&["routes.websocket.max_connections_per_client.store"], |gateway| {
        check_websocket(
            gateway,
            "websocket: { max_connections_per_client: { limit: 9, store: fleet } }",
            429,
        );
    }),
    case(&["routes.websocket.handshake_rate.rate", "routes.websocket.handshake_rate.store"], |gateway| {
        check_websocket(gateway, "websocket: { handshake_rate: { rate: 90/s, store: fleet } }", 503);
    }),
    case(
        &["routes.websocket.messages_per_second.limit", "routes.websocket.messages_per_second.store"],
        message_limit,
    ),
    case(&["routes.websocket.messages_per_second.key"], message_key),
    case(&["upstreams.balance.sticky.store"], sticky_store),
    case(&["listeners.tls.ticket_keys.store"], ticket_store),
    case(&["listeners.handshake_rate.rate", "listeners.handshake_rate.store"], listener_rate),
];

fn store(settings: impl std::fmt::Display) -> File {
    File::top(format!("stores: {{ fleet: {{ kind: redis, {settings} }} }}"))
}

fn limited(settings: impl std::fmt::Display, origin: &Origin) -> File {
    store(settings).and_route(format!(
        "name: case, path: /case, upstream: ['{origin}'], plugins: [{{ kind: rate_limit, rate: 90/s, store: fleet }}]"
    ))
}

fn await_status(gateway: &LoadedGateway, status: u16) {
    eventually(&format!("a response {status}"), || (gateway.get("/case").status == status).then_some(()));
}

fn url(gateway: &LoadedGateway) {
    let (origin, generous, strict) = (Origin::named("a"), FakeStore::generous(), FakeStore::strict());
    for (store, status) in [(&generous, 200), (&strict, 429), (&generous, 200)] {
        gateway.reload(&limited(format!("url: 'redis://{}', deadline: 5s", store.address()), &origin));
        await_status(gateway, status);
    }
}

fn sentinel_of(at: &str, more: &str) -> String {
    format!("sentinel: {{ servers: ['{at}'], {more} }}")
}

fn sentinel(gateway: &LoadedGateway) {
    let strict = FakeStore::strict();
    let origin = Origin::named("a");
    for master in ["one", "two"] {
        let written = sentinel_of(&strict.address().to_string(), &format!("master: {master}"));
        gateway.reload(&limited(written + ", deadline: 5s", &origin));
        await_status(gateway, 429);
        strict.await_words(&["SENTINEL", master]);
    }
}

/// These words reach the store after the second reload, not after the first.
fn check_words(gateway: &LoadedGateway, settings: impl Fn(&str) -> String, words: &[&str]) {
    let (origin, store) = (Origin::named("a"), FakeStore::strict());
    let at = store.address().to_string();
    gateway.reload(&limited(format!("url: 'redis://{at}', deadline: 5s"), &origin));
    await_status(gateway, 429);
    let last = words[words.len() - 1];
    assert!(!store.has_seen(last), "{last}");
    gateway.reload(&limited(settings(&at) + ", deadline: 5s", &origin));
    eventually("the store is asked", || {
        gateway.get("/case");
        store.has_seen(last).then_some(())
    });
    store.await_words(words);
}

/// A store with TLS is not reached in plain text, and one whose authority is unknown is refused.
fn tls(gateway: &LoadedGateway) {
    let (origin, plain) = (Origin::named("a"), FakeStore::strict());
    let authority = Authority::new();
    let at = plain.address();
    gateway
        .reload(&limited(format!("sentinel: {{ servers: ['{at}'], master: main }}, deadline: 5s"), &origin));
    await_status(gateway, 429);
    gateway.reload(&limited(
        format!(
            "sentinel: {{ servers: ['{at}'], master: main }}, tls: {{ ca: '{}' }}",
            authority.file().display()
        ),
        &origin,
    ));
    // Its reply is no TLS.
    await_status(gateway, 200);
}

fn deadline(gateway: &LoadedGateway) {
    let (origin, slow) = (Origin::named("a"), FakeStore::slow(Duration::from_millis(100)));
    let skipped = [("store", "fleet"), ("outcome", "unavailable")];
    for (deadline, is_up) in [("5s", 1.0), ("20ms", 0.0), ("5s", 1.0)] {
        gateway.reload(&limited(format!("url: 'redis://{}', deadline: {deadline}", slow.address()), &origin));
        eventually("the state of the store", || {
            (gateway.metric("moongate_store_up", &[("store", "fleet")]) == is_up).then_some(())
        });
        assert_eq!(gateway.get("/case").status, 200);
    }
    assert!(gateway.metric("moongate_store_requests_total", &skipped) >= 1.0);
}

fn on_failure(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (on_failure, status) in [("open", 200), ("closed", 429), ("local", 200)] {
        // Nothing listens there.
        gateway.reload(&limited(format!("url: 'redis://127.0.0.1:1', on_failure: {on_failure}"), &origin));
        assert_eq!(gateway.get("/case").status, status, "{on_failure}");
    }
}

/// A WebSocket opens without the setting, and is refused by the store with it.
fn check_websocket(gateway: &LoadedGateway, setting: &str, refusal: u16) {
    let (origin, strict) = (Origin::named("a"), FakeStore::strict());
    let file = |setting: &str| {
        store(format!("url: 'redis://{}', deadline: 5s", strict.address()))
            .and_route(format!("name: case, path: /case, upstream: ['{origin}'], {setting}"))
    };
    gateway.reload(&file(""));
    gateway.open("/case").unwrap();
    gateway.reload(&file(setting));
    eventually("the store refuses", || (gateway.open("/case").err() == Some(refusal)).then_some(()));
}

fn listener_rate(gateway: &LoadedGateway) {
    let (origin, store_of_all) = (Origin::named("a"), FakeStore::generous());
    let file = || {
        store(format!("url: 'redis://{}', deadline: 5s", store_of_all.address()))
            .and_listener("name: case, address: '127.0.0.1:0', handshake_rate: { rate: 90/s, store: fleet }")
            .and_route(format!("name: case, path: /case, listeners: [case], upstream: ['{origin}']"))
    };
    gateway.reload(&file());
    let at = gateway.listener("case");
    let open = || Socket::open_with(at, "/case", &[]);
    open().unwrap();
    store_of_all.await_words(&["EVALSHA", "listener/case/handshake_rate"]);
    store_of_all.refuse();
    assert_eq!(open().err(), Some(503));
}

fn messages(store_of_all: &FakeStore, origin: &Origin, setting: &str) -> File {
    store(format!("url: 'redis://{}', deadline: 5s", store_of_all.address())).and_route(format!(
        "name: case, path: /case, upstream: ['{origin}'], websocket: {{ on_exceed: close, {setting} }}"
    ))
}

/// A WebSocket whose messages the store refuses is closed as soon as the gateway has its response.
fn message_limit(gateway: &LoadedGateway) {
    let (origin, strict) = (Origin::named("a"), FakeStore::strict());
    gateway.reload(&messages(&strict, &origin, ""));
    let mut before = gateway.open("/case").unwrap();
    gateway.reload(&messages(&strict, &origin, "messages_per_second: { limit: 1, store: fleet }"));
    eventually("the store refuses messages", || {
        let mut socket = gateway.open("/case").unwrap();
        let closed = (0..20).find_map(|_| socket.try_echo("x").err());
        (closed == Some(Some(1008))).then_some(())
    });
    strict.await_words(&["EVALSHA", "route/case/messages_per_second"]);
    (0..20).for_each(|_| before.echo("y"));
    // 0 is no limit.
    gateway.reload(&messages(&strict, &origin, "messages_per_second: { limit: 0, store: fleet }"));
    let mut socket = gateway.open("/case").unwrap();
    (0..20).for_each(|_| socket.echo("z"));
}

fn message_key(gateway: &LoadedGateway) {
    let (origin, generous) = (Origin::named("a"), FakeStore::generous());
    let keys = |key: &str| {
        let setting = format!("messages_per_second: {{ limit: 90, store: fleet{key} }}");
        gateway.reload(&messages(&generous, &origin, &setting));
        for value in ["one", "two"] {
            let mut socket = Socket::open_with(gateway.web(), "/case", &[("X-Key", value)]).unwrap();
            socket.echo("x");
        }
        let beginning = "moongate:rate:route/case/messages_per_second";
        eventually("the store is asked", || {
            Some(generous.words_from(beginning).len()).filter(|count| *count > 0)
        });
        beginning
    };
    let beginning = keys("");
    assert_eq!(generous.words_from(beginning).len(), 1);
    keys(", key: 'header:x-key'");
    eventually("two keys more", || (generous.words_from(beginning).len() == 3).then_some(()));
}

/// A cookie of the store's secret is replaced with another secret, and not with that of the store again.
fn sticky_store(gateway: &LoadedGateway) {
    let (a, b, fleet) = (Origin::named("a"), Origin::named("b"), FakeStore::generous());
    let reload = |settings: &str| {
        let upstream = File::upstream(&[&a, &b], format!("balance: {{ kind: sticky, {settings} }}"), "");
        gateway.reload(&upstream.and_top(format!(
            "stores: {{ fleet: {{ kind: redis, url: 'redis://{}', deadline: 5s }} }}",
            fleet.address()
        )));
    };
    reload("store: fleet");
    fleet.await_words(&["EVALSHA", "moongate:secrets"]);
    eventually("the secret of the store signs", || {
        let status = gateway.gateway().status();
        (status["stores"][0]["secrets"] == 7).then_some(())
    });
    let response = gateway.get("/case");
    let cookie = response.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for (settings, is_replaced) in
        [("store: fleet", false), ("secret: another", true), ("store: fleet", false)]
    {
        reload(settings);
        let response = gateway.get_with("/case", &format!("Cookie: {cookie}\r\n"));
        assert_eq!(response.field("set-cookie").is_some(), is_replaced, "{settings}");
    }
}

/// A ticket of the store's secret is no ticket of the process, and one of the store again.
fn ticket_store(gateway: &LoadedGateway) {
    let (ca, origin, fleet) = (Authority::new(), Origin::named("a"), FakeStore::generous());
    let pair = ca.issue("a", &["a.example"]);
    let reload = |keys: &str| {
        let file = store(format!("url: 'redis://{}', deadline: 5s", fleet.address()))
            .and_route(format!("name: case, path: /, upstream: ['{origin}']"))
            .and_listener(format!(
                "name: secure, address: 127.0.0.1:0, tls: {{ certificates: [{}]{keys} }}",
                listed(&pair)
            ));
        gateway.reload(&file);
        gateway.listener("secure")
    };
    let client = ca.client();
    let of_store = ", ticket_keys: { store: fleet }";
    reload(of_store);
    eventually("the secret of the store encrypts", || {
        (gateway.gateway().status()["stores"][0]["secrets"] == 7).then_some(())
    });
    for (keys, is_resumed) in [(of_store, false), (of_store, true), ("", false), (of_store, false)] {
        let mut connection = client.connect(reload(keys), "a.example").unwrap();
        assert_eq!(connection.is_resumed(), is_resumed, "{keys}");
        // The response follows the tickets.
        connection.get("a.example", "/").unwrap();
    }
}
