//! The backend behind every gateway: two bytes for a GET, an echo for a WebSocket. One thread, one epoll
//! set, one read and one write an exchange, so that it is never the slow part. It holds no timeouts and
//! answers nothing but what the load sends.

use crate::conn::{Conn, Got, Ready, SCRATCH, Watch};
use crate::frames::{self, CLOSE, Frames, PING, PONG, Seen};
use crate::http;
use std::collections::HashMap;
use std::io::{self, Read};
use std::net::TcpListener;

const LISTENER: u64 = u64::MAX;
const PARENT: u64 = u64::MAX - 1;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// Serves until standard input ends: a parent that dies takes its backend along.
pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut watch = Watch::new()?;
    watch.add_source(listener, LISTENER)?;
    // Not every standard input can be watched (/dev/null cannot); such a backend ends by a signal.
    let _ = watch.add_source(&io::stdin(), PARENT);
    let mut room = Room { connections: HashMap::new(), next: 0, scratch: vec![0; SCRATCH], out: Vec::new() };
    loop {
        for at in 0..watch.wait(None)? {
            let ready = watch.ready(at);
            match ready.number {
                LISTENER => room.accept(listener, &watch)?,
                PARENT => {
                    if matches!(io::stdin().read(&mut [0; 64]), Ok(0) | Err(_)) {
                        return Ok(());
                    }
                }
                _ => room.attend(ready),
            }
        }
    }
}

/// All connections, and the buffers they share.
struct Room {
    connections: HashMap<u64, Connection>,
    next: u64,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

impl Room {
    fn accept(&mut self, listener: &TcpListener, watch: &Watch) -> io::Result<()> {
        loop {
            let line = match listener.accept() {
                Ok((stream, _)) => Conn::from(stream)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            line.unblock()?;
            watch.add(line.watched(), self.next)?;
            let connection = Connection { line, head: Vec::new(), speaks: Speaks::Http };
            self.connections.insert(self.next, connection);
            self.next += 1;
        }
    }

    /// A connection that fails or ends is dropped, and with it closed.
    fn attend(&mut self, ready: Ready) {
        let Some(connection) = self.connections.get_mut(&ready.number) else { return };
        connection.line.note(ready);
        if !matches!(connection.attend(&mut self.scratch, &mut self.out), Ok(After::Keep)) {
            self.connections.remove(&ready.number);
        }
    }
}

struct Connection {
    line: Conn,
    /// Bytes of a head that is not complete yet.
    head: Vec<u8>,
    speaks: Speaks,
}

enum Speaks {
    Http,
    Frames(Frames),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Keep,
    Close,
}

impl Connection {
    /// Answers everything that has arrived. What the peer does not take stops the reading.
    fn attend(&mut self, scratch: &mut [u8], out: &mut Vec<u8>) -> io::Result<After> {
        while self.line.flush()? {
            let (length, last) = match self.line.read(scratch)? {
                Got::Some(length) => (length, false),
                Got::Last(length) => (length, true),
                Got::End => return Ok(After::Close),
            };
            out.clear();
            let after = self.answer(&mut scratch[..length], out)?;
            if !out.is_empty() {
                self.line.send(out)?;
            }
            if last || after == After::Close {
                return Ok(after);
            }
        }
        Ok(After::Keep)
    }

    fn answer(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> io::Result<After> {
        match &mut self.speaks {
            Speaks::Frames(frames) => Ok(echo(frames, bytes, out)),
            Speaks::Http => self.answer_heads(bytes, out),
        }
    }

    fn answer_heads(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<After> {
        self.head.extend_from_slice(bytes);
        while let Some(end) = http::head_end(&self.head)? {
            if let Some(key) = http::field(&self.head[..end], "sec-websocket-key") {
                out.extend_from_slice(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
                );
                out.extend_from_slice(b"Sec-WebSocket-Accept: ");
                out.extend_from_slice(http::accept(key).as_bytes());
                out.extend_from_slice(b"\r\n\r\n");
                let mut early = self.head.split_off(end);
                self.head = Vec::new();
                let mut frames = Frames::default();
                let after = echo(&mut frames, &mut early, out);
                self.speaks = Speaks::Frames(frames);
                return Ok(after);
            }
            out.extend_from_slice(ANSWER);
            self.head.drain(..end);
        }
        Ok(After::Keep)
    }
}

/// Every frame comes back as it was, without its mask; a ping as a pong; behind a Close nothing follows.
fn echo(frames: &mut Frames, bytes: &mut [u8], out: &mut Vec<u8>) -> After {
    let mut after = After::Keep;
    frames.feed(bytes, |seen| match seen {
        Seen::FrameHeader(head) if head.opcode == PING => frames::put_head(out, PONG, head.length),
        Seen::FrameHeader(head) => frames::put_head(out, head.opcode, head.length),
        Seen::Payload(piece) => out.extend_from_slice(piece),
        Seen::End(head) if head.opcode == CLOSE => after = After::Close,
        Seen::End(_) => {}
    });
    after
}
