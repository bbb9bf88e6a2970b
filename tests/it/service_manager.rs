//! Sockets from a service manager: socket activation, and the store of descriptors that survives a crash. The test is
//! the service manager.

use crate::support::raw::{get, lossy};
use crate::support::{Gateway, Origin, Socket, Wire, eventually, moongate};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::IoSliceMut;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
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

/// The descriptors that the process stores, with the messages in between.
fn receive(store: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let (mut bytes, mut space) =
        ([0; 4096], [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))]);
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(store, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = descriptors.flatten().collect();
    (String::from_utf8_lossy(&bytes[..received.bytes]).into_owned(), descriptors)
}

fn receive_stored(store: &UnixDatagram) -> Vec<OwnedFd> {
    loop {
        let (text, descriptors) = receive(store);
        if text.contains("FDSTORE=1") {
            return descriptors;
        }
    }
}

/// The sockets among the descriptors at this address.
fn at(descriptors: Vec<OwnedFd>, address: SocketAddr) -> Vec<TcpListener> {
    let listeners = descriptors.into_iter().map(TcpListener::from);
    listeners.filter(|listener| listener.local_addr().is_ok_and(|local| local == address)).collect()
}

fn manager(folder: &Path) -> (UnixDatagram, String) {
    let path = folder.join("notify.sock");
    let store = UnixDatagram::bind(&path).unwrap();
    store.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    (store, path.display().to_string())
}

#[test]
fn stored_sockets_keep_connects_during_a_restart_and_after_a_crash() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let (store, path) = manager(folder.path());
    let variables = [("NOTIFY_SOCKET", path.as_str()), ("FDSTORE", "64")];
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut gateway = Gateway::start_whole_with_all(&variables, &file(&listener(address), &origin));
    for signal in ["KILL", "TERM"] {
        let kept = at(receive_stored(&store), address).pop().expect("the listener's socket is stored");
        assert_eq!(get(address, "/").status, 200);
        gateway.signal(signal);
        gateway.exit_within(Duration::from_secs(20));
        let mut waiting = Wire::connect(address);
        waiting.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        gateway = Gateway::start_with_socket(kept.into(), &variables, &file(&listener(address), &origin));
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
fn another_process_serves_while_a_restart_drains_the_old_one() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let (store, path) = manager(folder.path());
    let variables = [("NOTIFY_SOCKET", path.as_str()), ("FDSTORE", "64")];
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml =
        format!("server: {{ drain_delay: 0s, grace_period: 60s }}\n{}", file(&listener(address), &origin));
    let old = Gateway::start_whole_with_all(&variables, &yaml);
    let kept = at(receive_stored(&store), address).pop().expect("the listener's socket is stored");
    let mut websocket = Socket::open(address, "/ws");
    websocket.echo("before");
    // What the old process has to finish.
    let mut upload = Wire::connect(address);
    upload.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nhal");
    await_request(&old);
    let between = upgrade_for_restart(&old).unwrap();
    old.signal("TERM");
    old.log().wait(0, &["new process serves"]);
    websocket.echo("in the new process");
    assert_eq!(get(address, "/").status, 200);
    assert!(old.ended().is_none(), "its request is not finished");
    upload.send("ves");
    assert_eq!(upload.response().status, 200);
    assert!(old.exit_within(Duration::from_secs(20)).success());
    old.succeeded_by(between);
    // A client that comes before the next process serves waits at most for its start.
    let mut early = Wire::connect(address);
    early.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let next = Gateway::start_with_socket(kept.into(), &variables, &yaml);
    assert_eq!(early.response().status, 200);
    assert_eq!(websocket.end(), Some(1012));
    eventually("the process between them ends", || old.has_process_ended(between).then_some(()));
    let mut websocket = Socket::open(address, "/ws");
    websocket.echo("in the next process");
    // It was never the main process of the service.
    store.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    while let Ok(length) = store.recv(&mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..length]);
        assert!(!text.contains("MAINPID"), "{text}");
    }
    drop(next);
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

    let folder = tempfile::tempdir().unwrap();
    let (_store, path) = manager(folder.path());
    let variables = [("NOTIFY_SOCKET", path.as_str()), ("FDSTORE", "64")];
    let web = "{ name: web, address: 127.0.0.1:0 }";
    let old = Gateway::start_whole_with_all(&variables, &file(web, &origin));
    let mut upload = Wire::connect(old.web());
    upload.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nhal");
    await_request(&old);
    let between = upgrade_for_restart(&old).unwrap();
    let report = upgrade_for_restart(&old).unwrap_err();
    assert!(report.contains("serves only while the service restarts"), "{report}");
    // The old process ends although no signal came.
    upload.send("ves");
    assert_eq!(upload.response().status, 200);
    assert!(old.exit_within(Duration::from_secs(20)).success());
    eventually("the new process ends", || old.has_process_ended(between).then_some(()));
}

#[test]
fn a_reload_stores_the_changed_sockets() {
    let (origin, folder) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let (store, path) = manager(folder.path());
    let variables = [("NOTIFY_SOCKET", path.as_str()), ("FDSTORE", "64")];
    let web = "{ name: web, address: 127.0.0.1:0 }";
    let gateway = Gateway::start_whole_with_all(&variables, &file(web, &origin));
    receive_stored(&store);
    let side = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    gateway.reload_whole(&file(&format!("{web}, {{ name: side, address: '{side}' }}"), &origin)).unwrap();
    let removed = loop {
        let (text, _) = receive(&store);
        if text.contains("FDSTOREREMOVE=1") {
            break text;
        }
    };
    assert!(removed.contains("FDNAME=moongate"), "{removed}");
    assert_eq!(at(receive_stored(&store), side).len(), 1);
}
