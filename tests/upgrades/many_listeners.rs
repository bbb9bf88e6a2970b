//! More listening sockets than a message between the processes can have, and processes without descriptors for what they
//! should take.

use crate::alone;
use crate::faulty_gateway::{Before, FaultyGateway};
use crate::order::{Moved, upgrade, upgrade_and_end};
use crate::support::{Origin, Socket, get};
use std::fmt::Write;
use std::time::Duration;

/// The kernel passes at most 253 descriptors with a message (unix(7)).
const LISTENERS: usize = 260;

fn yaml(origin: &Origin) -> String {
    let mut yaml =
        "admin: { address: 127.0.0.1:0 }\nlisteners:\n  - { name: web, address: 127.0.0.1:0 }\n".to_owned();
    for number in 0..LISTENERS {
        writeln!(yaml, "  - {{ name: port{number}, address: 127.0.0.1:0 }}").unwrap();
    }
    yaml + &format!("routes: [{{ name: all, upstream: [{origin}] }}]\n")
}

#[test]
fn more_listening_sockets_than_a_message_has_are_handed_over() {
    let _alone = alone();
    let origin = Origin::named("a");
    let faulty = FaultyGateway::start_whole(Before::Nothing, &yaml(&origin));
    let gateway = &faulty.gateway;
    let addresses: Vec<_> = (0..LISTENERS).map(|number| gateway.listener(&format!("port{number}"))).collect();
    let mut sockets: Vec<_> = addresses.iter().map(|address| Socket::open(*address, "/ws")).collect();
    // A process that cannot have them changes nothing.
    faulty.replace(Before::Limit(150));
    let report = upgrade(gateway).unwrap_err();
    assert!(report.contains("the running process continues"), "{report}");
    assert!(report.contains("descriptor"), "{report}");
    faulty.repair();
    for _ in 0..2 {
        assert_eq!(upgrade_and_end(gateway), Moved { moved: LISTENERS, left: 0 });
        assert!(addresses.iter().all(|address| get(*address, "/").status == 200));
        sockets.iter_mut().for_each(|socket| socket.echo("still open"));
    }
}

#[test]
fn a_process_at_its_limit_of_descriptors_says_so_or_hands_everything_over() {
    let _alone = alone();
    const LIMIT: usize = 256;
    let origin = Origin::named("a");
    let yaml = format!("routes: [{{ name: all, upstream: [{origin}] }}]\n");
    let faulty = FaultyGateway::start(Before::Limit(LIMIT), &yaml);
    let gateway = &faulty.gateway;
    // Nearly all of its descriptors: two for each WebSocket.
    let used = crate::descriptors::open_descriptors(gateway.pid());
    let count = (LIMIT - used) / 2 - 8;
    let mut sockets: Vec<_> = (0..count).map(|_| Socket::open(gateway.web(), "/ws")).collect();
    sockets.iter_mut().for_each(|socket| socket.echo("before"));
    faulty.repair();
    let old = gateway.pid();
    match upgrade(gateway) {
        Ok(moved) => assert_eq!(moved, Moved { moved: count, left: 0 }),
        Err(report) => {
            assert!(report.contains("the running process continues"), "{report}");
            sockets.truncate(count / 2);
            assert_eq!(upgrade(gateway), Ok(Moved { moved: sockets.len(), left: 0 }));
        }
    }
    assert_ne!(gateway.pid(), old);
    assert!(gateway.exit_within(Duration::from_secs(40)).success());
    sockets.iter_mut().for_each(|socket| socket.echo("still open"));
}
