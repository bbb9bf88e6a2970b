//! `upstreams.discovery` of the kinds `dns` and `srv`.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::dns_server::{DnsServer, Record, Says, Type};
use crate::support::{Origin, eventually};
use std::fmt;

pub(super) const CASES: &[Case] = &[
    case(&["upstreams.discovery.dns", "upstreams.discovery.dns.name"], dns_name),
    case(&["upstreams.discovery.dns.port"], dns_port),
    case(&["upstreams.discovery.dns.resolve"], |gateway| {
        resolve(gateway, Type::A, |port| format!("kind: dns, name: case.test., port: {port}"));
    }),
    case(&["upstreams.discovery.srv", "upstreams.discovery.srv.name"], srv_name),
    case(&["upstreams.discovery.srv.resolve"], |gateway| {
        resolve(gateway, Type::Srv, |_| "kind: srv, name: case.test.".to_owned());
    }),
];

fn discovered(dns: &DnsServer, discovery: impl fmt::Display) -> File {
    File::default()
        .and_top(format!("server: {{ name_servers: ['{}'] }}", dns.address()))
        .and_upstream("case", format!("discovery: {{ {discovery} }}"))
        .and_route("name: case, path: /case, upstream: case")
}

fn await_text(gateway: &LoadedGateway, name: &str) {
    eventually("the other endpoint", || (gateway.get("/case").text() == name).then_some(()));
}

fn dns_name(gateway: &LoadedGateway) {
    let dns = DnsServer::start();
    let first = Origin::named("a");
    let port = first.address().port();
    let second = Origin::named_at("b", ([127, 77, 20, 1], port).into());
    dns.addresses("a.test.", &[first.address().ip()]);
    dns.addresses("b.test.", &[second.address().ip()]);
    for name in ["a", "b", "a"] {
        gateway.reload(&discovered(&dns, format!("kind: dns, name: {name}.test., port: {port}, hold: 0s")));
        await_text(gateway, name);
    }
}

fn dns_port(gateway: &LoadedGateway) {
    let dns = DnsServer::start();
    for name in ["a", "b"] {
        let origin = Origin::named(name);
        dns.addresses("case.test.", &[origin.address().ip()]);
        let port = origin.address().port();
        gateway.reload(&discovered(&dns, format!("kind: dns, name: case.test., port: {port}, hold: 0s")));
        await_text(gateway, name);
    }
}

fn srv_name(gateway: &LoadedGateway) {
    let dns = DnsServer::start();
    let origins = ["a", "b"].map(Origin::named);
    for (name, origin) in ["a", "b"].iter().zip(&origins) {
        dns.addresses("case.test.", &[origin.address().ip()]);
        let record = Record::srv(1, 1, origin.address().port(), "case.test.");
        dns.says(&format!("{name}.test."), Type::Srv, Says::Records(1, vec![record]));
    }
    for name in ["a", "b", "a"] {
        gateway.reload(&discovered(&dns, format!("kind: srv, name: {name}.test., hold: 0s")));
        await_text(gateway, name);
    }
}

/// Records with a long TTL are asked for again after `resolve`.
fn resolve(gateway: &LoadedGateway, kind: Type, discovery: impl Fn(u16) -> String) {
    let (dns, origin) = (DnsServer::start(), Origin::named("a"));
    let port = origin.address().port();
    let address = Record::address(origin.address().ip());
    dns.says("case.test.", Type::A, Says::Records(3600, vec![address.clone()]));
    let records = vec![Record::srv(1, 1, port, "case.test."), address.of("case.test.")];
    dns.says("case.test.", Type::Srv, Says::Records(3600, records));
    gateway.reload(&discovered(&dns, format!("{}, resolve: 1h", discovery(port))));
    await_text(gateway, "a");
    gateway.reload(&discovered(&dns, format!("{}, resolve: 1s", discovery(port))));
    let before = dns.asked("case.test.", kind);
    eventually("the records are asked for again", || {
        (dns.asked("case.test.", kind) >= before + 3).then_some(())
    });
}
