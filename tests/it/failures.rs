//! Responses to clients when a backend fails, and the retries before them.

use crate::support::log::field;
use crate::support::raw::ask;
use crate::support::{Gate, Gateway, Load, Next, Origin, Response, Wire};
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

fn one(address: SocketAddr, upstream: &str, route: &str) -> String {
    format!(
        "upstreams:
  one: {{ endpoints: ['{address}']{upstream} }}
routes: [{{ upstream: one{route} }}]"
    )
}

/// Sends the request with both Accept values: both get the same status and token.
fn told(gateway: &Gateway, status: u16, token: &str) {
    let request = |accept: &str| {
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: {accept}\r\n\r\n")
    };
    let response = ask(gateway.web(), request("application/json"));
    assert_eq!(response.status, status, "{}{}", response.head, response.text());
    assert!(response.field("content-type").unwrap().starts_with("application/json"), "{}", response.head);
    let json = response.json();
    assert_eq!((&json["error"], &json["status"]), (&token.into(), &status.into()), "{json}");
    assert_eq!(json["request_id"].as_str(), response.field("x-request-id"), "{}", response.head);
    assert!(!json["request_id"].as_str().unwrap().is_empty());

    let response = ask(gateway.web(), request("text/html, */*"));
    assert_eq!(response.status, status);
    assert!(response.field("content-type").unwrap().starts_with("text/plain"), "{}", response.head);
    let text = response.text();
    assert!(text.contains(token) && text.trim_end().lines().count() == 1, "{text:?}");
    assert!(text.contains(response.field("x-request-id").unwrap()), "{text:?}");
}

#[test]
fn a_refused_connect_is_502() {
    let a = Origin::named("a");
    a.die();
    told(&Gateway::start(&one(a.address(), "", "")), 502, "connect_refused");
}

#[test]
fn a_connect_without_a_response_is_504() {
    // A listener with a full queue: the kernel drops further SYNs.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let fillers: Vec<_> = std::iter::from_fn(|| connect().ok()).take(16).collect();
    assert!(fillers.len() < 16, "the queue is full");
    told(&Gateway::start(&one(address, ", connect_timeout: 200ms, retries: 0", "")), 504, "connect_timeout");
}

#[test]
fn a_backend_that_does_not_respond_is_504() {
    let silent = Origin::scripted("silent", |_, wire| {
        // Held until the gateway times out.
        let _ = wire.fill();
        Next::Close
    });
    told(
        &Gateway::start(&one(silent.address(), ", retries: 0", ", timeout: 300ms")),
        504,
        "response_timeout",
    );
}

#[test]
fn a_backend_that_speaks_something_else_is_502() {
    let odd = Origin::fixed("SSH-2.0-OpenSSH_9.2\r\n\r\n", Next::Close);
    told(&Gateway::start(&one(odd.address(), ", retries: 0", "")), 502, "bad_response");
}

#[test]
fn a_backend_that_closes_before_its_response_is_502() {
    let closing = Origin::scripted("closing", |_, _| Next::Close);
    told(&Gateway::start(&one(closing.address(), ", retries: 0", "")), 502, "upstream_closed");
}

#[test]
fn an_upstream_without_endpoints_is_503() {
    let a = Origin::named("a");
    let yaml = format!("routes: [{{ upstream: [{{ address: '{a}', weight: 0 }}] }}]");
    told(&Gateway::start(&yaml), 503, "no_endpoint");
}

#[test]
fn a_body_that_is_cut_looks_cut() {
    for head in ["Content-Length: 10\r\n\r\n01234", "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n"] {
        let cutting = Origin::fixed(format!("HTTP/1.1 200 OK\r\n{head}"), Next::Close);
        let gateway = Gateway::start(&one(cutting.address(), "", ""));
        let mut wire = gateway.wire();
        wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(wire.try_response("GET").is_err(), "{head:?} must not look whole");
        assert_eq!(crate::support::get(gateway.admin(), "/healthz").status, 200, "the gateway goes on");
    }
}

#[test]
fn a_silence_inside_a_response_ends_it() {
    let gate = std::sync::Arc::new(Gate::default());
    let held = std::sync::Arc::clone(&gate);
    let stalling = Origin::scripted("stalling", move |_, wire| {
        wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234").unwrap();
        held.pass_within(crate::support::LIMIT);
        Next::Close
    });
    let gateway = Gateway::start(&one(stalling.address(), "", ", timeout: 300ms"));
    let mut wire = gateway.wire();
    wire.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(wire.try_response("GET").is_err());
    gate.open();
}

#[test]
fn a_backend_killed_under_load_costs_no_request() {
    let origins = ["a", "b", "c"].map(Origin::named);
    let [a, b, c] = &origins;
    let gateway = Gateway::start(&format!(
        "upstreams:
  all:
    endpoints: [{a}, {b}, {c}]
    passive_health: {{ failures: 1, eject_for: 200ms }}
routes: [{{ upstream: all }}]"
    ));
    let load = Load::start(gateway.web(), "/", 4);
    for origin in [a, b, c, a] {
        load.await_more(100);
        origin.die();
        load.await_more(100);
        origin.revive();
        let before = origin.count();
        crate::support::eventually("it gets traffic again", || (origin.count() > before + 10).then_some(()));
    }
    let answered = load.answered();
    assert_eq!(load.stop(), Vec::<String>::new(), "of {answered}");
}

fn post(wire: &mut Wire, body: &str) -> Response {
    let length = body.len();
    wire.send(format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"));
    wire.response()
}

/// Two backends, one of which closes without a response.
fn closing_and_well() -> (Origin, Origin, String) {
    let closing = Origin::scripted("closing", |_, _| Next::Close);
    let well = Origin::named("well");
    let yaml = format!(
        "upstreams:
  all: {{ endpoints: [{closing}, {well}], passive_health: {{ failures: 0 }} }}
routes: [{{ upstream: all }}]"
    );
    (closing, well, yaml)
}

#[test]
fn a_post_that_reached_a_backend_is_not_repeated() {
    let (closing, well, yaml) = closing_and_well();
    let gateway = Gateway::start(&yaml);
    let statuses: Vec<_> = (0..8).map(|n| post(&mut gateway.wire(), &format!("order {n}")).status).collect();
    assert_eq!(closing.count() + well.count(), 8, "each order was delivered once: {statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), closing.count());
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), well.count());
    assert_eq!(closing.count(), 4);
}

#[test]
fn a_get_that_reached_a_closing_backend_is_repeated_elsewhere() {
    let (closing, _well, yaml) = closing_and_well();
    let gateway = Gateway::start(&yaml);
    assert!(gateway.names("/", 8).iter().all(|name| name == "well"));
    assert!(closing.count() >= 4, "it was asked first every second time");
}

#[test]
fn an_undelivered_post_goes_to_the_next_endpoint_whole() {
    let (dead, well) = (Origin::named("dead"), Origin::named("well"));
    dead.die();
    let gateway = Gateway::start(&format!("routes: [{{ upstream: ['{dead}', '{well}'] }}]"));
    let body = "x".repeat(20_000);
    for _ in 0..6 {
        assert_eq!(post(&mut gateway.wire(), &body).status, 200);
    }
    assert!(well.seen().iter().all(|seen| seen.body == body.as_bytes()));
}

#[test]
fn retries_are_bounded() {
    let closing: Vec<_> = (0..5).map(|_| Origin::scripted("closing", |_, _| Next::Close)).collect();
    let endpoints: Vec<_> = closing.iter().map(ToString::to_string).collect();
    let gateway = Gateway::start(&format!(
        "upstreams:
  all: {{ endpoints: [{}], retries: 2 }}
routes: [{{ upstream: all }}]",
        endpoints.join(", ")
    ));
    assert_eq!(gateway.get("/").status, 502);
    let asked: Vec<_> = closing.iter().map(Origin::count).collect();
    assert_eq!(asked.iter().sum::<usize>(), 3, "the first and two more: {asked:?}");
    assert!(asked.iter().all(|count| *count <= 1), "never the same twice: {asked:?}");
}

#[test]
fn an_idle_connection_that_the_backend_closed_costs_no_request() {
    let once = Origin::scripted("once", |_, wire| {
        wire.try_send(crate::support::origin::answer(200, "", b"once")).unwrap();
        Next::Close
    });
    let gateway = Gateway::start(&one(once.address(), "", ""));
    assert_eq!(gateway.names("/", 50).len(), 50);
}

/// `attempts` counts endpoints that were tried, not the search for one more.
#[test]
fn attempts_are_endpoints_that_were_tried() {
    for (endpoints, asked) in [(1, "1"), (2, "2"), (3, "3")] {
        let gone: Vec<_> = (0..endpoints).map(|_| Origin::named("gone")).collect();
        let list: Vec<_> = gone.iter().map(|origin| format!("'{}'", origin.address())).collect();
        gone.iter().for_each(Origin::die);
        let gateway = Gateway::start(&format!("routes: [{{ upstream: [{}] }}]", list.join(", ")));
        for request in [
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
            crate::support::ws::handshake("/", ""),
        ] {
            let mark = gateway.log().mark();
            assert_eq!(ask(gateway.web(), request).status, 502);
            let line = gateway.log().wait(mark, &["request failed"]);
            assert_eq!(field(&line, "attempts"), asked, "{line}");
        }
    }
}
