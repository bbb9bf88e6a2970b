//! Long-lived WebSockets: a batch of messages goes out in one write, the next one after the last echo. A batch of
//! one is the plain echo.

use crate::conn::{Conn, READ_SIZE, ReadOutcome};
use crate::frames::{self, BINARY, CLOSE, FrameEvent, FrameParser, PING, PONG};
use crate::http;
use crate::load::{Client, Progress};
use crate::transport::Transport;
use std::io;
use std::rc::Rc;

/// The messages of one write.
#[derive(Clone)]
pub(crate) struct Batch {
    wire: Rc<[u8]>,
    messages: u64,
    payload: u64,
    repeat: Repeat,
}

/// Whether another batch follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// After the last echo.
    Forever,
    /// One batch, then silence.
    Once,
}

impl Batch {
    /// A batch of `messages` messages of `size` bytes.
    pub(crate) fn new(messages: usize, size: usize, repeat: Repeat) -> Self {
        let payload: Vec<u8> = (0..size).map(|at| b'a' + (at % 26) as u8).collect();
        let mut wire = Vec::new();
        for _ in 0..messages {
            frames::put_masked(&mut wire, BINARY, &payload);
        }
        Self { wire: wire.into(), messages: messages as u64, payload: (messages * size) as u64, repeat }
    }
}

/// The receiving side of a WebSocket: counts messages and replies to pings.
#[derive(Default)]
pub(crate) struct MessageReceiver {
    frames: FrameParser,
    /// Complete messages.
    pub(crate) messages: u64,
    /// Bytes of all messages.
    pub(crate) payload: u64,
    /// Whether a Close frame is complete.
    pub(crate) closed: bool,
    opcode: u8,
    ping: Vec<u8>,
    pongs: Vec<u8>,
}

impl MessageReceiver {
    /// Parses further bytes, and replies to pings on `conn`.
    pub(crate) fn receive(&mut self, bytes: &mut [u8], conn: &mut Conn) -> io::Result<()> {
        let Self { frames, messages, payload, closed, opcode, ping, pongs } = self;
        frames.feed(bytes, |event| match event {
            FrameEvent::Header(head) => {
                *opcode = head.opcode;
                ping.clear();
            }
            FrameEvent::Payload(piece) if *opcode == PING => ping.extend_from_slice(piece),
            FrameEvent::Payload(piece) if *opcode < CLOSE => *payload += piece.len() as u64,
            FrameEvent::Payload(_) => {}
            FrameEvent::End(head) => match head.opcode {
                PING => frames::put_masked(pongs, PONG, ping),
                CLOSE => *closed = true,
                PONG => {}
                _ => *messages += 1,
            },
        });
        if !self.pongs.is_empty() {
            conn.send(&self.pongs)?;
            self.pongs.clear();
        }
        Ok(())
    }
}

/// An open WebSocket.
pub(crate) struct EchoClient {
    conn: Conn,
    receiver: MessageReceiver,
    batch: Batch,
}

impl EchoClient {
    /// Connects and completes the handshake on the `route`th route.
    pub(crate) fn open(transport: &Transport, batch: &Batch, route: usize) -> io::Result<Self> {
        let (conn, receiver) = handshake(transport, route)?;
        Ok(Self { conn, receiver, batch: batch.clone() })
    }
}

/// An open WebSocket on the `route`th route, still blocking.
pub(crate) fn handshake(transport: &Transport, route: usize) -> io::Result<(Conn, MessageReceiver)> {
    let mut conn = Conn::connect(transport)?;
    conn.send(&http::handshake(route))?;
    let (mut head, mut scratch, mut receiver) =
        (Vec::new(), vec![0; READ_SIZE / 16], MessageReceiver::default());
    loop {
        let length = match conn.read(&mut scratch)? {
            ReadOutcome::Drained(0) => return Err(io::ErrorKind::TimedOut.into()),
            ReadOutcome::Data(length) | ReadOutcome::Drained(length) => length,
            ReadOutcome::Eof => return Err(io::Error::other("the gateway closed during the handshake")),
        };
        head.extend_from_slice(&scratch[..length]);
        if let Some(end) = http::handshake_response_length(&head)? {
            receiver.receive(&mut head[end..], &mut conn)?;
            return Ok((conn, receiver));
        }
    }
}

impl Client for EchoClient {
    fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    fn start(&mut self) -> io::Result<()> {
        self.conn.send(&self.batch.wire)
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        let mut progress = Progress::default();
        loop {
            let (length, last) = match self.conn.read(scratch)? {
                ReadOutcome::Data(length) => (length, false),
                ReadOutcome::Drained(length) => (length, true),
                ReadOutcome::Eof => return Err(io::Error::other("the gateway closed a WebSocket")),
            };
            self.receiver.receive(&mut scratch[..length], &mut self.conn)?;
            if self.receiver.closed {
                return Err(io::Error::other("the gateway sent a Close frame"));
            }
            if self.receiver.messages >= self.batch.messages {
                if (self.receiver.messages, self.receiver.payload)
                    != (self.batch.messages, self.batch.payload)
                {
                    return Err(io::Error::other("the echo differs in length from the batch"));
                }
                progress.completed += self.receiver.messages;
                (self.receiver.messages, self.receiver.payload) = (0, 0);
                if self.batch.repeat == Repeat::Forever {
                    self.conn.send(&self.batch.wire)?;
                }
            }
            if last {
                return Ok(progress);
            }
        }
    }
}
