//! Connections of HTTP/2 that stay: some streams are open at any time, each with a GET of two bytes, and
//! behind every answer comes the next request, over all routes in turn.

use crate::conn::{Conn, Got};
use crate::h2::{self, ACK, DATA, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
use crate::http::{BODY, ROUTES};
use crate::load::{Advance, Client};
use crate::transport::Road;
use std::io;
use std::rc::Rc;

/// Streams that are open at a time.
const STREAMS: usize = 8;

/// A browser with many tabs.
pub(crate) struct Browser {
    line: Conn,
    requests: Rc<[Vec<u8>]>,
    turn: usize,
    /// The number of the next stream.
    next: u32,
    open: Vec<Tab>,
    /// Bytes of a frame that is not whole yet.
    arrived: Vec<u8>,
    out: Vec<u8>,
}

/// A stream.
struct Tab {
    stream: u32,
    answered: bool,
    /// Bytes of the body that are here.
    body: usize,
}

/// The header block of a request for every route.
pub(crate) fn requests() -> Rc<[Vec<u8>]> {
    (0..ROUTES).map(h2::page).collect()
}

impl Browser {
    /// Connects; `number` decides which route comes first.
    pub(crate) fn open(road: &Road, requests: &Rc<[Vec<u8>]>, number: usize) -> io::Result<Self> {
        Ok(Self {
            line: Conn::connect(road)?,
            requests: requests.clone(),
            turn: number * 7 % requests.len(),
            next: 1,
            open: Vec::with_capacity(STREAMS),
            arrived: Vec::new(),
            out: Vec::new(),
        })
    }

    fn ask(&mut self) {
        h2::put_request(&mut self.out, self.next, &self.requests[self.turn]);
        self.open.push(Tab { stream: self.next, answered: false, body: 0 });
        self.turn = (self.turn + 1) % self.requests.len();
        self.next += 2;
    }

    /// Takes in the frames that are whole, and writes what follows from them; the answers that ended.
    fn take(&mut self) -> io::Result<u64> {
        let (mut done, mut at) = (0, 0);
        let arrived = std::mem::take(&mut self.arrived);
        while let Some(frame) = h2::frame(&arrived[at..])? {
            at += frame.size();
            if self.see(&frame)? {
                done += 1;
                self.ask();
            }
        }
        self.arrived = arrived;
        self.arrived.drain(..at);
        Ok(done)
    }

    /// Whether the frame ends an answer.
    fn see(&mut self, frame: &Frame<'_>) -> io::Result<bool> {
        match frame.kind {
            HEADERS | DATA => return self.answer(frame),
            SETTINGS if !frame.has(ACK) => {
                h2::put(&mut self.out, &Frame { flags: ACK, payload: &[], ..*frame });
            }
            PING if !frame.has(ACK) => h2::put(&mut self.out, &Frame { flags: ACK, ..*frame }),
            RST_STREAM => return Err(io::Error::other("the gateway reset a stream")),
            GOAWAY => return Err(io::Error::other("the gateway said GOAWAY")),
            _ => {}
        }
        Ok(false)
    }

    fn answer(&mut self, frame: &Frame<'_>) -> io::Result<bool> {
        let at = self.open.iter().position(|tab| tab.stream == frame.stream);
        let at = at.ok_or_else(|| io::Error::other("an answer on a stream that is not open"))?;
        let tab = &mut self.open[at];
        if frame.kind == HEADERS {
            h2::accepted(frame)?;
            tab.answered = true;
        } else {
            let end = tab.body + frame.payload.len();
            if !tab.answered || BODY.get(tab.body..end) != Some(frame.payload) {
                return Err(io::Error::other("an answer with another body"));
            }
            tab.body = end;
        }
        if !frame.has(END_STREAM) {
            return Ok(false);
        }
        if tab.body != BODY.len() {
            return Err(io::Error::other("an answer without its body"));
        }
        self.open.swap_remove(at);
        Ok(true)
    }

    fn send(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.line.send(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

impl Client for Browser {
    fn line(&mut self) -> &mut Conn {
        &mut self.line
    }

    fn start(&mut self) -> io::Result<()> {
        self.out = h2::opening();
        (0..STREAMS).for_each(|_| self.ask());
        self.send()
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Advance> {
        let mut advance = Advance::default();
        loop {
            let (length, last) = match self.line.read(scratch)? {
                Got::Some(length) => (length, false),
                Got::Last(length) => (length, true),
                Got::End => return Err(io::Error::other("the gateway closed a connection of HTTP/2")),
            };
            self.arrived.extend_from_slice(&scratch[..length]);
            advance.done += self.take()?;
            self.send()?;
            if last {
                return Ok(advance);
            }
        }
    }
}
