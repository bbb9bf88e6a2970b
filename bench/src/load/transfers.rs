//! Downloads and uploads of one size, one after another on each connection. The operations are bytes of bodies.

use crate::conn::{Conn, ReadOutcome};
use crate::http::{self, ROUTES};
use crate::load::{Client, Progress};
use crate::transport::Transport;
use std::io;

/// A client that downloads.
pub(crate) struct Downloader {
    conn: Conn,
    request: Vec<u8>,
    size: u64,
    state: DownloadState,
}

enum DownloadState {
    /// The bytes are the beginning of the response.
    Head(Vec<u8>),
    /// This many bytes of the body have not arrived.
    Body(u64),
}

impl Downloader {
    /// Connects; `number` selects the route.
    pub(crate) fn open(transport: &Transport, size: u64, number: usize) -> io::Result<Self> {
        let request = http::download_request(number % ROUTES, size);
        let conn = Conn::connect(transport)?;
        Ok(Self { conn, request, size, state: DownloadState::Head(Vec::new()) })
    }

    /// Returns the number of bytes that belong to the body.
    fn receive(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let (left, length) = match &mut self.state {
            DownloadState::Body(left) => (*left, bytes.len() as u64),
            DownloadState::Head(head) => {
                head.extend_from_slice(bytes);
                let Some(end) = http::head_end(head)? else { return Ok(0) };
                http::check_content_length(&head[..end], self.size)?;
                (self.size, (head.len() - end) as u64)
            }
        };
        let left = left.checked_sub(length).ok_or_else(|| io::Error::other("a body is too long"))?;
        self.state = DownloadState::Body(left);
        if left == 0 {
            self.start()?;
        }
        Ok(length)
    }
}

impl Client for Downloader {
    fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    fn start(&mut self) -> io::Result<()> {
        self.state = DownloadState::Head(Vec::new());
        self.conn.send(&self.request)
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        let mut progress = Progress::default();
        loop {
            let (length, last) = match self.conn.read(scratch)? {
                ReadOutcome::Data(length) => (length, false),
                ReadOutcome::Drained(length) => (length, true),
                ReadOutcome::Eof => return Err(io::Error::other("the gateway closed during a download")),
            };
            progress.completed += self.receive(&scratch[..length])?;
            if last {
                return Ok(progress);
            }
        }
    }
}

/// A client that uploads.
pub(crate) struct Uploader {
    conn: Conn,
    head: Vec<u8>,
    size: u64,
    /// Bytes of the body that are not sent.
    left: u64,
    response: Vec<u8>,
}

impl Uploader {
    /// Connects; `number` selects the route.
    pub(crate) fn open(transport: &Transport, size: u64, number: usize) -> io::Result<Self> {
        let head = http::upload_head(number % ROUTES, size);
        Ok(Self { conn: Conn::connect(transport)?, head, size, left: 0, response: Vec::new() })
    }
}

impl Client for Uploader {
    fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    fn start(&mut self) -> io::Result<()> {
        self.left = self.size;
        self.conn.send(&self.head)
    }

    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        let mut progress = Progress::default();
        loop {
            let before = self.left;
            http::send_body(&mut self.conn, &mut self.left)?;
            progress.completed += before - self.left;
            let (length, last) = match self.conn.read(scratch)? {
                ReadOutcome::Data(length) => (length, false),
                ReadOutcome::Drained(length) => (length, true),
                ReadOutcome::Eof => return Err(io::Error::other("the gateway closed during an upload")),
            };
            self.response.extend_from_slice(&scratch[..length]);
            match http::response_length(&self.response)? {
                Some(_) if self.left > 0 => {
                    return Err(io::Error::other("a response came before the end of the upload"));
                }
                Some(end) => {
                    self.response.drain(..end);
                    self.start()?;
                }
                None if last => return Ok(progress),
                None => {}
            }
        }
    }
}
