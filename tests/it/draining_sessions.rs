//! Sessions of a draining endpoint, through the real gateway: requests stay until the session leaves, and the
//! WebSockets of one session leave together.

use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Socket, eventually};
use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

fn file(a: &Origin, b: &Origin, balance: &str, window: &str) -> String {
    format!(
        "upstreams: {{ all: {{ endpoints: [{a}, {b}], balance: {balance} }} }}
routes: [{{ name: chat, upstream: all, websocket: {{ drain_window: {window} }} }}]"
    )
}

/// The name of the backend that responds to a request with these lines.
fn asked(gateway: &Gateway, lines: &str) -> String {
    let response =
        ask(gateway.web(), format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n"));
    assert_eq!(response.status, 200);
    response.text()
}

fn order(gateway: &Gateway, order: &str, origin: &Origin) {
    let host = gateway.admin();
    let path = format!("/api/v1/upstreams/all/endpoints/{origin}/{order}");
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(ask(host, head).status, 200);
}

/// A cookie that ties a client to the backend `a`. Without its session, so that it leaves at the end of the
/// window.
fn cookie_of_a(gateway: &Gateway) -> String {
    let cookie = eventually("a client comes to a", || {
        let socket = Socket::open(gateway.web(), "/");
        socket.cookie.clone().filter(|_| socket.backend == "a")
    });
    let pair = cookie.split(';').next().unwrap();
    let (tied, session) = pair.split_once('.').expect("the cookie has a session");
    assert_eq!(session.len(), 2, "{pair}");
    format!("Cookie: {tied}\r\n")
}

#[test]
fn the_requests_of_a_sticky_client_stay_at_a_draining_endpoint() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&a, &b, "sticky", "1h"));
    let cookie = cookie_of_a(&gateway);
    order(&gateway, "drain", &a);
    for _ in 0..5 {
        assert_eq!(asked(&gateway, &cookie), "a");
        assert_eq!(asked(&gateway, ""), "b", "a new client goes elsewhere");
    }
    let fields = [("Cookie", cookie["Cookie: ".len()..].trim_end())];
    assert_eq!(Socket::open_with(gateway.web(), "/", &fields).unwrap().backend, "a", "so do handshakes");
    // A reload does not change that.
    gateway.reload(&file(&a, &b, "sticky", "1h").replace("name: chat", "name: talk")).unwrap();
    assert_eq!(asked(&gateway, &cookie), "a");
    // It ends with the window, and the client gets another cookie.
    gateway.reload(&file(&a, &b, "sticky", "1ms")).unwrap();
    assert_eq!(asked(&gateway, &cookie), "b");
    order(&gateway, "undrain", &a);
    assert_eq!(asked(&gateway, &cookie), "a");
}

#[test]
fn an_endpoint_that_is_marked_to_be_drained_keeps_its_sessions_too() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&a, &b, "sticky", "1h"));
    let cookie = cookie_of_a(&gateway);
    let marked = |window| {
        let line = format!("{{ address: '{a}', drain: true }}, {b}");
        file(&a, &b, "sticky", window).replace(&format!("{a}, {b}"), &line)
    };
    gateway.reload(&marked("1h")).unwrap();
    assert_eq!((asked(&gateway, &cookie), asked(&gateway, "")), ("a".to_owned(), "b".to_owned()));
    gateway.reload(&marked("1ms")).unwrap();
    assert_eq!(asked(&gateway, &cookie), "b");
}

#[test]
fn a_window_that_a_reload_changes_holds_for_websockets_as_for_requests() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balance = "{ kind: consistent_hash, key: 'query:room' }";
    let gateway = Gateway::start(&file(&a, &b, balance, "1h"));
    let sockets = (0..20).map(|room| Socket::open(gateway.web(), &format!("/?room={room}")));
    let mut on_a: Vec<_> = sockets.filter(|socket| socket.backend == "a").collect();
    assert!(!on_a.is_empty());
    order(&gateway, "drain", &a);
    gateway.reload(&file(&a, &b, balance, "500ms")).unwrap();
    for socket in &mut on_a {
        assert_eq!(socket.end(), Some(1012));
    }
}

#[test]
fn a_group_leaves_a_draining_endpoint_together() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balance = "{ kind: consistent_hash, key: 'query:room' }";
    let gateway = Gateway::start(&file(&a, &b, balance, "3s"));
    let path = |room: u32| format!("/?room={room}");
    let rooms: Vec<_> =
        (0..40).filter(|room| Socket::open(gateway.web(), &path(*room)).backend == "a").take(6).collect();
    assert!(rooms.len() >= 4, "{rooms:?}");
    let sockets: Vec<_> = rooms
        .iter()
        .flat_map(|room| (0..4).map(|_| (*room, Socket::open(gateway.web(), &path(*room)))))
        .collect();
    assert!(sockets.iter().all(|(_, socket)| socket.backend == "a"));
    order(&gateway, "drain", &a);
    let waits: Vec<_> = sockets
        .into_iter()
        .map(|(room, mut socket)| {
            let (web, path) = (gateway.web(), path(room));
            thread::spawn(move || {
                assert_eq!(socket.end(), Some(1012));
                // A client that reconnects at once finds its group at the new endpoint.
                (room, Instant::now(), Socket::open(web, &path).backend)
            })
        })
        .collect();
    let mut ends: Vec<_> = waits.into_iter().map(|wait| wait.join().unwrap()).collect();
    assert!(ends.iter().all(|(_, _, backend)| backend == "b"), "{ends:?}");
    // Ordered by time, each group is contiguous under any load: the groups' moments differ by far more than
    // their sockets'.
    ends.sort_by_key(|(_, at, _)| *at);
    let mut spans: BTreeMap<u32, (Instant, Instant)> = BTreeMap::new();
    for (room, at, _) in &ends {
        spans.entry(*room).and_modify(|span| span.1 = *at).or_insert((*at, *at));
    }
    let total = ends[ends.len() - 1].1 - ends[0].1;
    let longest = spans.values().map(|(first, last)| *last - *first).max().unwrap();
    assert!(longest < total / 4, "a room took {longest:?} of {total:?}");
}

crate::both_kinds!(
    the_requests_of_a_sticky_client_stay_at_a_draining_endpoint,
    an_endpoint_that_is_marked_to_be_drained_keeps_its_sessions_too,
    a_window_that_a_reload_changes_holds_for_websockets_as_for_requests,
    a_group_leaves_a_draining_endpoint_together,
);
