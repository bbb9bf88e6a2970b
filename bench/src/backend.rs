//! The backend of all gateways: small responses, bodies of any size, event streams and WebSocket echoes. One thread,
//! one epoll set, one read and one write per small response, so that the backend is not the bottleneck. It has no
//! timeouts and understands only the requests of the load.

use crate::conn::{Conn, EpollSet, READ_SIZE, ReadOutcome, ReadyEvent};
use crate::frames::{self, CLOSE, FrameEvent, FrameParser, PING, PONG};
use crate::http::{self, Request};
use std::collections::HashMap;
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::fd::AsFd;

/// The token of the first listener. Those of connections are smaller.
const FIRST_LISTENER: u64 = 1 << 62;
const PARENT: u64 = u64::MAX;
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// X-Accel-Buffering is what applications behind nginx send with an event stream.
const EVENT_STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
      X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Serves until `parent` ends. That is standard input, so that a backend ends with its parent process.
pub(crate) fn serve(listeners: &[TcpListener], mut parent: impl AsFd + Read) -> io::Result<()> {
    let mut epoll = EpollSet::new()?;
    for (number, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        epoll.add_source(listener, FIRST_LISTENER + number as u64)?;
    }
    // epoll cannot watch every standard input (/dev/null); such a backend ends by a signal.
    let _ = epoll.add_source(&parent, PARENT);
    let mut backend = BackendLoop {
        connections: HashMap::new(),
        next_token: 0,
        event: http::event_chunk(),
        scratch: vec![0; READ_SIZE],
        out: Vec::new(),
    };
    loop {
        for at in 0..epoll.wait(None)? {
            let event = epoll.event(at);
            match event.token {
                listener @ FIRST_LISTENER..PARENT => {
                    backend.accept(&listeners[(listener - FIRST_LISTENER) as usize], &epoll)?;
                }
                PARENT => {
                    if matches!(parent.read(&mut [0; 64]), Ok(0) | Err(_)) {
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
    /// The event that a publish request sends to all event streams.
    event: Vec<u8>,
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
            let connection = Connection { conn, head: Vec::new(), state: State::Head };
            self.connections.insert(self.next_token, connection);
            self.next_token += 1;
        }
    }

    /// A connection that fails or ends is dropped, which closes it.
    fn handle_event(&mut self, event: ReadyEvent) {
        let Some(connection) = self.connections.get_mut(&event.token) else { return };
        connection.conn.record_event(event);
        match connection.handle_event(&mut self.scratch, &mut self.out) {
            Ok(NextAction::KeepOpen) => {}
            Ok(NextAction::Publish) => self.publish(),
            Ok(NextAction::Close) | Err(_) => drop(self.connections.remove(&event.token)),
        }
    }

    fn publish(&mut self) {
        self.connections.retain(|_, connection| {
            !matches!(connection.state, State::EventStream) || connection.conn.send(&self.event).is_ok()
        });
    }
}

struct Connection {
    conn: Conn,
    /// Bytes of an incomplete head.
    head: Vec<u8>,
    state: State,
}

enum State {
    /// The next bytes belong to the head of a request.
    Head,
    /// This many bytes of a request body have not arrived.
    Upload(u64),
    /// This many bytes of a response body are not sent.
    Download(u64),
    /// The response is an event stream, which does not end.
    EventStream,
    /// The connection is a WebSocket.
    WebSocket(FrameParser),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NextAction {
    KeepOpen,
    Close,
    /// Send an event to all event streams.
    Publish,
}

impl Connection {
    /// Responds to everything that has arrived. Reading stops while the peer does not take the responses.
    fn handle_event(&mut self, scratch: &mut [u8], out: &mut Vec<u8>) -> io::Result<NextAction> {
        let mut next_action = NextAction::KeepOpen;
        while self.conn.flush()? && self.send_body()? {
            let (length, last) = match self.conn.read(scratch)? {
                ReadOutcome::Data(length) => (length, false),
                ReadOutcome::Drained(length) => (length, true),
                ReadOutcome::Eof => return Ok(NextAction::Close),
            };
            out.clear();
            match self.respond(&mut scratch[..length], out)? {
                NextAction::KeepOpen => {}
                other => next_action = other,
            }
            if !out.is_empty() {
                self.conn.send(out)?;
            }
            let has_body = matches!(self.state, State::Download(_));
            if next_action == NextAction::Close || last && !has_body {
                break;
            }
        }
        Ok(next_action)
    }

    /// Sends as much of a response body as possible; true if nothing of it is left.
    fn send_body(&mut self) -> io::Result<bool> {
        let State::Download(left) = &mut self.state else { return Ok(true) };
        if !http::send_body(&mut self.conn, left)? {
            return Ok(false);
        }
        self.state = State::Head;
        Ok(true)
    }

    fn respond(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> io::Result<NextAction> {
        match &mut self.state {
            State::WebSocket(frames) => Ok(echo(frames, bytes, out)),
            State::Upload(left) => {
                *left = left.saturating_sub(bytes.len() as u64);
                if *left == 0 {
                    out.extend_from_slice(RESPONSE);
                    self.state = State::Head;
                }
                Ok(NextAction::KeepOpen)
            }
            State::Head | State::Download(_) | State::EventStream => {
                self.head.extend_from_slice(bytes);
                match http::head_end(&self.head)? {
                    Some(end) => self.respond_to_request(end, out),
                    None => Ok(NextAction::KeepOpen),
                }
            }
        }
    }

    /// Responds to the request whose head ends at `end`, then to the bytes after it.
    fn respond_to_request(&mut self, end: usize, out: &mut Vec<u8>) -> io::Result<NextAction> {
        let mut next_action = NextAction::KeepOpen;
        self.state = match http::parse_request(&self.head[..end])? {
            Request::Item => {
                out.extend_from_slice(RESPONSE);
                State::Head
            }
            Request::Publish => {
                out.extend_from_slice(RESPONSE);
                next_action = NextAction::Publish;
                State::Head
            }
            Request::Upload(length) => State::Upload(length),
            Request::Download(length) => {
                http::put_download_head(out, length);
                State::Download(length)
            }
            Request::EventStream => {
                out.extend_from_slice(EVENT_STREAM_HEAD);
                out.extend_from_slice(&http::event_chunk());
                State::EventStream
            }
            Request::WebSocket(key) => {
                http::put_handshake_response(out, key);
                State::WebSocket(FrameParser::default())
            }
        };
        let mut rest = self.head.split_off(end);
        self.head.clear();
        if rest.is_empty() {
            return Ok(next_action);
        }
        match self.respond(&mut rest, out)? {
            NextAction::KeepOpen => Ok(next_action),
            other => Ok(other),
        }
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
