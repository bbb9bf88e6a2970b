//! Short visits: connect, shake hands, one echo, the closing handshake, the end of the connection; then
//! again with a new one. The server ends the TCP connection, as RFC 6455 §7.1.1 wants it.

use crate::conn::{Conn, Got};
use crate::frames::{self, CLOSE, TEXT};
use crate::http;
use crate::load::sockets::Inbox;
use crate::load::{Advance, Client};
use crate::transport::Road;
use std::io;

/// The message of a visit, in bytes.
const MESSAGE: usize = 128;

/// Somebody who never stays.
pub(crate) struct Visitor {
    road: Road,
    handshake: Vec<u8>,
    message: Vec<u8>,
    farewell: Vec<u8>,
    line: Conn,
    stage: VisitState,
}

enum VisitState {
    /// The request is out; so much of the answer is here.
    Handshake(Vec<u8>),
    /// The message is out.
    Echo(Inbox),
    /// Our Close is out; the end of the connection ends the visit.
    Farewell(Inbox),
}

impl Visitor {
    /// Connects for the first time.
    pub(crate) fn open(road: &Road, number: usize) -> io::Result<Self> {
        let (mut message, mut farewell) = (Vec::new(), Vec::new());
        frames::put_masked(&mut message, TEXT, &[b'v'; MESSAGE]);
        frames::put_masked(&mut farewell, CLOSE, &1000u16.to_be_bytes());
        let handshake = http::handshake(number % http::ROUTES);
        let line = Conn::connect(road)?;
        Ok(Self {
            road: road.clone(),
            handshake,
            message,
            farewell,
            line,
            stage: VisitState::Handshake(Vec::new()),
        })
    }

    fn take(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match &mut self.stage {
            VisitState::Handshake(head) => {
                head.extend_from_slice(bytes);
                if let Some(end) = http::switched(head)? {
                    let mut inbox = Inbox::default();
                    inbox.take(&mut head[end..], &mut self.line)?;
                    self.line.send(&self.message)?;
                    self.stage = VisitState::Echo(inbox);
                }
            }
            VisitState::Echo(inbox) => {
                inbox.take(bytes, &mut self.line)?;
                if (inbox.messages, inbox.payload) == (1, MESSAGE as u64) {
                    self.line.send(&self.farewell)?;
                    self.stage = VisitState::Farewell(std::mem::take(inbox));
                }
            }
            VisitState::Farewell(inbox) => inbox.take(bytes, &mut self.line)?,
        }
        Ok(())
    }

    fn again(&mut self) -> io::Result<Advance> {
        if !matches!(&self.stage, VisitState::Farewell(inbox) if inbox.closed) {
            return Err(io::Error::other("the gateway ended a visit without a Close"));
        }
        self.line = Conn::connect(&self.road)?;
        self.stage = VisitState::Handshake(Vec::new());
        self.start()?;
        Ok(Advance { done: 1, renewed: true })
    }
}

impl Client for Visitor {
    fn line(&mut self) -> &mut Conn {
        &mut self.line
    }

    fn start(&mut self) -> io::Result<()> {
        self.line.send(&self.handshake)
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Advance> {
        loop {
            match self.line.read(scratch)? {
                Got::Some(length) => self.take(&mut scratch[..length])?,
                Got::Last(length) => {
                    self.take(&mut scratch[..length])?;
                    return Ok(Advance::default());
                }
                Got::End => return self.again(),
            }
        }
    }
}
