//! Upgrades under a service manager, of which one side ends in between: no process stays beside the service.

use crate::alone;
use crate::faulty_gateway::{Before, FaultyGateway, await_stop, signal};
use crate::order::upgrade;
use crate::support::service_manager::ServiceManager;
use crate::support::{Gateway, Origin, Socket, eventually, get};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

const EXIT: Duration = Duration::from_secs(20);

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn yaml(address: SocketAddr, origin: &Origin) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0 }}\nlisteners: [{{ name: web, address: '{address}' }}]\nroutes: [{{ upstream: [{origin}], websocket: {{ drain_window: 1s }} }}]\n"
    )
}

/// The main process is killed before the service manager is told of the new one, and the service manager starts another one.
#[test]
fn a_new_process_that_the_service_manager_does_not_follow_ends_when_the_next_one_serves() {
    let _alone = alone();
    let (origin, manager, address) = (Origin::named("a"), ServiceManager::start(), free_address());
    let steps =
        ["OldPassed", "OldReady", "OldOrdered", "OldServing", "OldStopped 1", "OldSent 1", "OldReleased 1"];
    for step in steps {
        let yaml = yaml(address, &origin);
        let before = Before::Fault(&format!("SIGKILL {step}"));
        let faulty = FaultyGateway::start_managed(before, &manager.variables(), &yaml);
        let mut websocket = Socket::open(address, "/ws");
        websocket.echo("before");
        faulty.replace(Before::Nothing);
        faulty.gateway.signal("USR2");
        let new = faulty.started();
        faulty.gateway.exit_within(EXIT);
        faulty.gateway.succeeded_by(new);
        // It serves until the next process does, and changes nothing any more.
        assert_eq!(get(address, "/").status, 200, "{step}");
        faulty.gateway.log().wait(0, &["old process ended"]);
        let report = upgrade(&faulty.gateway).unwrap_err();
        assert!(report.contains("serves only until the next process of the service does"), "{report}");
        let mark = faulty.gateway.log().mark();
        signal("HUP", new);
        faulty.gateway.log().wait(mark, &["serves only until the next process of the service does"]);
        let (kept, link) = (manager.stored_at(address), manager.link().expect("a link is stored"));
        let next = Gateway::start_with_link(kept, link, &manager.variables(), &yaml);
        eventually(&format!("the new process ends after {step}"), || {
            faulty.gateway.has_process_ended(new).then_some(())
        });
        let mut websocket = Socket::open(address, "/ws");
        websocket.echo("in the next process");
        assert_eq!(manager.messages_with("MAINPID"), 0, "{step}");
        manager.release();
        drop(next);
    }
}

/// The new process has bound an address that was new in the file, and that the next process has to bind.
#[test]
fn a_new_process_gives_the_addresses_that_it_has_bound_to_the_next_one() {
    let _alone = alone();
    let (origin, manager) = (Origin::named("a"), ServiceManager::start());
    let (address, side) = (free_address(), free_address());
    let before = Before::Fault("SIGKILL OldServing");
    let faulty = FaultyGateway::start_managed(before, &manager.variables(), &yaml(address, &origin));
    let changed = yaml(address, &origin)
        .replace("listeners: [", &format!("listeners: [{{ name: side, address: '{side}' }}, "));
    std::fs::write(faulty.gateway.file(), &changed).unwrap();
    faulty.replace(Before::Nothing);
    faulty.gateway.signal("USR2");
    let new = faulty.started();
    faulty.gateway.exit_within(EXIT);
    faulty.gateway.succeeded_by(new);
    assert_eq!(get(side, "/").status, 200);
    let (kept, link) = (manager.stored_at(address), manager.link().expect("a link is stored"));
    let next = Gateway::start_with_link(kept, link, &manager.variables(), &changed);
    eventually("the new process ends", || faulty.gateway.has_process_ended(new).then_some(()));
    assert_eq!((get(address, "/").status, get(side, "/").status), (200, 200));
    drop(next);
}

/// A service that is stopped while the new process serves already: the service manager knows one process only.
#[test]
fn a_stop_of_the_service_during_an_upgrade_ends_both_processes() {
    let _alone = alone();
    for (stop, end) in [("TERM", Some(1012)), ("INT", None)] {
        let (origin, manager, address) = (Origin::named("a"), ServiceManager::start(), free_address());
        let before = Before::Fault("SIGSTOP OldServing");
        let faulty = FaultyGateway::start_managed(before, &manager.variables(), &yaml(address, &origin));
        let mut websocket = Socket::open(address, "/ws");
        websocket.echo("before");
        faulty.replace(Before::Nothing);
        let old = faulty.gateway.pid();
        faulty.gateway.signal("USR2");
        let new = faulty.started();
        await_stop(old);
        faulty.gateway.signal(stop);
        signal("CONT", old);
        faulty.gateway.exit_within(EXIT);
        eventually(&format!("the new process ends after SIG{stop}"), || {
            faulty.gateway.has_process_ended(new).then_some(())
        });
        assert_eq!(websocket.end(), end, "SIG{stop}");
    }
}

/// A completed upgrade: the new process is the main one, and the link is not needed any more.
#[test]
fn a_new_process_that_the_service_manager_follows_stays() {
    let _alone = alone();
    let (origin, manager, address) = (Origin::named("a"), ServiceManager::start(), free_address());
    let yaml = yaml(address, &origin);
    let faulty = FaultyGateway::start_managed(Before::Nothing, &manager.variables(), &yaml);
    faulty.replace(Before::Nothing);
    let old = faulty.gateway.pid();
    let stored = manager.messages_with("FDSTORE=1");
    upgrade(&faulty.gateway).unwrap();
    assert_eq!(manager.messages_with("MAINPID"), 1);
    eventually("the old process ends", || faulty.gateway.has_process_ended(old).then_some(()));
    eventually("the link is removed", || manager.link().is_none().then_some(()));
    // Once the link, and once the sockets by the new process.
    eventually("its sockets are stored", || (manager.messages_with("FDSTORE=1") == stored + 2).then_some(()));
    manager.stored_at(address);
    assert_eq!(get(address, "/").status, 200);
}
