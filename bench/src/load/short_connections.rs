//! Short connections: connect, TLS handshake, one GET, end of the connection, then a new one. The gateway closes,
//! as the request's `Connection: close` asks.

use crate::conn::{Conn, ReadOutcome};
use crate::http;
use crate::load::{Client, Progress};
use crate::tls::Tickets;
use crate::transport::{Target, Transport};
use std::io;

/// A client that connects, sends one request and closes.
pub(crate) struct ShortConnection {
    transport: Transport,
    request: Vec<u8>,
    tickets: Tickets,
    conn: Conn,
    response: Vec<u8>,
    /// Whether an earlier connection received a ticket.
    has_ticket: bool,
}

impl ShortConnection {
    /// Connects for the first time. Every client keeps its own tickets.
    pub(crate) fn open(target: Target, tickets: Tickets, number: usize) -> io::Result<Self> {
        let transport = target.tls(tickets)?;
        let conn = Conn::connect(&transport)?;
        let request = http::get_request(number % http::ROUTES, "Connection: close\r\n");
        Ok(Self { transport, request, tickets, conn, response: Vec::new(), has_ticket: false })
    }

    fn reconnect(&mut self) -> io::Result<Progress> {
        if http::response_length(&self.response)? != Some(self.response.len()) {
            return Err(io::Error::other("the gateway closed a connection before its response"));
        }
        let wanted = self.has_ticket && self.tickets == Tickets::Reuse;
        if self.conn.resumed() != Some(wanted) {
            let kind = if wanted { "full, although there was a ticket" } else { "not a full one" };
            return Err(io::Error::other(format!("a handshake was {kind}")));
        }
        self.has_ticket = true;
        self.conn = Conn::connect(&self.transport)?;
        self.response.clear();
        self.start()?;
        Ok(Progress { completed: 1, reconnected: true })
    }
}

impl Client for ShortConnection {
    fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    fn start(&mut self) -> io::Result<()> {
        self.conn.send(&self.request)
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        loop {
            let (length, last) = match self.conn.read(scratch)? {
                ReadOutcome::Data(length) => (length, false),
                ReadOutcome::Drained(length) => (length, true),
                ReadOutcome::Eof => return self.reconnect(),
            };
            self.response.extend_from_slice(&scratch[..length]);
            if last {
                return Ok(Progress::default());
            }
        }
    }
}
