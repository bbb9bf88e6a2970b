//! Keep-alive GETs of two bytes, one in flight per connection, over all routes in turn.

use crate::conn::{Conn, ReadOutcome};
use crate::http;
use crate::load::{Client, Progress, read_until};
use crate::transport::Transport;
use std::io;
use std::rc::Rc;

/// A keep-alive client.
pub(crate) struct KeepaliveClient {
    conn: Conn,
    requests: Rc<[Vec<u8>]>,
    next_request: usize,
    response: Vec<u8>,
}

/// A request for every route with additional `fields`, each ended by CRLF.
pub(crate) fn requests(fields: &str) -> Rc<[Vec<u8>]> {
    (0..http::ROUTES).map(|number| http::get_request(number, fields)).collect()
}

impl KeepaliveClient {
    /// Connects; `number` selects the first route.
    pub(crate) fn open(transport: &Transport, requests: &Rc<[Vec<u8>]>, number: usize) -> io::Result<Self> {
        // Spread over the routes, so that the connections do not request the same one at the same time.
        let next_request = number * 7 % requests.len();
        Ok(Self {
            conn: Conn::connect(transport)?,
            requests: requests.clone(),
            next_request,
            response: Vec::new(),
        })
    }

    fn send_request(&mut self) -> io::Result<()> {
        self.conn.send(&self.requests[self.next_request])?;
        self.next_request = (self.next_request + 1) % self.requests.len();
        Ok(())
    }
}

/// A keep-alive client that is silent after one response.
pub(crate) struct IdleClient(Conn);

impl IdleClient {
    /// Connects and waits for the response to a request; `number` selects the route.
    pub(crate) fn open(transport: &Transport, number: usize) -> io::Result<Self> {
        let mut conn = Conn::connect(transport)?;
        conn.send(&http::get_request(number % http::ROUTES, ""))?;
        read_until(&mut conn, http::response_length)?;
        Ok(Self(conn))
    }
}

impl Client for IdleClient {
    fn conn(&mut self) -> &mut Conn {
        &mut self.0
    }

    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        match self.0.read(scratch)? {
            ReadOutcome::Drained(0) => Ok(Progress::default()),
            ReadOutcome::Eof => Err(io::Error::other("the gateway closed an idle connection")),
            ReadOutcome::Data(_) | ReadOutcome::Drained(_) => {
                Err(io::Error::other("an idle connection received bytes"))
            }
        }
    }
}

impl Client for KeepaliveClient {
    fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    fn start(&mut self) -> io::Result<()> {
        self.send_request()
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        let mut progress = Progress::default();
        loop {
            let (length, last) = match self.conn.read(scratch)? {
                ReadOutcome::Data(length) => (length, false),
                ReadOutcome::Drained(length) => (length, true),
                ReadOutcome::Eof => {
                    return Err(io::Error::other("the gateway closed a keep-alive connection"));
                }
            };
            self.response.extend_from_slice(&scratch[..length]);
            if let Some(end) = http::response_length(&self.response)? {
                self.response.drain(..end);
                progress.completed += 1;
                self.send_request()?;
            }
            if last {
                return Ok(progress);
            }
        }
    }
}
