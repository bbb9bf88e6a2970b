//! WebSockets that stay: a batch of messages goes out in one write, and the next one when the last echo
//! is back. A batch of one is the plain echo.

use crate::conn::{Conn, Got, SCRATCH};
use crate::frames::{self, BINARY, CLOSE, Frames, PING, PONG, Seen};
use crate::http;
use crate::load::{Advance, Client};
use crate::transport::Road;
use std::io;
use std::rc::Rc;

/// What goes out in one write.
#[derive(Clone)]
pub(crate) struct Batch {
    wire: Rc<[u8]>,
    messages: u64,
    payload: u64,
    again: Again,
}

/// Whether a batch follows a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// As soon as it has come back.
    Always,
    /// One, then silence.
    Never,
}

impl Batch {
    /// So many messages of so many bytes.
    pub(crate) fn of(messages: usize, size: usize, again: Again) -> Self {
        let payload: Vec<u8> = (0..size).map(|at| b'a' + (at % 26) as u8).collect();
        let mut wire = Vec::new();
        for _ in 0..messages {
            frames::put_masked(&mut wire, BINARY, &payload);
        }
        Self { wire: wire.into(), messages: messages as u64, payload: (messages * size) as u64, again }
    }
}

/// What arrives on a WebSocket, counted; pings are answered.
#[derive(Default)]
pub(crate) struct Inbox {
    frames: Frames,
    /// Messages that are complete.
    pub(crate) messages: u64,
    /// Bytes of all messages.
    pub(crate) payload: u64,
    /// A Close is complete.
    pub(crate) closed: bool,
    opcode: u8,
    ping: Vec<u8>,
    pongs: Vec<u8>,
}

impl Inbox {
    /// Reads on, and answers pings on `line`.
    pub(crate) fn take(&mut self, bytes: &mut [u8], line: &mut Conn) -> io::Result<()> {
        let Self { frames, messages, payload, closed, opcode, ping, pongs } = self;
        frames.feed(bytes, |seen| match seen {
            Seen::FrameHeader(head) => {
                *opcode = head.opcode;
                ping.clear();
            }
            Seen::Payload(piece) if *opcode == PING => ping.extend_from_slice(piece),
            Seen::Payload(piece) if *opcode < CLOSE => *payload += piece.len() as u64,
            Seen::Payload(_) => {}
            Seen::End(head) => match head.opcode {
                PING => frames::put_masked(pongs, PONG, ping),
                CLOSE => *closed = true,
                PONG => {}
                _ => *messages += 1,
            },
        });
        if !self.pongs.is_empty() {
            line.send(&self.pongs)?;
            self.pongs.clear();
        }
        Ok(())
    }
}

/// An open WebSocket.
pub(crate) struct Talker {
    line: Conn,
    inbox: Inbox,
    batch: Batch,
}

impl Talker {
    /// Connects and shakes hands behind the `route`th route.
    pub(crate) fn open(road: &Road, batch: &Batch, route: usize) -> io::Result<Self> {
        let (line, inbox) = shake_hands(road, route)?;
        Ok(Self { line, inbox, batch: batch.clone() })
    }
}

/// An open WebSocket behind the `route`th route, still blocking.
pub(crate) fn shake_hands(road: &Road, route: usize) -> io::Result<(Conn, Inbox)> {
    let mut line = Conn::connect(road)?;
    line.send(&http::handshake(route))?;
    let (mut head, mut scratch, mut inbox) = (Vec::new(), vec![0; SCRATCH / 16], Inbox::default());
    loop {
        let length = match line.read(&mut scratch)? {
            Got::Last(0) => return Err(io::ErrorKind::TimedOut.into()),
            Got::Some(length) | Got::Last(length) => length,
            Got::End => return Err(io::Error::other("the gateway closed during the handshake")),
        };
        head.extend_from_slice(&scratch[..length]);
        if let Some(end) = http::switched(&head)? {
            inbox.take(&mut head[end..], &mut line)?;
            return Ok((line, inbox));
        }
    }
}

impl Client for Talker {
    fn line(&mut self) -> &mut Conn {
        &mut self.line
    }

    fn start(&mut self) -> io::Result<()> {
        self.line.send(&self.batch.wire)
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Advance> {
        let mut advance = Advance::default();
        loop {
            let (length, last) = match self.line.read(scratch)? {
                Got::Some(length) => (length, false),
                Got::Last(length) => (length, true),
                Got::End => return Err(io::Error::other("the gateway closed a WebSocket")),
            };
            self.inbox.take(&mut scratch[..length], &mut self.line)?;
            if self.inbox.closed {
                return Err(io::Error::other("the gateway sent a Close"));
            }
            if self.inbox.messages >= self.batch.messages {
                if (self.inbox.messages, self.inbox.payload) != (self.batch.messages, self.batch.payload) {
                    return Err(io::Error::other("more or less came back than was sent"));
                }
                advance.done += self.inbox.messages;
                (self.inbox.messages, self.inbox.payload) = (0, 0);
                if self.batch.again == Again::Always {
                    self.line.send(&self.batch.wire)?;
                }
            }
            if last {
                return Ok(advance);
            }
        }
    }
}
