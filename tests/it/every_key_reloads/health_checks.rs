//! `upstreams.health_check`: every kind, and its keys.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::origin::answer;
use crate::support::secured::Http2;
use crate::support::{Next, Origin, eventually};
use std::fmt::Display;
use std::net::{SocketAddr, TcpListener};

pub(super) const CASES: &[Case] = &[
    case(
        &[
            "upstreams.health_check",
            "upstreams.health_check.kind",
            "upstreams.health_check.tcp",
            "upstreams.health_check.http",
        ],
        tcp_and_http,
    ),
    case(&["upstreams.health_check.websocket"], websocket),
    case(&["upstreams.health_check.grpc"], grpc),
    case(&["upstreams.health_check.interval"], |gateway| {
        check_pace_of_probes(gateway, "interval: 1h", "interval: 10ms");
    }),
    case(&["upstreams.health_check.jitter"], |gateway| {
        check_pace_of_probes(gateway, "interval: 10ms, jitter: 10h", "interval: 10ms, jitter: 0s");
    }),
    case(&["upstreams.health_check.timeout"], timeout),
    case(&["upstreams.health_check.healthy_after"], healthy_after),
    case(&["upstreams.health_check.unhealthy_after"], unhealthy_after),
    case(&["upstreams.health_check.http.path"], |gateway| {
        check_probe(gateway, "http", "path: /second", "GET /second HTTP");
    }),
    case(&["upstreams.health_check.http.host"], |gateway| {
        check_probe(gateway, "http", "host: b.example", "b.example");
    }),
    case(&["upstreams.health_check.http.method"], |gateway| {
        check_probe(gateway, "http", "method: HEAD", "HEAD /");
    }),
    case(&["upstreams.health_check.http.expect"], expect),
    case(&["upstreams.health_check.websocket.path"], |gateway| {
        check_probe(gateway, "websocket", "path: /second", "GET /second HTTP");
    }),
    case(&["upstreams.health_check.websocket.host"], |gateway| {
        check_probe(gateway, "websocket", "host: b.example", "b.example");
    }),
    case(&["upstreams.health_check.websocket.protocols"], |gateway| {
        check_probe(gateway, "websocket", "protocols: [chat]", "chat");
    }),
    case(&["upstreams.health_check.grpc.service"], grpc_service),
    case(&["upstreams.health_check.grpc.host"], grpc_host),
];

/// Reloads a check of this endpoint.
fn reload(gateway: &LoadedGateway, endpoint: &dyn Display, check: &str, upstream: &str) {
    gateway.reload(&File::upstream(&[endpoint], format!("health_check: {check}, {upstream}"), ""));
}

fn await_health(gateway: &LoadedGateway, endpoint: SocketAddr, health: &str) {
    gateway.gateway().await_health("case", endpoint, health);
}

/// A port that accepts connections, and does not respond.
fn tcp_and_http(gateway: &LoadedGateway) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    reload(gateway, &address, "{ kind: tcp, interval: 20ms }", "");
    await_health(gateway, address, "healthy");
    reload(gateway, &address, "{ kind: http, interval: 20ms, timeout: 50ms, unhealthy_after: 1 }", "");
    await_health(gateway, address, "unhealthy");
    reload(gateway, &address, "{ kind: tcp, interval: 20ms }", "");
    await_health(gateway, address, "healthy");
}

fn websocket(gateway: &LoadedGateway) {
    let http = Origin::fixed(answer(200, "", b""), Next::Keep);
    for (kind, health) in [("http", "healthy"), ("websocket", "unhealthy")] {
        reload(
            gateway,
            &http,
            &format!("{{ kind: {kind}, path: /probe, interval: 20ms, unhealthy_after: 1 }}"),
            "",
        );
        await_health(gateway, http.address(), health);
    }
}

fn grpc(gateway: &LoadedGateway) {
    let backend = Http2::start(None);
    reload(gateway, &backend.address, "{ kind: tcp, interval: 20ms }", "protocol: h2c");
    await_health(gateway, backend.address, "healthy");
    assert!(backend.seen.heads.lock().unwrap().is_empty());
    reload(gateway, &backend.address, "{ kind: grpc, interval: 20ms }", "protocol: h2c");
    await_call(&backend, "", "/grpc.health.v1.Health/Check");
    await_health(gateway, backend.address, "healthy");
}

/// Waits for a call whose body contains this, to a URI that contains this.
fn await_call(backend: &Http2, body: &str, uri: &str) {
    eventually(&format!("a call of {body:?} at {uri}"), || {
        let bodies = backend.seen.bodies.lock().unwrap();
        let has = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains(body);
        let heads = backend.seen.heads.lock().unwrap();
        (bodies.iter().any(has) && heads.iter().any(|(one, _)| one.contains(uri))).then_some(())
    });
}

/// Probes follow each other after the second setting, not after the first.
fn check_pace_of_probes(gateway: &LoadedGateway, few: &str, many: &str) {
    let origin = Origin::named("a");
    let with = |settings: &str| format!("{{ kind: http, path: /health, {settings} }}");
    reload(gateway, &origin, &with(few), "");
    await_health(gateway, origin.address(), "healthy");
    let before = origin.probes();
    gateway.gateway().names("/case", 50);
    assert!(origin.probes() <= before + 1);
    reload(gateway, &origin, &with(many), "");
    eventually("more probes", || (origin.probes() > before + 5).then_some(()));
}

fn timeout(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let with = |timeout: &str| {
        format!("{{ kind: http, path: /health, interval: 20ms, unhealthy_after: 1, timeout: {timeout} }}")
    };
    reload(gateway, &origin, &with("1h"), "");
    await_health(gateway, origin.address(), "healthy");
    origin.fall_silent();
    let before = origin.probes();
    eventually("a probe waits", || (origin.probes() > before).then_some(()));
    assert_eq!(gateway.gateway().health("case", origin.address()).as_deref(), Some("healthy"));
    reload(gateway, &origin, &with("50ms"), "");
    await_health(gateway, origin.address(), "unhealthy");
}

/// Waits for five more probes.
fn await_probes(origin: &Origin) {
    let before = origin.probes();
    eventually("five probes", || (origin.probes() >= before + 5).then_some(()));
}

fn healthy_after(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let with = |count: u32| {
        format!("{{ kind: http, path: /health, interval: 20ms, unhealthy_after: 1, healthy_after: {count} }}")
    };
    origin.sicken();
    reload(gateway, &origin, &with(60_000), "");
    await_health(gateway, origin.address(), "unhealthy");
    origin.recover();
    await_probes(&origin);
    assert_eq!(gateway.gateway().health("case", origin.address()).as_deref(), Some("unhealthy"));
    reload(gateway, &origin, &with(1), "");
    await_health(gateway, origin.address(), "healthy");
}

fn unhealthy_after(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    let with =
        |count: u32| format!("{{ kind: http, path: /health, interval: 20ms, unhealthy_after: {count} }}");
    reload(gateway, &origin, &with(60_000), "");
    await_health(gateway, origin.address(), "healthy");
    origin.sicken();
    await_probes(&origin);
    assert_eq!(gateway.gateway().health("case", origin.address()).as_deref(), Some("healthy"));
    reload(gateway, &origin, &with(1), "");
    await_health(gateway, origin.address(), "unhealthy");
}

/// Probes of this kind contain a text after a reload with this setting, and not before.
fn check_probe(gateway: &LoadedGateway, kind: &str, setting: &str, text: &str) {
    let origin = Origin::named("a");
    let has = || origin.seen().iter().any(|seen| seen.head.contains(text));
    reload(gateway, &origin, &format!("{{ kind: {kind}, interval: 20ms }}"), "");
    origin.await_seen(2);
    assert!(!has());
    reload(gateway, &origin, &format!("{{ kind: {kind}, interval: 20ms, {setting} }}"), "");
    eventually(&format!("a probe with {text}"), || has().then_some(()));
}

fn expect(gateway: &LoadedGateway) {
    let origin = Origin::named("a");
    for (expect, health) in [("200", "healthy"), ("204", "unhealthy"), ("[200, 204]", "healthy")] {
        reload(
            gateway,
            &origin,
            &format!("{{ kind: http, interval: 20ms, unhealthy_after: 1, expect: {expect} }}"),
            "",
        );
        await_health(gateway, origin.address(), health);
    }
}

fn grpc_service(gateway: &LoadedGateway) {
    let backend = Http2::start(None);
    for service in ["first.Service", "second.Service"] {
        let check = format!("{{ kind: grpc, interval: 20ms, service: {service} }}");
        reload(gateway, &backend.address, &check, "protocol: h2c");
        await_call(&backend, service, "Check");
    }
}

fn grpc_host(gateway: &LoadedGateway) {
    let backend = Http2::start(None);
    for host in ["first.example", "second.example"] {
        reload(
            gateway,
            &backend.address,
            &format!("{{ kind: grpc, interval: 20ms, host: {host} }}"),
            "protocol: h2c",
        );
        await_call(&backend, "", host);
    }
}
