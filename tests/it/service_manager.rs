//! Sockets from a service manager: socket activation, and the store of descriptors that survives a crash. The test is
//! the service manager.

use crate::support::raw::{get, lossy};
use crate::support::service_manager::ServiceManager;
use crate::support::{Gateway, Origin, Socket, Wire, eventually, moongate};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::Duration;

fn file(listeners: &str, origin: &Origin) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0 }}\nlisteners: [{listeners}]\nroutes: [{{ upstream: [{origin}], websocket: {{ drain_window: 1s }} }}]\n"
    )
}

fn listener(address: SocketAddr) -> String {
    format!("{{ name: web, address: '{address}' }}")
}

#[test]
fn a_passed_socket_is_used_by_the_listener_with_its_address() {
    let (origin, passed) = (Origin::named("a"), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = passed.local_addr().unwrap();
    // A client that connected before there was a process.
    let mut early = Wire::connect(address);
    early.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let gateway = Gateway::start_with_socket(
        passed.try_clone().unwrap().into(),
        &[],
        &file(&listener(address), &origin),
    );
    assert_eq!(early.response().status, 200);
    // A crash refuses no connect while somebody holds the socket.
    gateway.signal("KILL");
    gateway.exit_within(Duration::from_secs(10));
    let mut waiting = Wire::connect(address);
    waiting.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let gateway = Gateway::start_with_socket(passed.into(), &[], &file(&listener(address), &origin));
    assert_eq!(waiting.response().status, 200);
    drop(gateway);
}

#[test]
fn a_passed_unix_socket_is_used_and_its_file_stays() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let path = folder.path().join("a.sock");
    let passed = UnixListener::bind(&path).unwrap();
    let listeners = format!(
        "{{ name: web, address: 127.0.0.1:0 }}, {{ name: side, address: 'unix:{}' }}",
        path.display()
    );
    let gateway =
        Gateway::start_with_socket(passed.try_clone().unwrap().into(), &[], &file(&listeners, &origin));
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    gateway.signal("TERM");
    assert!(gateway.exit_within(Duration::from_secs(20)).success());
    assert!(path.exists(), "the service manager owns the file");
}

/// A socket unit's socket is passed by the unit, and as the one that the process before stored.
#[test]
fn a_socket_that_is_passed_twice_is_one() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let path = folder.path().join("a.sock");
    let passed = UnixListener::bind(&path).unwrap();
    let listeners = format!(
        "{{ name: web, address: 127.0.0.1:0 }}, {{ name: side, address: 'unix:{}' }}",
        path.display()
    );
    for names in [["moongate.socket", "moongate"], ["moongate", "moongate.socket"]] {
        let copies = names.map(|name| (name, passed.try_clone().unwrap().into()));
        let gateway = Gateway::start_with_sockets(copies, &[], &file(&listeners, &origin));
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        gateway.signal("TERM");
        assert!(gateway.exit_within(Duration::from_secs(20)).success());
        assert!(path.exists(), "the service manager owns the file");
        assert!(!gateway.log().text().contains("passed socket closed"), "{}", gateway.log().text());
    }
}

#[test]
fn a_passed_unix_socket_without_its_file_is_bound_anew() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let path = folder.path().join("a.sock");
    let passed = UnixListener::bind(&path).unwrap();
    // systemd removes the directory of a service at its end.
    std::fs::remove_file(&path).unwrap();
    let listeners = format!(
        "{{ name: web, address: 127.0.0.1:0 }}, {{ name: side, address: 'unix:{}' }}",
        path.display()
    );
    let gateway = Gateway::start_with_socket(passed.into(), &[], &file(&listeners, &origin));
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    gateway.signal("TERM");
    assert!(gateway.exit_within(Duration::from_secs(20)).success());
    assert!(!path.exists(), "the gateway owns the new file");
}

#[test]
fn a_passed_socket_gives_way_to_a_listener_that_contains_its_address() {
    let (origin, free) = (Origin::named("a"), TcpListener::bind("0.0.0.0:0").unwrap());
    let port = free.local_addr().unwrap().port();
    drop(free);
    let narrow = SocketAddr::from(([127, 0, 0, 1], port));
    let passed = TcpListener::bind(narrow).unwrap();
    let wide = SocketAddr::from(([0, 0, 0, 0], port));
    let gateway = Gateway::start_with_socket(passed.into(), &[], &file(&listener(wide), &origin));
    gateway.log().wait(0, &["passed socket closed"]);
    assert_eq!(get(narrow, "/").status, 200);
}

#[test]
fn a_passed_socket_without_a_listener_is_closed_and_named() {
    let (origin, passed) = (Origin::named("a"), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = passed.local_addr().unwrap();
    let web = "{ name: web, address: 127.0.0.1:0 }";
    let gateway = Gateway::start_with_socket(passed.into(), &[], &file(web, &origin));
    let line = gateway.log().wait(0, &["passed socket closed"]);
    assert!(line.contains(&address.to_string()), "{line}");
    eventually("it is closed", || TcpStream::connect(address).is_err().then_some(()));
}

#[test]
fn stored_sockets_keep_connects_during_a_restart_and_after_a_crash() {
    let (origin, manager) = (Origin::named("a"), ServiceManager::start());
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = file(&listener(address), &origin);
    let mut gateway = Gateway::start_whole_with_all(&manager.variables(), &yaml);
    for signal in ["KILL", "TERM"] {
        let kept = manager.stored_at(address);
        assert_eq!(get(address, "/").status, 200);
        gateway.signal(signal);
        gateway.exit_within(Duration::from_secs(20));
        let mut waiting = Wire::connect(address);
        waiting.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        gateway = Gateway::start_with_socket(kept, &manager.variables(), &yaml);
        assert_eq!(waiting.response().status, 200, "after {signal}");
    }
}

fn await_request(gateway: &Gateway) {
    eventually("a request is in flight", || (gateway.status()["requests"] == 1).then_some(()));
}

/// Orders an upgrade for the time of a restart; returns the new process, or standard error.
fn upgrade_for_restart(gateway: &Gateway) -> Result<u32, String> {
    let admin = gateway.admin().to_string();
    let output = moongate(&["upgrade", "--json", "--for-restart", "--admin", &admin]);
    if !output.status.success() {
        return Err(lossy(&output.stderr));
    }
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    Ok(u32::try_from(outcome["pid"].as_u64().unwrap()).unwrap())
}

/// The steps of `systemctl restart`: `ExecStop=`, SIGTERM to the main process, its end, and the start of the next one.
#[test]
fn another_process_serves_until_the_next_one_of_a_restart_does() {
    let (origin, manager) = (Origin::named("a"), ServiceManager::start());
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, admin) = (free(), free());
    let yaml = |listeners: &str| {
        let server = "server: { drain_delay: 60s, grace_period: 60s }\n";
        let file = file(listeners, &origin).replace("127.0.0.1:0", &admin.to_string());
        format!("{server}{file}")
    };
    let old = Gateway::start_whole_with_all(&manager.variables(), &yaml(&listener(address)));
    let mut websocket = Socket::open(address, "/ws");
    websocket.echo("before");
    // What the old process has to finish.
    let mut upload = Wire::connect(address);
    upload.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nhal");
    await_request(&old);
    // A listener that the running process does not have is the next one's.
    let new_address = free();
    let changed = yaml(&format!("{}, {{ name: side, address: '{new_address}' }}", listener(address)));
    std::fs::write(old.file(), &changed).unwrap();
    let between = upgrade_for_restart(&old).unwrap();
    old.signal("TERM");
    old.log().wait(0, &["new process serves"]);
    websocket.echo("in the new process");
    assert_eq!(get(address, "/").status, 200);
    let line = old.log().wait(0, &["listener left to the next process"]);
    assert!(line.contains(&new_address.to_string()), "{line}");
    assert!(TcpStream::connect(new_address).is_err());
    let refused = moongate(&["reload", "--admin", &admin.to_string()]);
    assert!(
        lossy(&refused.stderr).contains("serves only until the next process of the service does"),
        "{refused:?}"
    );
    assert!(old.ended().is_none(), "its request is not finished");
    upload.send("ves");
    assert_eq!(upload.response().status, 200);
    assert!(old.exit_within(Duration::from_secs(20)).success());
    old.succeeded_by(between);
    // There is no gap until the next process serves.
    old.log().wait(0, &["old process ended"]);
    assert_eq!(get(address, "/").status, 200);
    websocket.echo("after the old process");
    // The admin address is left to the next process, so that no command reaches the one that ends.
    let mut early = Wire::connect(admin);
    early.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    early.patience(Duration::from_millis(200));
    assert!(early.try_response("GET").is_err());
    let (kept, link) = (manager.stored_at(address), manager.link().expect("a link is stored"));
    // It gets no copy of the admin socket, so that it has another address.
    let yaml = file(&listener(address), &origin);
    let next = Gateway::start_with_link(kept, link, &manager.variables(), &yaml);
    assert_eq!(websocket.end(), Some(1012));
    eventually("the process between them ends", || old.has_process_ended(between).then_some(()));
    assert!(manager.link().is_none(), "it is removed");
    let mut websocket = Socket::open(address, "/ws");
    websocket.echo("in the next process");
    // It was never the main process of the service.
    assert_eq!(manager.messages_with("MAINPID"), 0);
    drop(next);
}

/// The next process cannot start, and the service manager gives up.
#[test]
fn the_process_of_a_restart_ends_when_the_service_manager_stores_nothing_any_more() {
    let (origin, manager) = (Origin::named("a"), ServiceManager::start());
    let web = "{ name: web, address: 127.0.0.1:0 }";
    let old = Gateway::start_whole_with_all(&manager.variables(), &file(web, &origin));
    let address = old.web();
    let mut websocket = Socket::open(address, "/ws");
    websocket.echo("before");
    let between = upgrade_for_restart(&old).unwrap();
    assert!(old.exit_within(Duration::from_secs(20)).success());
    old.succeeded_by(between);
    assert_eq!(get(address, "/").status, 200);
    manager.release();
    assert_eq!(websocket.end(), Some(1012));
    eventually("it ends", || old.has_process_ended(between).then_some(()));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_next_process_can_bind_while_the_old_one_drains() {
    let origin = Origin::named("a");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = "server: { drain_delay: 0s, grace_period: 60s }\n";
    let yaml = format!("{server}{}", file(&listener(address), &origin));
    let old = Gateway::start_whole_with_all(&[], &yaml);
    let mut upload = Wire::connect(address);
    upload.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nhal");
    await_request(&old);
    old.signal("TERM");
    eventually("it listens no more", || TcpStream::connect(address).is_err().then_some(()));
    let next = Gateway::start_whole_with_all(&[], &yaml);
    assert_eq!(next.get("/").status, 200);
    assert!(old.ended().is_none(), "its request is not finished");
    upload.send("ves");
    assert_eq!(upload.response().status, 200);
    assert!(old.exit_within(Duration::from_secs(20)).success());
}

#[test]
fn a_process_for_the_time_of_a_restart_needs_a_service_manager_and_is_not_upgraded() {
    let origin = Origin::named("a");
    let alone = Gateway::start(&format!("routes: [{{ upstream: [{origin}] }}]\n"));
    let report = upgrade_for_restart(&alone).unwrap_err();
    assert!(report.contains("no service manager that keeps the listening sockets"), "{report}");
    assert_eq!(alone.get("/").status, 200);

    let manager = ServiceManager::start();
    let web = "{ name: web, address: 127.0.0.1:0 }";
    let old = Gateway::start_whole_with_all(&manager.variables(), &file(web, &origin));
    let mut upload = Wire::connect(old.web());
    upload.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nhal");
    await_request(&old);
    let between = upgrade_for_restart(&old).unwrap();
    let report = upgrade_for_restart(&old).unwrap_err();
    assert!(report.contains("serves only until the next process of the service does"), "{report}");
    // The old process ends although no signal came.
    upload.send("ves");
    assert_eq!(upload.response().status, 200);
    assert!(old.exit_within(Duration::from_secs(20)).success());
    manager.release();
    eventually("the new process ends", || old.has_process_ended(between).then_some(()));
}

#[test]
fn a_reload_stores_the_changed_sockets() {
    let (origin, manager) = (Origin::named("a"), ServiceManager::start());
    let web = "{ name: web, address: 127.0.0.1:0 }";
    let gateway = Gateway::start_whole_with_all(&manager.variables(), &file(web, &origin));
    manager.stored_at(gateway.web());
    let side = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    gateway.reload_whole(&file(&format!("{web}, {{ name: side, address: '{side}' }}"), &origin)).unwrap();
    manager.stored_at(side);
    assert_ne!(manager.messages_with("FDSTOREREMOVE=1"), 0);
}
