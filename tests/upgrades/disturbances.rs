//! Upgrades while something else happens: reloads, drains, and a storm of handshakes.

use crate::alone;
use crate::end_guard::EndGuard;
use crate::order::{Moved, upgrade, upgrade_and_end};
use crate::support::raw::ask;
use crate::support::{Gateway, Origin, Socket, eventually};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const EXIT: Duration = Duration::from_secs(40);

fn open(gateway: &Gateway, count: usize) -> Vec<Socket> {
    (0..count).map(|_| Socket::open(gateway.web(), "/ws")).collect()
}

#[test]
fn reloads_beside_upgrades_close_no_websocket_and_the_last_file_applies() {
    let _alone = alone();
    let origins = [Origin::named("a"), Origin::named("b")];
    let yaml = |round: usize| {
        let (ws, page) = (&origins[0], &origins[round % 2]);
        format!(
            "routes: [{{ name: ws, path: /ws, upstream: [{ws}] }}, {{ name: page, upstream: [{page}] }}]\n"
        )
    };
    let gateway = Gateway::start(&yaml(0));
    let mut sockets = open(&gateway, 50);
    for round in 1..=6 {
        let (mark, old) = (gateway.log().mark(), gateway.pid());
        gateway.write(&yaml(round));
        // Before, at the same time and after the start of the upgrade.
        (0..round % 3).for_each(|_| gateway.signal("HUP"));
        gateway.signal("USR2");
        gateway.signals("HUP", 2);
        let line = gateway.log().wait(mark, &["new process serves"]);
        gateway.succeeded_by(crate::support::log::field(&line, "pid").parse().unwrap());
        assert!(line.contains("websockets_moved=50 websockets_left=0"), "{line}");
        eventually("the old process ends", || gateway.has_process_ended(old).then_some(()));
        assert_eq!(gateway.get("/").text(), ["a", "b"][round % 2], "round {round}");
        sockets.iter_mut().for_each(|socket| socket.echo("still open"));
    }
}

/// Two endpoints with WebSockets at both: those of each.
fn two_endpoints(websocket: &str) -> (Gateway, [Origin; 2], [Vec<Socket>; 2]) {
    let origins = [Origin::named("a"), Origin::named("b")];
    let gateway = Gateway::start(&both(&origins, websocket));
    let (a, b) = open(&gateway, 60).into_iter().partition(|socket| socket.backend == "a");
    (gateway, origins, [a, b])
}

fn both([a, b]: &[Origin; 2], websocket: &str) -> String {
    format!(
        "upstreams: {{ all: {{ endpoints: ['{a}', '{b}'], balance: round_robin }} }}
routes: [{{ name: ws, upstream: all, websocket: {{ {websocket} }} }}]\n"
    )
}

#[test]
fn an_operators_drain_goes_on_in_the_new_process() {
    let _alone = alone();
    let (gateway, [a, _b], [mut drained, mut kept]) = two_endpoints("drain_window: 2s");
    let target = format!("/api/v1/upstreams/all/endpoints/{a}/drain");
    let order = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(ask(gateway.admin(), order).status, 200);
    let Moved { moved, left } = upgrade(&gateway).unwrap();
    assert!(moved >= kept.len() && left <= drained.len(), "{moved} moved, {left} left");
    for socket in &mut drained {
        assert_eq!(socket.end(), Some(1012));
    }
    kept.iter_mut().for_each(|socket| socket.echo("still open"));
    assert!(gateway.exit_within(EXIT).success());
    kept.iter_mut().for_each(|socket| socket.echo("still open"));
    assert_eq!(Socket::open(gateway.web(), "/ws").backend, "b");
}

#[test]
fn the_drain_of_a_reload_ends_with_a_close_frame_in_one_of_the_processes() {
    let _alone = alone();
    let (gateway, [a, b], [mut removed, mut kept]) = two_endpoints("drain_window: 2s, on_reload: drain");
    let yaml = format!(
        "upstreams: {{ all: {{ endpoints: ['{b}'], balance: round_robin }} }}
routes: [{{ name: ws, upstream: all, websocket: {{ drain_window: 2s, on_reload: drain }} }}]\n"
    );
    gateway.reload(&yaml).unwrap();
    let Moved { moved, left } = upgrade(&gateway).unwrap();
    // Those at the removed endpoint are drained by either process.
    assert!(moved >= kept.len() && left <= removed.len(), "{moved} moved, {left} left");
    for socket in &mut removed {
        assert_eq!(socket.end(), Some(1012));
    }
    assert!(gateway.exit_within(EXIT).success());
    kept.iter_mut().for_each(|socket| socket.echo("still open"));
    a.await_sockets(0);
}

#[test]
fn a_reconnect_storm_loses_no_handshake_and_no_message_to_an_upgrade() {
    let _alone = alone();
    const CLIENTS: usize = 12;
    let origin = Origin::named("a");
    let gateway = Gateway::start(&format!(
        "routes: [{{ name: all, upstream: [{origin}], websocket: {{ drain_window: 0s }} }}]\n"
    ));
    let mut idle = open(&gateway, 20);
    let (ends, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failures: Vec<String> = std::thread::scope(|scope| {
        let client = |number: usize| {
            let mut failures = Vec::new();
            while !ends.load(SeqCst) && failures.len() < 5 {
                let mut socket = match Socket::open_with(gateway.web(), "/ws", &[]) {
                    Ok(socket) => socket,
                    Err(status) => {
                        failures.push(format!("status {status}"));
                        continue;
                    }
                };
                opened.fetch_add(1, SeqCst);
                for turn in 0..number % 4 {
                    match socket.try_echo(&format!("message {turn}")) {
                        Ok(()) => {}
                        // Opened in the old process after its last move.
                        Err(Some(1012)) => break,
                        Err(code) => failures.push(format!("ended with {code:?}")),
                    }
                }
                if number.is_multiple_of(2) {
                    drop(socket);
                } else {
                    socket.close();
                }
            }
            failures
        };
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        let end = EndGuard(&ends);
        for _ in 0..5 {
            let goal = opened.load(SeqCst) + 2 * CLIENTS;
            eventually("handshakes succeed", || (opened.load(SeqCst) >= goal).then_some(()));
            let old = gateway.pid();
            let Moved { moved, .. } = upgrade(&gateway).unwrap();
            assert!(moved >= idle.len(), "{moved} moved");
            eventually("the old process ends", || gateway.has_process_ended(old).then_some(()));
        }
        drop(end);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(failures, [""; 0]);
    idle.iter_mut().for_each(|socket| socket.echo("still open"));
    assert_eq!(upgrade_and_end(&gateway), Moved { moved: idle.len(), left: 0 });
}
