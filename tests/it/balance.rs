//! Distribution of requests and WebSockets by every balancer, through the real gateway.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Response, Socket, eventually};
use std::collections::HashMap;
use std::time::Duration;

fn tally(names: Vec<String>) -> HashMap<String, usize> {
    let mut tally = HashMap::new();
    for name in names {
        *tally.entry(name).or_default() += 1;
    }
    tally
}

fn of(names: &[(&str, usize)]) -> HashMap<String, usize> {
    names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn cluster(balance: &str, endpoints: &[String]) -> String {
    format!(
        "upstreams:
  all:
    balance: {balance}
    endpoints: [{}]
routes: [{{ upstream: all }}]",
        endpoints.join(", ")
    )
}

fn plain(balance: &str, origins: &[&Origin]) -> String {
    cluster(balance, &origins.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn open(gateway: &Gateway, count: usize) -> Vec<Socket> {
    (0..count).map(|_| Socket::open(gateway.web(), "/ws")).collect()
}

fn held(sockets: &[Socket]) -> HashMap<String, usize> {
    tally(sockets.iter().map(|socket| socket.backend.clone()).collect())
}

#[test]
fn round_robin_distributes_evenly() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let gateway = Gateway::start(&plain("round_robin", &[&a, &b, &c]));
    assert_eq!(tally(gateway.names("/", 90)), of(&[("a", 30), ("b", 30), ("c", 30)]));
}

#[test]
fn round_robin_follows_weights_without_bursts() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let endpoints = [a.to_string(), format!("{{ address: {b}, weight: 3 }}")];
    let gateway = Gateway::start(&cluster("round_robin", &endpoints));
    let names = gateway.names("/", 40);
    for four in names.chunks(4) {
        assert_eq!(tally(four.to_vec()), of(&[("a", 1), ("b", 3)]));
    }
}

#[test]
fn weight_0_gets_nothing_in_any_kind() {
    for balance in [
        "round_robin",
        "random",
        "least_connections",
        "p2c",
        "{ kind: consistent_hash, key: path }",
        "sticky",
    ] {
        let (a, b) = (Origin::named("a"), Origin::named("b"));
        let endpoints = [a.to_string(), format!("{{ address: {b}, weight: 0 }}")];
        let gateway = Gateway::start(&cluster(balance, &endpoints));
        for n in 0..20 {
            assert_eq!(gateway.get(&format!("/{n}")).text(), "a", "{balance}");
        }
        assert_eq!(b.count(), 0, "{balance}");
    }
}

#[test]
fn random_is_fair_and_follows_weights() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let endpoints = [a.to_string(), b.to_string(), format!("{{ address: {c}, weight: 2 }}")];
    let gateway = Gateway::start(&cluster("random", &endpoints));
    let tally = tally(gateway.names("/", 800));
    // Within five standard deviations of 800 draws.
    for (name, expected) in [("a", 200_usize), ("b", 200), ("c", 400)] {
        assert!(tally[name].abs_diff(expected) < 71, "{tally:?}");
    }
}

#[test]
fn least_connections_counts_living_websockets() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&plain("least_connections", &[&a, &b]));
    let sockets = open(&gateway, 10);
    assert_eq!(held(&sockets), of(&[("a", 5), ("b", 5)]));

    let (on_a, on_b): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|socket| socket.backend == "a");
    on_a.into_iter().for_each(Socket::close);
    eventually("the closed ones are not counted", || {
        (gateway.active("all", a.address()) == Some(0)).then_some(())
    });
    assert_eq!(held(&open(&gateway, 5)), of(&[("a", 5)]));
    assert_eq!(on_b.len(), 5);
}

#[test]
fn least_connections_follows_weights() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let endpoints = [a.to_string(), format!("{{ address: {b}, weight: 3 }}")];
    let gateway = Gateway::start(&cluster("least_connections", &endpoints));
    assert_eq!(held(&open(&gateway, 16)), of(&[("a", 4), ("b", 12)]));
}

#[test]
fn least_connections_counts_survive_reloads_and_new_members() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    // A list keeps the WebSockets of an endpoint that a reload removes; a discovery does so by this setting.
    let kept = |yaml: String| yaml.replace("    endpoints:", "    on_removal: keep\n    endpoints:");
    let patient = |origins: &[&Origin]| kept(plain("least_connections", origins));
    let gateway = Gateway::start(&patient(&[&a, &b]));
    let mut sockets = open(&gateway, 8);
    assert_eq!(held(&sockets), of(&[("a", 4), ("b", 4)]));

    gateway.reload(&patient(&[&a, &b, &c])).unwrap();
    assert_eq!(held(&open(&gateway, 4)), of(&[("c", 4)]), "the newcomer is empty, the others hold four each");
    eventually("those four are gone", || (gateway.active("all", c.address()) == Some(0)).then_some(()));

    gateway.reload(&patient(&[&a, &c])).unwrap();
    gateway.reload(&patient(&[&c, &b, &a])).unwrap();
    assert_eq!(gateway.active("all", a.address()), Some(4));
    let newcomers = open(&gateway, 4);
    assert_eq!(newcomers.iter().filter(|socket| socket.backend == "a").count(), 0, "a holds four already");
    sockets.iter_mut().for_each(|socket| socket.echo("still here"));
}

#[test]
fn p2c_leaves_a_slow_backend_alone() {
    let slow = Origin::scripted("slow", |_, wire| {
        crate::support::Gate::default().pass_within(Duration::from_millis(60));
        let answer = crate::support::origin::answer(200, "", b"slow");
        wire.try_send(answer).map_or(crate::support::Next::Close, |()| crate::support::Next::Keep)
    });
    let fast = Origin::named("fast");
    let gateway = Gateway::start(&plain("p2c", &[&slow, &fast]));
    let tally = tally(gateway.names("/", 200));
    assert!(tally["fast"] > 150, "{tally:?}");
}

#[test]
fn p2c_spreads_living_websockets() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let gateway = Gateway::start(&plain("p2c", &[&a, &b, &c]));
    let held = held(&open(&gateway, 60));
    assert_eq!(held.len(), 3, "{held:?}");
    // By latency: an endpoint with a slow response on record may get few, but none gets most.
    assert!(held.values().all(|count| *count >= 1) && held.values().all(|count| *count <= 45), "{held:?}");
}

fn hashed(gateway: &Gateway, key: usize) -> String {
    let request =
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-User: user-{key}\r\n\r\n");
    ask(gateway.web(), request).text()
}

#[test]
fn consistent_hash_moves_only_the_keys_of_a_leaving_endpoint() {
    let origins = ["a", "b", "c", "d"].map(Origin::named);
    let [a, b, c, d] = &origins;
    let balance = "{ kind: consistent_hash, key: 'header:x-user' }";
    let gateway = Gateway::start(&plain(balance, &[a, b, c, d]));
    let before: Vec<_> = (0..200).map(|key| hashed(&gateway, key)).collect();
    let shares = tally(before.clone());
    assert!(shares.len() == 4 && shares.values().all(|share| (15..=100).contains(share)), "{shares:?}");
    assert!((0..20).all(|key| hashed(&gateway, key) == before[key]), "a key stays where it is");

    gateway.reload(&plain(balance, &[a, b, c])).unwrap();
    for (key, old) in before.iter().enumerate() {
        let new = hashed(&gateway, key);
        assert!(if old == "d" { new != "d" } else { new == *old }, "key {key} went from {old} to {new}");
    }
}

#[test]
fn every_key_of_consistent_hash_is_read() {
    let origins = ["a", "b", "c", "d"].map(Origin::named);
    let [a, b, c, d] = &origins;
    for (key, request) in [
        ("path", "GET /room-{} HTTP/1.1\r\nHost: localhost\r\n"),
        ("query:room", "GET /?x=1&room={} HTTP/1.1\r\nHost: localhost\r\n"),
        ("cookie:session", "GET / HTTP/1.1\r\nHost: localhost\r\nCookie: a=b; session=s{}\r\n"),
    ] {
        let balance = format!("{{ kind: consistent_hash, key: '{key}' }}");
        let gateway = Gateway::start(&plain(&balance, &[a, b, c, d]));
        let ask_for = |n: usize| {
            let request = request.replace("{}", &n.to_string());
            ask(gateway.web(), format!("{request}Connection: close\r\n\r\n")).text()
        };
        let first: Vec<_> = (0..60).map(ask_for).collect();
        assert_eq!(tally(first.clone()).len(), 4, "{key}: sixty values reach all four");
        assert!((0..10).all(|n| ask_for(n) == first[n]), "{key}");
    }
    let gateway = Gateway::start(&plain("{ kind: consistent_hash, key: client_ip }", &[a, b, c, d]));
    assert_eq!(tally(gateway.names("/", 20)).len(), 1, "one client, one backend");
}

const STICKY: &str = "{ kind: sticky, cookie: seat, secret: 'a secret that two gateways share' }";

fn seated(gateway: &Gateway, cookie: &str) -> Response {
    ask(
        gateway.web(),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: x=y; {cookie}\r\n\r\n"),
    )
}

/// `name=value` of a Set-Cookie.
fn pair(set_cookie: &str) -> String {
    set_cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn two_gateways_with_one_secret_agree_on_a_sticky_client() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let one = Gateway::start(&plain(STICKY, &[&a, &b, &c]));
    let two = Gateway::start(&plain(STICKY, &[&c, &a, &b]));
    for _ in 0..6 {
        let first = one.get("/");
        let cookie = pair(first.field("set-cookie").expect("a first answer brings the cookie"));
        assert!(cookie.starts_with("seat="), "{cookie}");
        for gateway in [&one, &two, &one, &two] {
            let again = seated(gateway, &cookie);
            assert_eq!(again.text(), first.text());
            assert_eq!(again.field("set-cookie"), None, "the cookie is good as it is");
            let socket = Socket::open_with(gateway.web(), "/ws", &[("Cookie", &cookie)]).unwrap();
            assert_eq!(socket.backend, first.text(), "a WebSocket sits beside its requests");
        }
    }
    assert!(Socket::open(one.web(), "/ws").cookie.is_some_and(|cookie| cookie.starts_with("seat=")));
}

#[test]
fn a_forged_cookie_chooses_nothing() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&plain(STICKY, &[&a, &b]));
    let other = Gateway::start(&plain(
        "{ kind: sticky, cookie: seat, secret: 'another secret entirely' }",
        &[&a, &b],
    ));
    let foreign = pair(other.get("/").field("set-cookie").unwrap());
    for cookie in [foreign, format!("seat={a}"), "seat=".to_owned(), format!("seat={}", "x".repeat(3000))] {
        let response = seated(&gateway, &cookie);
        assert_eq!(response.status, 200);
        assert!(response.field("set-cookie").is_some(), "{cookie} is replaced");
    }
}

#[test]
fn a_sticky_client_moves_when_its_backend_dies_and_then_stays() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&plain(STICKY, &[&a, &b]));
    let first = gateway.get("/");
    let cookie = pair(first.field("set-cookie").unwrap());
    let seat = if first.text() == "a" { &a } else { &b };
    seat.die();
    let moved = seated(&gateway, &cookie);
    assert_eq!(moved.status, 200);
    assert_ne!(moved.text(), first.text());
    let cookie = pair(moved.field("set-cookie").expect("a new seat, a new cookie"));
    assert_eq!(seated(&gateway, &cookie).text(), moved.text());
}

/// A browser: it sends the cookies that it has received.
#[derive(Default)]
struct Jar(Vec<String>);

impl Jar {
    /// Requests a path with every cookie; returns the name of the backend, and whether a cookie was set.
    fn ask(&mut self, gateway: &Gateway, path: &str) -> (String, bool) {
        let cookies = self.0.join("; ");
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: a=b; {cookies}\r\n\r\n"
        );
        let response = ask(gateway.web(), head);
        let came = response.field("set-cookie").map(pair);
        let text = response.text();
        let Some(cookie) = came else { return (text, false) };
        let name = cookie.split('=').next().unwrap().to_owned() + "=";
        self.0.retain(|known| !known.starts_with(&name));
        self.0.push(cookie);
        (text, true)
    }
}

#[test]
fn two_sticky_upstreams_under_one_host_keep_their_clients() {
    let origins: Vec<_> = ["a", "b", "c", "d"].map(Origin::named).into();
    let [a, b, c, d] = &origins[..] else { unreachable!() };
    let gateway = Gateway::start(&format!(
        "upstreams:
  one: {{ endpoints: [{a}, {b}], balance: {{ kind: sticky, secret: s }} }}
  two: {{ endpoints: [{c}, {d}], balance: {{ kind: sticky, secret: s }} }}
routes: [{{ path: /one, upstream: one }}, {{ path: /two, upstream: two }}]"
    ));
    for _ in 0..4 {
        let mut jar = Jar::default();
        let (one, two) = (jar.ask(&gateway, "/one").0, jar.ask(&gateway, "/two").0);
        for _ in 0..4 {
            assert_eq!(jar.ask(&gateway, "/one"), (one.clone(), false));
            assert_eq!(jar.ask(&gateway, "/two"), (two.clone(), false));
        }
    }
}

#[test]
fn a_sticky_client_keeps_its_share() {
    let (a, b, c) = (Origin::named("a"), Origin::named("b"), Origin::named("c"));
    let shares = |canary: u32| {
        format!(
            "upstreams:
  stable: {{ endpoints: [{a}], balance: {{ kind: sticky, secret: s }} }}
  canary: {{ endpoints: [{b}, {c}], balance: {{ kind: sticky, secret: s }} }}
routes: [{{ upstream: {{ stable: 1, canary: {canary} }} }}]"
        )
    };
    let gateway = Gateway::start(&shares(1));
    let mut clients: Vec<(Jar, String)> = Vec::new();
    while clients.len() < 200 {
        let mut jar = Jar::default();
        let first = jar.ask(&gateway, "/").0;
        clients.push((jar, first));
        if ["a", "b", "c"].iter().all(|name| clients.iter().any(|(_, first)| first == name)) {
            break;
        }
    }
    for (jar, first) in &mut clients {
        for _ in 0..6 {
            assert_eq!(jar.ask(&gateway, "/"), (first.clone(), false));
        }
        let socket = Socket::open_with(gateway.web(), "/ws", &[("Cookie", &jar.0.join("; "))]).unwrap();
        assert_eq!(socket.backend, *first, "a WebSocket keeps it too");
    }
    // After an endpoint is gone, its clients stay in their share.
    b.die();
    for (jar, first) in clients.iter_mut().filter(|(_, first)| first != "c") {
        let expected = if first == "a" { "a" } else { "c" };
        assert_eq!(jar.ask(&gateway, "/").0, expected);
    }
    // A share of 0 keeps no client.
    gateway.reload(&shares(0)).unwrap();
    for (jar, _) in &mut clients {
        assert_eq!(jar.ask(&gateway, "/").0, "a");
    }
}

#[test]
fn a_key_keeps_its_share_at_every_gateway() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let yaml = format!(
        "upstreams:
  stable: {{ endpoints: [{a}], balance: {{ kind: consistent_hash, key: 'query:room' }} }}
  canary: {{ endpoints: [{b}], balance: {{ kind: consistent_hash, key: 'query:room' }} }}
routes: [{{ upstream: {{ stable: 3, canary: 1 }} }}]"
    );
    let (one, two) = (Gateway::start(&yaml), Gateway::start(&yaml));
    let names: Vec<_> = (0..80).map(|room| one.get(&format!("/?room={room}")).text()).collect();
    let canary = tally(names.clone())["b"];
    assert!((8..=34).contains(&canary), "{canary} of 80 keys are in the share of a quarter");
    for (room, name) in names.iter().enumerate().step_by(7) {
        for gateway in [&one, &two] {
            assert_eq!(gateway.get(&format!("/?room={room}")).text(), *name);
        }
    }
}

crate::both_kinds!(
    round_robin_distributes_evenly,
    round_robin_follows_weights_without_bursts,
    weight_0_gets_nothing_in_any_kind,
    random_is_fair_and_follows_weights,
    least_connections_counts_living_websockets,
    least_connections_follows_weights,
    least_connections_counts_survive_reloads_and_new_members,
    p2c_leaves_a_slow_backend_alone,
    p2c_spreads_living_websockets,
    consistent_hash_moves_only_the_keys_of_a_leaving_endpoint,
    every_key_of_consistent_hash_is_read,
    two_gateways_with_one_secret_agree_on_a_sticky_client,
    a_forged_cookie_chooses_nothing,
    a_sticky_client_moves_when_its_backend_dies_and_then_stays,
    two_sticky_upstreams_under_one_host_keep_their_clients,
    a_sticky_client_keeps_its_share,
    a_key_keeps_its_share_at_every_gateway,
);
