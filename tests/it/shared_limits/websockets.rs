//! WebSockets per client and their messages, over several gateways.

use super::{fleet, single};
use crate::moved_websockets::upgraded;
use crate::support::eventually::within;
use crate::support::redis::{Redis, is_installed};
use crate::support::{Gateway, Origin, Socket, eventually};
use std::time::{Duration, Instant};

fn limited_to(count: u32, redis: &Redis, origin: &Origin) -> String {
    format!(
        "{}routes: [{{ name: all, upstream: ['{origin}'], websocket: {{ max_connections_per_client: {{ limit: {count}, store: fleet }} }} }}]\n",
        single(&redis.address(), ", deadline: 1s")
    )
}

fn open(gateway: &Gateway) -> Result<Socket, u16> {
    Socket::open_with(gateway.web(), "/", &[])
}

/// The sum of all gateways in the store.
fn sum(redis: &Redis) -> u32 {
    let keys = redis.command(&["KEYS", "moongate:open:*"]);
    keys.lines()
        .filter(|key| !key.is_empty())
        .flat_map(|key| redis.command(&["HVALS", key]).lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|value| value.split(' ').next()?.parse::<u32>().ok())
        .sum()
}

#[test]
fn the_places_of_a_killed_gateway_are_free_within_15_seconds() {
    if !is_installed("the_places_of_a_killed_gateway_are_free_within_15_seconds") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let gateways = fleet(2, &limited_to(5, &redis, &origin));
    let _here: Vec<_> = (0..2).map(|_| open(&gateways[0]).unwrap()).collect();
    let there: Vec<_> = (0..3).map(|_| open(&gateways[1]).unwrap()).collect();
    assert_eq!(open(&gateways[0]).err(), Some(429));
    assert_eq!(open(&gateways[1]).err(), Some(429));
    gateways[1].signal("KILL");
    let killed = Instant::now();
    let mut more = vec![within(Duration::from_secs(15), "a place is free", || open(&gateways[0]).ok())];
    assert!(killed.elapsed() > Duration::from_secs(5), "a gateway that is only slow keeps its places");
    more.extend((0..2).map(|_| open(&gateways[0]).unwrap()));
    assert_eq!(open(&gateways[0]).err(), Some(429));
    drop(there);
}

#[test]
fn a_place_is_free_when_a_websocket_ends_at_another_gateway() {
    if !is_installed("a_place_is_free_when_a_websocket_ends_at_another_gateway") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let gateways = fleet(2, &limited_to(1, &redis, &origin));
    for round in 0..200 {
        let (one, other) = (&gateways[round % 2], &gateways[(round + 1) % 2]);
        let socket = open(one).unwrap_or_else(|status| panic!("round {round}: {status}"));
        if round % 20 == 0 {
            assert_eq!(open(other).err(), Some(429));
        }
        socket.close();
        eventually("the place is free", || (sum(&redis) == 0).then_some(()));
    }
}

#[test]
fn moved_websockets_keep_their_places() {
    if !is_installed("moved_websockets_keep_their_places") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let gateways = fleet(2, &limited_to(4, &redis, &origin));
    let mut sockets: Vec<_> = (0..3).map(|_| open(&gateways[0]).unwrap()).collect();
    assert_eq!(upgraded(&gateways[0]), (3, 0));
    eventually("the new process has counted them", || (sum(&redis) == 3).then_some(()));
    sockets.iter_mut().for_each(|socket| socket.echo("after"));
    let fourth = open(&gateways[1]).unwrap();
    assert_eq!(open(&gateways[0]).err(), Some(429));
    fourth.close();
    sockets.drain(..).for_each(Socket::close);
    eventually("all places are free", || (sum(&redis) == 0).then_some(()));
}

#[test]
fn a_stopped_gateway_leaves_no_places() {
    if !is_installed("a_stopped_gateway_leaves_no_places") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let gateways = fleet(2, &limited_to(1, &redis, &origin));
    let socket = open(&gateways[1]).unwrap();
    gateways[1].signal("INT");
    eventually("the place is free", || open(&gateways[0]).ok());
    assert_eq!(redis.command(&["ZCARD", "moongate:gateways"]), "1");
    drop(socket);
}

#[test]
fn two_gateways_share_a_rate_of_messages() {
    if !is_installed("two_gateways_share_a_rate_of_messages") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let gateways = fleet(
        2,
        &format!(
            "{}routes: [{{ name: all, upstream: ['{origin}'], plugins: [{{ kind: rate_limit, messages: {{ rate: 100/s, burst: 20, on_exceed: drop }}, store: fleet }}] }}]\n",
            single(&redis.address(), ", deadline: 1s")
        ),
    );
    let time = Duration::from_secs(5);
    let start = Instant::now();
    let client = |gateway: &Gateway| {
        let mut socket = Socket::open(gateway.web(), "/");
        let mut next = start;
        while start.elapsed() < time {
            socket.say("x");
            next += Duration::from_millis(5);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        std::iter::from_fn(|| socket.hear_within(Duration::from_millis(500))).count()
    };
    let passed: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = gateways.iter().map(|gateway| scope.spawn(|| client(gateway))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let (passed, most) = (passed as f64, 20.0 + 100.0 * time.as_secs_f64());
    // The credit of a gateway is what it has passed within a round trip: 20 tokens at most.
    assert!(passed <= most + 2.0 * 20.0 && passed >= 0.9 * most, "{passed} of {most}");
}

/// Two gateways whose WebSockets share a limit of messages.
fn message_fleet(redis: &Redis, origin: &Origin, websocket: &str) -> Vec<Gateway> {
    let store = single(&redis.address(), ", deadline: 1s");
    fleet(
        2,
        &format!("{store}routes: [{{ name: all, upstream: ['{origin}'], websocket: {{ {websocket} }} }}]\n"),
    )
}

#[test]
fn two_gateways_share_the_rate_at_which_they_read_a_client() {
    if !is_installed("two_gateways_share_the_rate_at_which_they_read_a_client") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let gateways = message_fleet(&redis, &origin, "messages_per_second: { limit: 100, store: fleet }");
    let (each, rate) = (300, 100.0);
    // A read takes at least 1 KiB, so that two of these messages may exceed the limit.
    let text = "x".repeat(500);
    let start = Instant::now();
    let client = |gateway: &Gateway| {
        let mut socket = Socket::open(gateway.web(), "/");
        (0..each).for_each(|_| socket.say(&text));
        (0..each).for_each(|_| drop(socket.hear()));
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = gateways.iter().map(|gateway| scope.spawn(|| client(gateway))).collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    let (time, passed) = (start.elapsed().as_secs_f64(), 2.0 * f64::from(each));
    // The bucket, the credit of two gateways, and a read of each.
    let most = rate * time + rate + 2.0 * rate + 2.0 * 3.0;
    assert!(passed <= most, "{passed} of {most} in {time} s");
    assert!(time <= 1.3 * passed / rate, "{time} s");
}

#[test]
fn messages_at_two_gateways_count_together() {
    if !is_installed("messages_at_two_gateways_count_together") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let gateways = message_fleet(
        &redis,
        &origin,
        "on_exceed: close, messages_per_second: { limit: 40, store: fleet, key: 'header:x-key' }",
    );
    let open = |at: usize, key| Socket::open_with(gateways[at].web(), "/", &[("x-key", key)]).unwrap();
    let mut first = open(0, "a");
    (0..38).for_each(|n| first.echo(&n.to_string()));
    let (mut second, mut other) = (open(1, "a"), open(1, "b"));
    // One round trip to the store later, the second gateway has the count of the first.
    let start = Instant::now();
    let (mut passed, mut code) = (0, None);
    while code.is_none() && start.elapsed() < Duration::from_secs(10) {
        match second.try_echo("x") {
            Ok(()) => passed += 1,
            Err(closed) => code = Some(closed),
        }
    }
    assert_eq!(code, Some(Some(1008)));
    let most = 40.0 + 40.0 * start.elapsed().as_secs_f64();
    assert!(f64::from(passed) <= most, "{passed} of {most}");
    (0..30).for_each(|n| other.echo(&n.to_string()));
}

#[test]
fn a_silent_store_delays_no_message() {
    if !is_installed("a_silent_store_delays_no_message") {
        return;
    }
    let (redis, origin) = (Redis::start(), Origin::named("a"));
    let gateways = message_fleet(
        &redis,
        &origin,
        "on_exceed: close, messages_per_second: { limit: 2000, store: fleet }",
    );
    let mut sockets: Vec<_> = gateways.iter().map(|gateway| Socket::open(gateway.web(), "/")).collect();
    let slowest = |sockets: &mut [Socket]| {
        let echo = |socket: &mut Socket| {
            let begun = Instant::now();
            socket.echo("x");
            begun.elapsed()
        };
        (0..40).flat_map(|_| sockets.iter_mut().map(echo).collect::<Vec<_>>()).max().unwrap()
    };
    slowest(&mut sockets);
    redis.signal("STOP");
    let during = slowest(&mut sockets);
    redis.signal("CONT");
    // The deadline of the store is 1 s.
    assert!(during < Duration::from_millis(900), "{during:?}");
}
