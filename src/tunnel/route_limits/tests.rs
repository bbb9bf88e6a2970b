//! Tests of the limits of a route.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::config::PerKey;
use moongate_config::{Place, Placed};
use std::num::NonZeroU32;

fn placed(text: &str) -> Placed<String> {
    let place = Place { file: "test".into(), line: 1, column: 1, width: 1, path: "".into() };
    Placed { value: text.to_owned(), place }
}

fn route_limits(change: impl FnOnce(&mut config::WebSocket)) -> RouteLimits {
    let mut written = config::WebSocket::default();
    change(&mut written);
    RouteLimits::new(&written, None, &Stores::default(), "test").unwrap()
}

fn client(last: u8) -> ClientKey<'static> {
    ClientKey::Client(std::net::IpAddr::from([127, 0, 0, last]).into())
}

#[test]
fn without_limits_every_client_is_accepted() {
    let open = route_limits(|_| {});
    let _permits: Vec<_> =
        (0..100).map(|_| open.acquire(Some(b"https://evil.example"), client(1)).unwrap()).collect();
}

#[test]
fn only_listed_origins_may() {
    let list = ["https://a.example", "https://*.b.example", "null"].map(placed).to_vec();
    let some = route_limits(|written| written.origins = Some(list));
    let may = |origin: &str| some.acquire(Some(origin.as_bytes()), client(1)).is_ok();
    for good in
        ["https://a.example", "HTTPS://A.EXAMPLE", "https://x.b.example", "https://x.y.b.example", "null"]
    {
        assert!(may(good), "{good}");
    }
    for bad in [
        "http://a.example",
        "https://a.example.evil",
        "https://a.example:8443",
        "https://b.example",
        "https://.b.example",
        "https://evil/x.b.example",
        "https://evil@x.b.example",
        "",
    ] {
        assert_eq!(some.acquire(Some(bad.as_bytes()), client(1)).unwrap_err(), Denial::Origin, "{bad}");
    }
    assert!(some.acquire(None, client(1)).is_ok());
}

#[test]
fn a_full_route_accepts_again_when_one_leaves() {
    let two = route_limits(|written| written.max_connections = NonZeroU32::new(2));
    let first = two.acquire(None, client(1)).unwrap();
    let _second = two.acquire(None, client(2)).unwrap();
    assert_eq!(two.acquire(None, client(3)).unwrap_err(), Denial::Full);
    drop(first);
    assert!(two.acquire(None, client(3)).is_ok());
}

#[test]
fn a_client_at_its_limit_leaves_the_others_alone() {
    let one = route_limits(|written| {
        written.max_connections_per_client = Some(PerClient::Count(1));
    });
    let first = one.acquire(None, client(1)).unwrap();
    assert_eq!(one.acquire(None, client(1)).unwrap_err(), Denial::ClientFull);
    assert!(one.acquire(None, client(2)).is_ok());
    drop(first);
    assert!(one.acquire(None, client(1)).is_ok());
    assert_eq!(one.present.all.load(Relaxed), 0);
    assert!(one.present.clients.lock().is_empty());
}

#[test]
fn a_limit_of_zero_is_none() {
    for limit in [
        PerClient::Count(0),
        PerClient::Keyed(PerKey {
            limit: 0,
            key: Some(Placed { value: "client_ip".to_owned(), place: moongate_config::Place::nowhere() }),
            store: None,
        }),
    ] {
        let open = route_limits(|written| written.max_connections_per_client = Some(limit));
        assert!(open.client_key().is_none());
        let _first = open.acquire(None, client(1)).unwrap();
        assert!(open.acquire(None, client(1)).is_ok());
    }
}

#[test]
fn a_reload_goes_on_to_count_those_who_are_there() {
    let mut written = config::WebSocket { max_connections: NonZeroU32::new(1), ..Default::default() };
    let before = RouteLimits::new(&written, None, &Stores::default(), "test").unwrap();
    let _permit = before.acquire(None, client(1)).unwrap();
    written.max_connections = NonZeroU32::new(2);
    let after = RouteLimits::new(&written, Some(&before), &Stores::default(), "test").unwrap();
    let _second = after.acquire(None, client(1)).unwrap();
    assert_eq!(after.acquire(None, client(1)).unwrap_err(), Denial::Full);
}
