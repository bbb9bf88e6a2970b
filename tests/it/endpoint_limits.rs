//! `max_connections` of an endpoint, through the real gateway.

use crate::support::origin::answer;
use crate::support::raw::ask;
use crate::support::{Gate, Gateway, LIMIT, Next, Origin, Socket, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

fn file(endpoints: &[(&Origin, u32)]) -> String {
    let entry =
        |(origin, limit): &(&Origin, u32)| format!("{{ address: '{origin}', max_connections: {limit} }}");
    format!(
        "server: {{ threads: 4 }}
upstreams: {{ all: {{ endpoints: [{}] }} }}
routes: [{{ upstream: all }}]",
        endpoints.iter().map(entry).collect::<Vec<_>>().join(", ")
    )
}

/// Waits until an endpoint has that many requests and WebSockets: a client may have the whole response before the
/// gateway releases the endpoint.
fn await_active(gateway: &Gateway, origin: &Origin, count: u64) {
    let what = format!("{origin} has {count}");
    eventually(&what, || (gateway.active("all", origin.address()) == Some(count)).then_some(()));
}

const JSON: &str =
    "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n";

#[test]
fn requests_and_websockets_share_the_limit_and_503_says_why() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let gateway = Gateway::start(&file(&[(&a, 1), (&b, 1)]));
    let first = Socket::open(gateway.web(), "/ws");
    let (other, name) = if first.backend == "a" { (&b, "b") } else { (&a, "a") };
    for _ in 0..6 {
        assert_eq!(gateway.get("/").text(), name, "the full endpoint is skipped");
        await_active(&gateway, other, 0);
    }
    let mut second = Socket::open(gateway.web(), "/ws");
    assert_eq!(second.backend, name);
    let full = ask(gateway.web(), JSON);
    assert_eq!((full.status, full.json()["error"].as_str()), (503, Some("endpoints_full")));
    assert_eq!(full.field("retry-after"), Some("1"));
    assert_eq!(Socket::open_with(gateway.web(), "/ws", &[]).err(), Some(503));
    let reason = [("reason", "endpoints_full")];
    assert_eq!(gateway.metrics().sum("moongate_http_requests_failed_total", &reason), 2.0);
    first.close();
    eventually("a place is free again", || (gateway.get("/").status == 200).then_some(()));
    second.echo("undisturbed");
}

#[test]
fn many_clients_never_exceed_the_limit_and_use_all_of_it() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, highest) = (Arc::clone(&now), Arc::clone(&most));
    let open = Arc::new(Gate::default());
    let gate = Arc::clone(&open);
    let backend = Origin::scripted("slow", move |_, wire| {
        highest.fetch_max(counted.fetch_add(1, SeqCst) + 1, SeqCst);
        gate.pass_within(LIMIT);
        // Before the response: the gateway releases the endpoint when it has the response.
        counted.fetch_sub(1, SeqCst);
        wire.try_send(answer(200, "", b"slow")).map_or(Next::Close, |()| Next::Keep)
    });
    let gateway = Gateway::start(&file(&[(&backend, 5)]));
    let statuses = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..40).map(|_| scope.spawn(|| ask(gateway.web(), JSON).status)).collect();
        backend.await_seen(5);
        eventually("35 are refused", || {
            let refused = gateway.metrics().sum("moongate_http_requests_failed_total", &[]);
            (refused == 35.0).then_some(())
        });
        open.open();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5);
    assert_eq!(most.load(SeqCst), 5);
    assert_eq!(backend.count(), 5);
    await_active(&gateway, &backend, 0);
}

#[test]
fn a_reload_changes_the_limit_over_open_websockets() {
    let a = Origin::named("a");
    let gateway = Gateway::start(&file(&[(&a, 0)]));
    let mut sockets: Vec<_> = (0..3).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    gateway.reload(&file(&[(&a, 2)])).unwrap();
    assert_eq!(gateway.get("/").status, 503);
    sockets.iter_mut().for_each(|socket| socket.echo("kept"));
    gateway.reload(&file(&[(&a, 4)])).unwrap();
    assert_eq!(gateway.get("/").status, 200);
    await_active(&gateway, &a, 3);
    assert_eq!(gateway.endpoint("all", a.address()).unwrap()["max_connections"], 4);
}

crate::both_kinds!(
    requests_and_websockets_share_the_limit_and_503_says_why,
    many_clients_never_exceed_the_limit_and_use_all_of_it,
    a_reload_changes_the_limit_over_open_websockets,
);
