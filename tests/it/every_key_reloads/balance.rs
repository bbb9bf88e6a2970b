//! `upstreams.balance`: every kind, and the keys of `consistent_hash`.

use super::loaded_gateway::{File, LoadedGateway};
use super::upstreams::share;
use super::{Case, case};
use crate::support::Origin;

pub(super) const CASES: &[Case] = &[
    case(&["upstreams.balance", "upstreams.balance.kind", "upstreams.balance.round_robin"], round_robin),
    case(&["upstreams.balance.random"], random),
    case(&["upstreams.balance.least_connections"], |gateway| {
        check_choice_by_load(gateway, "least_connections");
    }),
    case(&["upstreams.balance.p2c"], |gateway| check_choice_by_load(gateway, "p2c")),
    case(&["upstreams.balance.consistent_hash"], consistent_hash),
    case(&["upstreams.balance.consistent_hash.key"], hash_key),
    case(&["upstreams.balance.sticky"], sticky),
];

fn with(a: &Origin, b: &Origin, balance: &str) -> File {
    File::upstream(&[a, b], format!("balance: {balance}"), "")
}

/// Returns whether the two endpoints take turns over twenty requests. They do by chance once in half a million times.
pub(super) fn alternates(gateway: &LoadedGateway) -> bool {
    gateway.gateway().names("/case", 20).windows(2).all(|pair| pair[0] != pair[1])
}

fn round_robin(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (balance, expected) in [
        ("consistent_hash", false),
        ("round_robin", true),
        ("{ kind: random }", false),
        ("{ kind: round_robin }", true),
    ] {
        gateway.reload(&with(&a, &b, balance));
        assert_eq!(alternates(gateway), expected, "{balance}");
    }
}

fn random(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    gateway.reload(&with(&a, &b, "round_robin"));
    assert!(alternates(gateway));
    gateway.reload(&with(&a, &b, "random"));
    assert!(!alternates(gateway));
    assert!((1..20).contains(&share(gateway, "a")), "both get requests");
}

/// An endpoint with ten WebSockets gets none of the next with this kind, and half of them with `round_robin`.
fn check_choice_by_load(gateway: &LoadedGateway, kind: &str) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    gateway.reload(&File::upstream(&[&a], "", ""));
    let first: Vec<_> = (0..10).map(|_| gateway.open("/case").unwrap()).collect();
    for (balance, expected) in [("round_robin", 2), (kind, 0)] {
        gateway.reload(&with(&a, &b, balance));
        let next: Vec<_> = (0..4).map(|_| gateway.open("/case").unwrap()).collect();
        let at_a = next.iter().filter(|socket| socket.backend == "a").count();
        // Each connection may be served by another thread, whose turns are its own.
        assert!(if expected == 0 { at_a == 0 } else { at_a > 0 }, "{balance}: {at_a}");
    }
    drop(first);
}

fn consistent_hash(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (balance, one) in [("round_robin", false), ("consistent_hash", true)] {
        gateway.reload(&with(&a, &b, balance));
        assert_eq!([0, 20].contains(&share(gateway, "a")), one, "{balance}");
    }
}

fn hash_key(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (key, one) in [("client_ip", true), ("'header:X-Key'", false)] {
        gateway.reload(&with(&a, &b, &format!("{{ kind: consistent_hash, key: {key} }}")));
        let name = |number| gateway.get_with("/case", &format!("X-Key: {number}\r\n")).text();
        let first = name(0);
        assert_eq!((1..30).all(|number| name(number) == first), one, "{key}");
    }
}

fn sticky(gateway: &LoadedGateway) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (balance, has_cookie) in [("round_robin", false), ("sticky", true), ("round_robin", false)] {
        gateway.reload(&with(&a, &b, balance));
        assert_eq!(gateway.get("/case").field("set-cookie").is_some(), has_cookie, "{balance}");
    }
}
