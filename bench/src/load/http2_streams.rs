//! Long-lived HTTP/2 connections: a fixed number of open streams, each with a GET of two bytes. A new request
//! follows every response, over all routes in turn.

use crate::conn::{Conn, ReadOutcome};
use crate::http::{BODY, ROUTES};
use crate::http2::{self, ACK, DATA, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
use crate::load::{Client, Progress};
use crate::transport::Transport;
use std::io;
use std::rc::Rc;

/// Concurrent streams.
const STREAMS: usize = 8;

/// An HTTP/2 client.
pub(crate) struct Http2Client {
    conn: Conn,
    requests: Rc<[Vec<u8>]>,
    next_request: usize,
    /// The number of the next stream.
    next_stream: u32,
    open: Vec<OpenStream>,
    /// Bytes of an incomplete frame.
    arrived: Vec<u8>,
    out: Vec<u8>,
}

/// A stream.
struct OpenStream {
    stream: u32,
    has_head: bool,
    /// Bytes of the body so far.
    body: usize,
}

/// The header block of a request for every route.
pub(crate) fn requests() -> Rc<[Vec<u8>]> {
    (0..ROUTES).map(http2::get_request_block).collect()
}

impl Http2Client {
    /// Connects; `number` selects the first route.
    pub(crate) fn open(transport: &Transport, requests: &Rc<[Vec<u8>]>, number: usize) -> io::Result<Self> {
        Ok(Self {
            conn: Conn::connect(transport)?,
            requests: requests.clone(),
            next_request: number * 7 % requests.len(),
            next_stream: 1,
            open: Vec::with_capacity(STREAMS),
            arrived: Vec::new(),
            out: Vec::new(),
        })
    }

    fn send_request(&mut self) {
        http2::put_request(&mut self.out, self.next_stream, &self.requests[self.next_request]);
        self.open.push(OpenStream { stream: self.next_stream, has_head: false, body: 0 });
        self.next_request = (self.next_request + 1) % self.requests.len();
        self.next_stream += 2;
    }

    /// Handles complete frames and their replies; returns the number of ended responses.
    fn receive(&mut self) -> io::Result<u64> {
        let (mut done, mut at) = (0, 0);
        let arrived = std::mem::take(&mut self.arrived);
        while let Some(frame) = http2::parse_frame(&arrived[at..])? {
            at += frame.size();
            if self.handle_frame(&frame)? {
                done += 1;
                self.send_request();
            }
        }
        self.arrived = arrived;
        self.arrived.drain(..at);
        Ok(done)
    }

    /// Whether the frame ends a response.
    fn handle_frame(&mut self, frame: &Frame<'_>) -> io::Result<bool> {
        match frame.kind {
            HEADERS | DATA => return self.handle_response_frame(frame),
            SETTINGS if !frame.has(ACK) => {
                http2::put_frame(&mut self.out, &Frame { flags: ACK, payload: &[], ..*frame });
            }
            PING if !frame.has(ACK) => http2::put_frame(&mut self.out, &Frame { flags: ACK, ..*frame }),
            RST_STREAM => return Err(io::Error::other("the gateway reset a stream")),
            GOAWAY => return Err(io::Error::other("the gateway sent GOAWAY")),
            _ => {}
        }
        Ok(false)
    }

    fn handle_response_frame(&mut self, frame: &Frame<'_>) -> io::Result<bool> {
        let at = self.open.iter().position(|stream| stream.stream == frame.stream);
        let at = at.ok_or_else(|| io::Error::other("a response on a stream that is not open"))?;
        let stream = &mut self.open[at];
        if frame.kind == HEADERS {
            http2::check_response(frame)?;
            stream.has_head = true;
        } else {
            let end = stream.body + frame.payload.len();
            if !stream.has_head || BODY.get(stream.body..end) != Some(frame.payload) {
                return Err(io::Error::other("the body of a response is wrong"));
            }
            stream.body = end;
        }
        if !frame.has(END_STREAM) {
            return Ok(false);
        }
        if stream.body != BODY.len() {
            return Err(io::Error::other("a response without its body"));
        }
        self.open.swap_remove(at);
        Ok(true)
    }

    fn send(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.conn.send(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

impl Client for Http2Client {
    fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    fn start(&mut self) -> io::Result<()> {
        self.out = http2::connection_preface();
        (0..STREAMS).for_each(|_| self.send_request());
        self.send()
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        let mut progress = Progress::default();
        loop {
            let (length, last) = match self.conn.read(scratch)? {
                ReadOutcome::Data(length) => (length, false),
                ReadOutcome::Drained(length) => (length, true),
                ReadOutcome::Eof => return Err(io::Error::other("the gateway closed an HTTP/2 connection")),
            };
            self.arrived.extend_from_slice(&scratch[..length]);
            progress.completed += self.receive()?;
            self.send()?;
            if last {
                return Ok(progress);
            }
        }
    }
}
