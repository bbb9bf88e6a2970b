//! A new process that an older or a newer program has started: the test is the old process, and sends the state of a
//! WebSocket as that program writes it.

use crate::alone;
use crate::support::gateway::BINARY;
use crate::support::log::Log;
use crate::support::ws::{frame, masked, read_frame};
use crate::support::{LIMIT, Wire};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, sendmsg, socketpair,
};
use serde_json::{Value, json};
use socket2::SockRef;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A new process, and the channel to it.
struct NewProcess {
    channel: OwnedFd,
    child: Child,
    log: Arc<Log>,
    _folder: tempfile::TempDir,
}

impl NewProcess {
    /// Starts one that serves.
    fn start(yaml: &str) -> Self {
        let (channel, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        SockRef::from(&channel).set_read_timeout(Some(LIMIT)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("moongate.yaml");
        std::fs::write(&file, yaml).unwrap();
        let mut child = Command::new(BINARY)
            .args(["run", "-c"])
            .arg(&file)
            .env("MOONGATE_HANDOVER", "stdin")
            .env_remove("RUST_LOG")
            .stdin(Stdio::from(other))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        let new = Self { channel, child, log, _folder: folder };
        new.send(&json!({ "version": 1, "kind": "process" }), &[]);
        new.send(&json!({ "version": 1, "kind": "sockets" }), &[]);
        assert_eq!(new.receive()["kind"], "ready", "{}", new.log.text());
        new.send(&json!({ "version": 1, "kind": "serve" }), &[]);
        assert_eq!(new.receive()["kind"], "serving", "{}", new.log.text());
        new
    }

    fn send(&self, message: &Value, sockets: &[&TcpStream]) {
        let text = message.to_string();
        let descriptors: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let bytes = [IoSlice::new(text.as_bytes())];
        sendmsg(&self.channel, &bytes, &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    fn receive(&self) -> Value {
        let mut bytes = vec![0; 192 << 10];
        let (length, _) = recv(&self.channel, &mut bytes[..], RecvFlags::empty()).unwrap();
        serde_json::from_slice(&bytes[..length]).unwrap()
    }

    /// Moves a WebSocket with this state there: the reply, the client and the backend.
    fn take(&self, state: &Value) -> (Value, Wire, Wire) {
        let ([client, gateway_client], [backend, gateway_backend]) = (connection(), connection());
        self.send(
            &json!({ "version": 1, "kind": "websockets", "websockets": [state] }),
            &[&gateway_client, &gateway_backend],
        );
        (self.receive(), client_wire(client), client_wire(backend))
    }
}

impl Drop for NewProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both ends of a connection.
fn connection() -> [TcpStream; 2] {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    [near, listener.accept().unwrap().0]
}

fn client_wire(stream: TcpStream) -> Wire {
    let wire = Wire::of(stream);
    wire.patience(Duration::from_secs(20));
    wire
}

/// The endpoint is only a name: the connection to it exists already.
const ENDPOINT: &str = "127.0.0.1:9";

fn start() -> NewProcess {
    NewProcess::start(&format!(
        "admin: {{ address: 127.0.0.1:0 }}
listeners: [{{ name: web, address: 127.0.0.1:0 }}]
upstreams: {{ all: {{ endpoints: ['{ENDPOINT}'] }} }}
routes: [{{ name: ws, upstream: all }}]
"
    ))
}

#[test]
fn a_state_without_the_members_of_later_versions_is_continued() {
    let _alone = alone();
    let new = start();
    let origin = json!({ "upstream": "all", "endpoint": ENDPOINT });
    // The least that a program can know of a WebSocket; and one in the middle of a frame, with bytes that wait.
    let (reply, mut client, mut backend) =
        new.take(&json!({ "id": 7, "route": "ws", "origin": origin, "tunnel": {} }));
    assert_eq!((&reply["ids"], &reply["refused"]), (&json!([7]), &json!([])));
    client.send(masked(1, b"from the client"));
    assert_eq!(read_frame(&mut backend).unwrap(), (0x81, b"from the client".to_vec()));
    backend.send(frame(2, b"from the backend"));
    assert_eq!(read_frame(&mut client).unwrap(), (0x82, b"from the backend".to_vec()));

    let whole = frame(1, b"half");
    let (sent, rest) = whole.split_at(3);
    let tunnel = json!({ "directions": [{}, {
        "parser": { "left": 3, "current": 0x81, "message": 1, "message_bytes": 3, "message_frames": 1, "unknown": true },
        // The base64 of the bytes that the client has not taken.
        "backlog": base64(sent),
    }] });
    let state =
        json!({ "id": 8, "version": 1, "route": "ws", "origin": origin, "tunnel": tunnel, "later": 5 });
    let (reply, mut client, mut backend) = new.take(&state);
    assert_eq!((&reply["ids"], &reply["refused"]), (&json!([8]), &json!([])));
    backend.send(rest);
    assert_eq!(read_frame(&mut client).unwrap(), (0x81, b"half".to_vec()));
}

#[test]
fn a_state_of_a_newer_version_is_refused_with_its_reason_and_nothing_is_sent() {
    let _alone = alone();
    let new = start();
    let origin = json!({ "upstream": "all", "endpoint": ENDPOINT });
    let state = json!({ "id": 9, "version": 9000, "route": "ws", "origin": origin, "tunnel": {} });
    let (reply, mut client, mut backend) = new.take(&state);
    assert_eq!(reply["ids"], json!([]));
    let reason = reply["refused"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("its state has version 9000, and this binary knows "), "{reason}");
    assert_eq!(reply["refused"][0]["id"], 9);
    // The test was the last to have the sockets: they end without a byte.
    assert!(client.rest().is_empty() && backend.rest().is_empty());
    // One that cannot be read is refused, and those after it are not.
    let (reply, ..) = new.take(&json!({ "id": 10, "route": 5 }));
    assert_eq!((&reply["ids"], &reply["refused"][0]["id"]), (&json!([]), &json!(10)));
    let (reply, ..) = new.take(&json!({ "id": 11, "route": "ws", "origin": origin, "tunnel": {} }));
    assert_eq!(reply["ids"], json!([11]));
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
