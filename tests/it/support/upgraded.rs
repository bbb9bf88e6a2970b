//! Connections that are upgraded to another protocol than WebSocket: backends that agree, and clients with or without TLS.

use super::certs::Secure;
use super::origin::answer;
use super::{Next, Origin, Response, Seen, Wire};

/// A request to upgrade to these protocols.
pub(crate) fn request(path: &str, protocols: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: {protocols}\r\n\r\n")
}

/// The response of the Docker daemon, with another protocol.
pub(crate) fn switching(protocol: &str) -> String {
    format!(
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    )
}

/// A backend that switches to the first offered protocol and echoes bytes. After the end of the client's direction it sends
/// `end` and closes. Other requests get 200.
pub(crate) fn echoing(name: &str) -> Origin {
    Origin::scripted(name, |seen, wire| if agree(seen, wire) { echo(wire) } else { Next::Keep })
}

/// Sends the 101 for the first offered protocol, or a 200 to a request without one.
pub(crate) fn agree(seen: &Seen, wire: &mut Wire) -> bool {
    let first = seen.field("upgrade").and_then(|offered| offered.split(',').next());
    match first {
        Some(protocol) => wire.try_send(switching(protocol.trim())).unwrap(),
        None => wire.try_send(answer(200, "", b"plain")).unwrap(),
    }
    first.is_some()
}

/// Echoes to the end of the client's direction.
pub(crate) fn echo(wire: &mut Wire) -> Next {
    loop {
        let bytes = wire.exactly(wire.buffered().len()).unwrap();
        if wire.try_send(bytes).is_err() || !wire.fill().is_ok_and(|count| count > 0) {
            break;
        }
    }
    // The client may be gone.
    let _ = wire.try_send("end");
    Next::Close
}

/// A client's connection.
pub(crate) enum Client {
    Plain(Wire),
    Secure(Box<Secure>),
}

impl Client {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        match self {
            Self::Plain(wire) => wire.send(bytes),
            Self::Secure(secure) => secure.send(bytes.as_ref()).unwrap(),
        }
    }

    pub(crate) fn response(&mut self) -> Response {
        match self {
            Self::Plain(wire) => wire.response(),
            Self::Secure(secure) => secure.response().unwrap(),
        }
    }

    pub(crate) fn exactly(&mut self, length: usize) -> Vec<u8> {
        match self {
            Self::Plain(wire) => wire.exactly(length).unwrap(),
            Self::Secure(secure) => secure.exactly(length).unwrap(),
        }
    }

    /// Ends the sending direction.
    pub(crate) fn end_sending(&mut self) {
        match self {
            Self::Plain(wire) => wire.half_close(),
            Self::Secure(secure) => {
                secure.notify_close();
                secure.stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
        }
    }

    /// Everything up to the orderly end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        match self {
            Self::Plain(wire) => wire.rest(),
            Self::Secure(secure) => secure.rest().unwrap(),
        }
    }

    /// Bytes come back.
    #[track_caller]
    pub(crate) fn echoes(&mut self, bytes: &[u8]) {
        self.send(bytes);
        assert!(self.exactly(bytes.len()) == bytes, "other bytes");
    }
}
