//! Short WebSockets: connect, handshake, one echo, closing handshake, end of the connection, then a new one. The
//! server ends the TCP connection, as RFC 6455 §7.1.1 demands.

use crate::conn::{Conn, ReadOutcome};
use crate::frames::{self, CLOSE, TEXT};
use crate::http;
use crate::load::websockets::MessageReceiver;
use crate::load::{Client, Progress};
use crate::transport::Transport;
use std::io;

/// The message of a WebSocket, in bytes.
const MESSAGE: usize = 128;

/// A client of short WebSockets.
pub(crate) struct ShortWebSocket {
    transport: Transport,
    handshake: Vec<u8>,
    message: Vec<u8>,
    close_frame: Vec<u8>,
    conn: Conn,
    state: State,
}

enum State {
    /// The request is sent; the bytes are the beginning of the response.
    Handshake(Vec<u8>),
    /// The message is sent.
    Echo(MessageReceiver),
    /// The Close frame is sent; the end of the connection ends the cycle.
    Closing(MessageReceiver),
}

impl ShortWebSocket {
    /// Connects for the first time.
    pub(crate) fn open(transport: &Transport, number: usize) -> io::Result<Self> {
        let (mut message, mut close_frame) = (Vec::new(), Vec::new());
        frames::put_masked(&mut message, TEXT, &[b'v'; MESSAGE]);
        frames::put_masked(&mut close_frame, CLOSE, &1000u16.to_be_bytes());
        let handshake = http::handshake(number % http::ROUTES);
        let conn = Conn::connect(transport)?;
        Ok(Self {
            transport: transport.clone(),
            handshake,
            message,
            close_frame,
            conn,
            state: State::Handshake(Vec::new()),
        })
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match &mut self.state {
            State::Handshake(head) => {
                head.extend_from_slice(bytes);
                if let Some(end) = http::handshake_response_length(head)? {
                    let mut receiver = MessageReceiver::default();
                    receiver.receive(&mut head[end..], &mut self.conn)?;
                    self.conn.send(&self.message)?;
                    self.state = State::Echo(receiver);
                }
            }
            State::Echo(receiver) => {
                receiver.receive(bytes, &mut self.conn)?;
                if (receiver.messages, receiver.payload) == (1, MESSAGE as u64) {
                    self.conn.send(&self.close_frame)?;
                    self.state = State::Closing(std::mem::take(receiver));
                }
            }
            State::Closing(receiver) => receiver.receive(bytes, &mut self.conn)?,
        }
        Ok(())
    }

    fn reconnect(&mut self) -> io::Result<Progress> {
        if !matches!(&self.state, State::Closing(receiver) if receiver.closed) {
            return Err(io::Error::other("the gateway closed a WebSocket without a Close frame"));
        }
        self.conn = Conn::connect(&self.transport)?;
        self.state = State::Handshake(Vec::new());
        self.start()?;
        Ok(Progress { completed: 1, reconnected: true })
    }
}

impl Client for ShortWebSocket {
    fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    fn start(&mut self) -> io::Result<()> {
        self.conn.send(&self.handshake)
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        loop {
            match self.conn.read(scratch)? {
                ReadOutcome::Data(length) => self.receive(&mut scratch[..length])?,
                ReadOutcome::Drained(length) => {
                    self.receive(&mut scratch[..length])?;
                    return Ok(Progress::default());
                }
                ReadOutcome::Eof => return self.reconnect(),
            }
        }
    }
}
