//! Processes that die during an upgrade, at every step: the other one serves, and has every WebSocket that it had.

use crate::alone;
use crate::end_guard::EndGuard;
use crate::faulty_gateway::{Before, FaultyGateway, await_stop, kill, signal};
use crate::order::{Moved, upgrade};
use crate::support::{Gateway, Origin, Socket, Wire, eventually};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

const WEBSOCKETS: usize = 100;

/// The maximum number of WebSockets that move together.
const BATCH: usize = 32;

const EXIT: Duration = Duration::from_secs(20);

fn open(gateway: &Gateway) -> Vec<Socket> {
    let mut sockets: Vec<_> = (0..WEBSOCKETS).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    sockets.iter_mut().for_each(|socket| socket.echo("before"));
    sockets
}

fn yaml(origin: &Origin) -> String {
    format!("routes: [{{ name: all, upstream: [{origin}] }}]\n")
}

/// Keeps the WebSockets that still echo. The others must have ended without a Close frame: their process was killed.
fn keep_living(sockets: &mut Vec<Socket>) {
    sockets.retain_mut(|socket| match socket.try_echo("still open") {
        Ok(()) => true,
        Err(code) => {
            assert_eq!(code, None, "a Close frame");
            false
        }
    });
}

/// The process that survived serves, knows its WebSockets, and can be upgraded.
fn check_survivor(faulty: &FaultyGateway, sockets: &mut Vec<Socket>) {
    let gateway = &faulty.gateway;
    assert_eq!(gateway.get("/").status, 200);
    let active = || gateway.metrics().sum("moongate_websocket_connections_active", &[]) as usize;
    eventually("only living WebSockets are counted", || (active() == sockets.len()).then_some(()));
    let mut late = Socket::open(gateway.web(), "/ws");
    late.echo("opened after the fault");
    sockets.push(late);
    faulty.repair();
    assert_eq!(upgrade(gateway), Ok(Moved { moved: sockets.len(), left: 0 }));
    sockets.iter_mut().for_each(|socket| socket.echo("after an upgrade"));
}

/// Connects without pause during `work`; returns the connects that were refused.
fn refused_during(address: SocketAddr, work: impl FnOnce()) -> Vec<String> {
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let mut refused = Vec::new();
            while !ends.load(SeqCst) {
                match TcpStream::connect(address) {
                    // A process that is stopped or killed may have the connection: only the connect counts.
                    Ok(stream) => {
                        let mut wire = Wire::of(stream);
                        wire.patience(Duration::from_millis(100));
                        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
                        let _ = wire.try_send(request).and_then(|()| wire.try_response("GET"));
                    }
                    Err(error) => refused.push(error.to_string()),
                }
            }
            refused
        });
        let end = EndGuard(&ends);
        work();
        drop(end);
        connecting.join().unwrap()
    })
}

#[test]
fn a_new_process_that_dies_before_it_serves_changes_nothing() {
    let _alone = alone();
    let origin = Origin::named("a");
    let faulty = FaultyGateway::start(Before::Nothing, &yaml(&origin));
    let mut sockets = open(&faulty.gateway);
    for step in ["NewStarted", "NewPassed", "NewReady", "NewOrdered"] {
        faulty.replace(Before::Fault(&format!("SIGKILL {step}")));
        let refused = refused_during(faulty.gateway.web(), || {
            let report = upgrade(&faulty.gateway).unwrap_err();
            assert!(report.contains("the running process continues"), "{step}: {report}");
            assert!(report.contains("signal: 9"), "{step}: {report}");
            sockets.iter_mut().for_each(|socket| socket.echo(step));
        });
        assert_eq!(refused, [""; 0], "{step}");
        assert_eq!(faulty.gateway.generation(), 1);
    }
    check_survivor(&faulty, &mut sockets);
}

#[test]
fn a_new_process_that_dies_during_the_move_loses_no_websocket_that_it_has_not() {
    let _alone = alone();
    let origin = Origin::named("a");
    // The step, and how many WebSockets the new process may have had.
    for (step, lost) in [
        ("NewServing", 0..=BATCH),
        ("NewReceived 1", 1..=BATCH),
        ("NewAdopted 2", 2..=2 * BATCH),
        ("NewConfirmed 2", 2..=3 * BATCH),
    ] {
        let faulty = FaultyGateway::start(Before::Nothing, &yaml(&origin));
        let mut sockets = open(&faulty.gateway);
        faulty.replace(Before::Fault(&format!("SIGKILL {step}")));
        let refused = refused_during(faulty.gateway.web(), || {
            let report = upgrade(&faulty.gateway).unwrap_err();
            assert!(report.contains("the running process continues"), "{step}: {report}");
            assert!(report.contains("signal: 9"), "{step}: {report}");
            keep_living(&mut sockets);
        });
        assert_eq!(refused, [""; 0], "{step}");
        let gone = WEBSOCKETS - sockets.len();
        assert!(lost.contains(&gone), "{step}: {gone} lost");
        check_survivor(&faulty, &mut sockets);
    }
}

#[test]
fn a_new_process_that_is_killed_at_a_step_of_the_old_one_loses_no_websocket_that_it_has_not() {
    let _alone = alone();
    let origin = Origin::named("a");
    for (step, lost) in [
        ("OldPassed", 0..=0),
        ("OldReady", 0..=0),
        ("OldOrdered", 0..=0),
        ("OldServing", 0..=0),
        // The batch that is stopped continues.
        ("OldStopped 2", 1..=BATCH),
        ("OldSent 2", 2..=2 * BATCH),
        ("OldReleased 2", 2..=2 * BATCH),
    ] {
        let faulty = FaultyGateway::start(Before::Fault(&format!("SIGSTOP {step}")), &yaml(&origin));
        let mut sockets = open(&faulty.gateway);
        faulty.replace(Before::Nothing);
        let refused = refused_during(faulty.gateway.web(), || {
            let (mark, old) = (faulty.gateway.log().mark(), faulty.gateway.pid());
            faulty.gateway.signal("USR2");
            let new = faulty.started();
            await_stop(old);
            kill(new);
            signal("CONT", old);
            let line = faulty.gateway.log().wait(mark, &["upgrade failed; this process continues"]);
            assert!(line.contains("signal: 9"), "{step}: {line}");
            keep_living(&mut sockets);
        });
        assert_eq!(refused, [""; 0], "{step}");
        let gone = WEBSOCKETS - sockets.len();
        assert!(lost.contains(&gone), "{step}: {gone} lost");
        check_survivor(&faulty, &mut sockets);
    }
}

/// The old process dies; the new one serves with at least `least` of the WebSockets.
fn survive_the_old_process(step: &str, least: usize, die: impl FnOnce(&FaultyGateway)) {
    let (mine, theirs) = match step.contains("Old") {
        true => (Before::Fault(step), Before::Nothing),
        false => (Before::Nothing, Before::Fault(step)),
    };
    survive(step, (mine, theirs), least, die);
}

/// The same, with a fault of each process.
fn survive(
    step: &str,
    (mine, theirs): (Before<'_>, Before<'_>),
    least: usize,
    die: impl FnOnce(&FaultyGateway),
) {
    let origin = Origin::named("a");
    let faulty = FaultyGateway::start(mine, &yaml(&origin));
    let mut sockets = open(&faulty.gateway);
    faulty.replace(theirs);
    let refused = refused_during(faulty.gateway.web(), || {
        faulty.gateway.signal("USR2");
        let new = faulty.started();
        die(&faulty);
        faulty.gateway.exit_within(EXIT);
        faulty.gateway.succeeded_by(new);
        eventually("the new process serves", || {
            TcpStream::connect(faulty.gateway.admin()).is_ok().then_some(())
        });
        keep_living(&mut sockets);
    });
    assert_eq!(refused, [""; 0], "{step}");
    assert!(sockets.len() >= least, "{step}: {} live", sockets.len());
    check_survivor(&faulty, &mut sockets);
}

#[test]
fn an_old_process_that_dies_takes_no_websocket_with_it_that_has_moved() {
    let _alone = alone();
    for (step, least) in [
        ("OldPassed", 0),
        ("OldReady", 0),
        ("OldOrdered", 0),
        ("OldServing", 0),
        ("OldStopped 2", 1),
        ("OldSent 2", 1),
        ("OldReleased 2", 2),
    ] {
        survive_the_old_process(&format!("SIGKILL {step}"), least, |_| ());
    }
}

#[test]
fn an_old_process_that_is_killed_at_a_step_of_the_new_one_takes_no_websocket_with_it_that_has_moved() {
    let _alone = alone();
    // What it has passed by then waits in the channel.
    let (mine, theirs) = (Before::Fault("SIGSTOP OldPassed"), Before::Fault("SIGSTOP NewStarted"));
    survive("NewStarted", (mine, theirs), 0, |faulty| {
        let (old, new) = (faulty.gateway.pid(), faulty.started());
        await_stop(new);
        await_stop(old);
        faulty.gateway.signal("KILL");
        faulty.gateway.exit_within(EXIT);
        signal("CONT", new);
    });
    for (step, least) in [
        ("NewPassed", 0),
        ("NewReady", 0),
        ("NewOrdered", 0),
        ("NewServing", 0),
        ("NewReceived 2", 2),
        ("NewAdopted 2", 2),
        ("NewConfirmed 2", 2),
    ] {
        survive_the_old_process(&format!("SIGSTOP {step}"), least, |faulty| {
            let new = faulty.started();
            await_stop(new);
            faulty.gateway.signal("KILL");
            faulty.gateway.exit_within(EXIT);
            signal("CONT", new);
        });
    }
}

/// The new process has no socket yet, so that it cannot serve: it ends too, and another gateway can bind the addresses.
#[test]
fn an_old_process_that_dies_before_it_has_passed_its_sockets_leaves_no_process() {
    let _alone = alone();
    let origin = Origin::named("a");
    let faulty = FaultyGateway::start(Before::Fault("SIGKILL OldStarted"), &yaml(&origin));
    let (web, mut sockets) = (faulty.gateway.web(), open(&faulty.gateway));
    faulty.replace(Before::Nothing);
    faulty.gateway.signal("USR2");
    let new = faulty.started();
    faulty.gateway.exit_within(EXIT);
    eventually("the new process ends", || faulty.gateway.has_process_ended(new).then_some(()));
    sockets.iter_mut().for_each(|socket| assert_eq!(socket.try_echo("gone"), Err(None)));
    let head = format!("admin: {{ address: 127.0.0.1:0 }}\nlisteners: [{{ name: web, address: '{web}' }}]\n");
    let next = Gateway::start_whole(&format!("{head}{}", yaml(&origin)));
    assert_eq!(next.get("/").status, 200);
}
