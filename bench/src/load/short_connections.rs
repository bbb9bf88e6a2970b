//! Calls: connect, shake hands in TLS, one GET, the end of the connection; then again with a new one. The
//! gateway closes, for the request asks it to.

use crate::conn::{Conn, Got};
use crate::http;
use crate::load::{Advance, Client};
use crate::tls::Tickets;
use crate::transport::{Road, Target};
use std::io;

/// Somebody who calls, asks for one thing and hangs up.
pub(crate) struct Caller {
    road: Road,
    request: Vec<u8>,
    tickets: Tickets,
    line: Conn,
    answer: Vec<u8>,
    /// An earlier call brought a ticket.
    known: bool,
}

impl Caller {
    /// Connects for the first time. Every caller keeps its own tickets.
    pub(crate) fn open(target: Target, tickets: Tickets, number: usize) -> io::Result<Self> {
        let road = target.tls(tickets)?;
        let line = Conn::connect(&road)?;
        let request = http::page(number % http::ROUTES, "Connection: close\r\n");
        Ok(Self { road, request, tickets, line, answer: Vec::new(), known: false })
    }

    fn again(&mut self) -> io::Result<Advance> {
        if http::whole_answer(&self.answer)? != Some(self.answer.len()) {
            return Err(io::Error::other("the gateway ended a call before its answer"));
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
