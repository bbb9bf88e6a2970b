//! Sockets from a service manager: socket activation, and the store of descriptors that survives a crash. The test is
//! the service manager.

use crate::support::raw::get;
use crate::support::{Gateway, Origin, Wire, eventually};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::IoSliceMut;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::time::Duration;

fn file(listeners: &str, origin: &Origin) -> String {
    format!(
        "admin: {{ address: 127.0.0.1:0 }}\nlisteners: [{listeners}]\nroutes: [{{ upstream: [{origin}] }}]\n"
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
