//! Short connections: connect, TLS handshake, one GET, end of the connection, then a new one. The gateway closes,
//! as the request's `Connection: close` asks.

use crate::conn::{Conn, Got};
use crate::http;
use crate::load::{Advance, Client};
use crate::tls::Tickets;
use crate::transport::{Road, Target};
use std::io;

/// A client that connects, sends one request and closes.
pub(crate) struct Caller {
    road: Road,
    request: Vec<u8>,
    tickets: Tickets,
    line: Conn,
    answer: Vec<u8>,
    /// An earlier connection received a ticket.
    known: bool,
}

impl Caller {
    /// Connects for the first time. Every client keeps its own tickets.
    pub(crate) fn open(target: Target, tickets: Tickets, number: usize) -> io::Result<Self> {
        let road = target.tls(tickets)?;
        let line = Conn::connect(&road)?;
        let request = http::page(number % http::ROUTES, "Connection: close\r\n");
        Ok(Self { road, request, tickets, line, answer: Vec::new(), known: false })
    }

    fn again(&mut self) -> io::Result<Advance> {
        if http::whole_answer(&self.answer)? != Some(self.answer.len()) {
            return Err(io::Error::other("the gateway closed a connection before its response"));
        }
        let wanted = self.known && self.tickets == Tickets::Kept;
        if self.line.resumed() != Some(wanted) {
            let kind = if wanted { "full, although there was a ticket" } else { "not a full one" };
            return Err(io::Error::other(format!("a handshake was {kind}")));
        }
        self.known = true;
        self.line = Conn::connect(&self.road)?;
        self.answer.clear();
        self.start()?;
        Ok(Advance { done: 1, renewed: true })
    }
}

impl Client for Caller {
    fn line(&mut self) -> &mut Conn {
        &mut self.line
    }

    fn start(&mut self) -> io::Result<()> {
        self.line.send(&self.request)
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Advance> {
        loop {
            let (length, last) = match self.line.read(scratch)? {
                Got::Some(length) => (length, false),
                Got::Last(length) => (length, true),
                Got::End => return self.again(),
            };
            self.answer.extend_from_slice(&scratch[..length]);
            if last {
                return Ok(Advance::default());
            }
        }
    }
}
