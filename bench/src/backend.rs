//! The backend of all gateways: two bytes for a GET, an echo for a WebSocket. One thread, one epoll set, one read
//! and one write per response, so that the backend is not the bottleneck. It has no timeouts and understands only
//! the requests of the load.

use crate::conn::{Conn, EpollSet, READ_SIZE, ReadOutcome, ReadyEvent};
use crate::frames::{self, CLOSE, FrameEvent, FrameParser, PING, PONG};
use crate::http;
use std::collections::HashMap;
use std::io::{self, Read};
use std::net::TcpListener;

const LISTENER: u64 = u64::MAX;
const STDIN: u64 = u64::MAX - 1;
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// Serves until standard input ends: a backend ends with its parent process.
pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut epoll = EpollSet::new()?;
    epoll.add_source(listener, LISTENER)?;
    // epoll cannot watch every standard input (/dev/null); such a backend ends by a signal.
    let _ = epoll.add_source(&io::stdin(), STDIN);
    let mut backend = BackendLoop {
        connections: HashMap::new(),
        next_token: 0,
        scratch: vec![0; READ_SIZE],
        out: Vec::new(),
    };
    loop {
        for at in 0..epoll.wait(None)? {
            let event = epoll.event(at);
            match event.token {
                LISTENER => backend.accept(listener, &epoll)?,
                STDIN => {
                    if matches!(io::stdin().read(&mut [0; 64]), Ok(0) | Err(_)) {
                        return Ok(());
                    }
                }
                _ => backend.handle_event(event),
            }
        }
    }
}

/// All connections and their shared buffers.
struct BackendLoop {
    connections: HashMap<u64, Connection>,
    next_token: u64,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

impl BackendLoop {
    fn accept(&mut self, listener: &TcpListener, epoll: &EpollSet) -> io::Result<()> {
        loop {
            let conn = match listener.accept() {
                Ok((stream, _)) => Conn::from(stream)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            conn.set_nonblocking()?;
            epoll.add(conn.socket(), self.next_token)?;
            let connection = Connection { conn, head: Vec::new(), protocol: Protocol::Http };
            self.connections.insert(self.next_token, connection);
            self.next_token += 1;
        }
    }

    /// A connection that fails or ends is dropped, which closes it.
    fn handle_event(&mut self, event: ReadyEvent) {
        let Some(connection) = self.connections.get_mut(&event.token) else { return };
        connection.conn.record_event(event);
        if !matches!(connection.handle_event(&mut self.scratch, &mut self.out), Ok(NextAction::KeepOpen)) {
            self.connections.remove(&event.token);
        }
    }
}

struct Connection {
    conn: Conn,
    /// Bytes of an incomplete head.
    head: Vec<u8>,
    protocol: Protocol,
}

enum Protocol {
    Http,
    WebSocket(FrameParser),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NextAction {
    KeepOpen,
    Close,
}

impl Connection {
    /// Responds to everything that has arrived. Reading stops while the peer does not take the responses.
    fn handle_event(&mut self, scratch: &mut [u8], out: &mut Vec<u8>) -> io::Result<NextAction> {
        while self.conn.flush()? {
            let (length, last) = match self.conn.read(scratch)? {
                ReadOutcome::Data(length) => (length, false),
                ReadOutcome::Drained(length) => (length, true),
                ReadOutcome::Eof => return Ok(NextAction::Close),
            };
            out.clear();
            let next_action = self.respond(&mut scratch[..length], out)?;
            if !out.is_empty() {
                self.conn.send(out)?;
            }
            if last || next_action == NextAction::Close {
                return Ok(next_action);
            }
        }
        Ok(NextAction::KeepOpen)
    }

    fn respond(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> io::Result<NextAction> {
        match &mut self.protocol {
            Protocol::WebSocket(frames) => Ok(echo(frames, bytes, out)),
            Protocol::Http => self.respond_to_requests(bytes, out),
        }
    }

    fn respond_to_requests(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<NextAction> {
        self.head.extend_from_slice(bytes);
        while let Some(end) = http::head_end(&self.head)? {
            if let Some(key) = http::field(&self.head[..end], "sec-websocket-key") {
                out.extend_from_slice(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
                );
                out.extend_from_slice(b"Sec-WebSocket-Accept: ");
                out.extend_from_slice(http::accept(key).as_bytes());
                out.extend_from_slice(b"\r\n\r\n");
                let mut first_frames = self.head.split_off(end);
                self.head = Vec::new();
                let mut frames = FrameParser::default();
                let next_action = echo(&mut frames, &mut first_frames, out);
                self.protocol = Protocol::WebSocket(frames);
                return Ok(next_action);
            }
            out.extend_from_slice(RESPONSE);
            self.head.drain(..end);
        }
        Ok(NextAction::KeepOpen)
    }
}

/// Every frame comes back unchanged and unmasked, a ping as a pong. Nothing follows a Close.
fn echo(frames: &mut FrameParser, bytes: &mut [u8], out: &mut Vec<u8>) -> NextAction {
    let mut next_action = NextAction::KeepOpen;
    frames.feed(bytes, |event| match event {
        FrameEvent::Header(head) if head.opcode == PING => frames::put_header(out, PONG, head.length),
        FrameEvent::Header(head) => frames::put_header(out, head.opcode, head.length),
        FrameEvent::Payload(piece) => out.extend_from_slice(piece),
        FrameEvent::End(head) if head.opcode == CLOSE => next_action = NextAction::Close,
        FrameEvent::End(_) => {}
    });
    next_action
}
