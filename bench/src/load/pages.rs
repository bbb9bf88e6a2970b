//! Keep-alive GETs of two bytes, one in flight a connection, over all routes in turn.

use crate::conn::{Conn, Got};
use crate::http;
use crate::load::{Advance, Client};
use crate::transport::Road;
use std::io;
use std::rc::Rc;

/// A browser that never tires of the same pages.
pub(crate) struct Reader {
    line: Conn,
    requests: Rc<[Vec<u8>]>,
    turn: usize,
    answer: Vec<u8>,
}

/// A request for every route, with the `fields` besides, each ended by CRLF.
pub(crate) fn requests(fields: &str) -> Rc<[Vec<u8>]> {
    (0..http::ROUTES).map(|number| http::page(number, fields)).collect()
}

impl Reader {
    /// Connects; `number` decides which route comes first.
    pub(crate) fn open(road: &Road, requests: &Rc<[Vec<u8>]>, number: usize) -> io::Result<Self> {
        // Spread over the routes, so that the connections do not ask for the same one at the same time.
        let turn = number * 7 % requests.len();
        Ok(Self { line: Conn::connect(road)?, requests: requests.clone(), turn, answer: Vec::new() })
    }

    fn ask(&mut self) -> io::Result<()> {
        self.line.send(&self.requests[self.turn])?;
        self.turn = (self.turn + 1) % self.requests.len();
        Ok(())
    }
}

impl Client for Reader {
    fn line(&mut self) -> &mut Conn {
        &mut self.line
    }

    fn start(&mut self) -> io::Result<()> {
        self.ask()
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Advance> {
        let mut advance = Advance::default();
        loop {
            let (length, last) = match self.line.read(scratch)? {
                Got::Some(length) => (length, false),
                Got::Last(length) => (length, true),
                Got::End => return Err(io::Error::other("the gateway closed a keep-alive connection")),
            };
            self.answer.extend_from_slice(&scratch[..length]);
            if let Some(end) = http::whole_answer(&self.answer)? {
                self.answer.drain(..end);
                advance.done += 1;
                self.ask()?;
            }
            if last {
                return Ok(advance);
            }
        }
    }
}
