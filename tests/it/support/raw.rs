//! HTTP/1.1 client on the level of bytes.

use super::LIMIT;
use super::socket_queue::{await_delivered, is_unread};
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// One side of a connection, with bytes read ahead.
pub(crate) struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

/// A received response.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status.
    pub(crate) status: u16,
    /// The header, including the empty line.
    pub(crate) head: String,
    /// The body without its chunking.
    pub(crate) body: Vec<u8>,
}

/// A GET on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    ask(address, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

/// One request, as written, on a connection of its own.
pub(crate) fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    let mut wire = Wire::connect(address);
    wire.send(request);
    wire.response()
}

impl Wire {
    /// Connects; every read and write is bounded by [`LIMIT`].
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("connect to {address}: {e}"));
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let wire = Self::of(stream);
        wire.patience(LIMIT);
        wire
    }

    /// Takes a stream as it is.
    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, ahead: Vec::new() }
    }

    /// Sets the time limit of reads.
    pub(crate) fn patience(&self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).unwrap();
    }

    /// Sends these bytes in one write.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends these bytes in one write, if the connection is open.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Half-closes the connection.
    pub(crate) fn half_close(&self) {
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Another handle of the stream, to write from another thread.
    pub(crate) fn another(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// The stream and the bytes read ahead.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.ahead)
    }

    /// The bytes that were read ahead.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.ahead
    }

    /// Sends these bytes in two writes. The other side has read the first part before the second is sent.
    pub(crate) fn send_split(&mut self, bytes: &[u8], at: usize) -> io::Result<()> {
        let (first, second) = bytes.split_at(at);
        self.try_send(first)?;
        self.await_read();
        self.try_send(second)
    }

    /// Waits until the other side, a process of this machine, has read everything or closed the connection.
    pub(crate) fn await_read(&self) {
        assert!(self.is_read_within(LIMIT), "{:?} does not read", self.stream.peer_addr());
    }

    /// Returns whether the other side reads everything, or closes the connection, within that time.
    pub(crate) fn is_read_within(&self, limit: Duration) -> bool {
        let (Ok(local), Ok(peer)) = (self.stream.local_addr(), self.stream.peer_addr()) else { return true };
        let start = Instant::now();
        while is_unread(local, peer).unwrap() {
            if start.elapsed() >= limit {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// Waits until the kernel has delivered everything that was sent, read or not.
    pub(crate) fn await_delivered(&self) {
        await_delivered(&self.stream);
    }

    /// Closes both directions.
    pub(crate) fn close(&self) {
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends the connection by a reset once its last handle is dropped.
    pub(crate) fn reset_on_drop(&self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads once; the bytes are kept. 0 is the end.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        let n = self.stream.read(&mut buffer)?;
        self.ahead.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    fn fill_more(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Bytes up to and including `mark`.
    fn until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        let mut from = 0;
        loop {
            if let Some(at) = self.ahead[from..].windows(mark.len()).position(|bytes| bytes == mark) {
                return Ok(self.ahead.drain(..from + at + mark.len()).collect());
            }
            from = self.ahead.len().saturating_sub(mark.len() - 1);
            self.fill_more()?;
        }
    }

    /// Exactly this many bytes.
    pub(crate) fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < length {
            self.fill_more()?;
        }
        Ok(self.ahead.drain(..length).collect())
    }

    /// Everything to the end of the connection, a reset included.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        self.try_rest().unwrap_or_else(|e| panic!("{e}; read: {:?}", lossy(&self.ahead)))
    }

    /// As [`Wire::rest`]; an error when the connection stays open.
    pub(crate) fn try_rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(0) => return Ok(std::mem::take(&mut self.ahead)),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(std::mem::take(&mut self.ahead));
                }
                Err(e) => return Err(io::Error::other(format!("the connection stays open: {e}"))),
            }
        }
    }

    /// A message's header, including the empty line; `None` if the connection ended before it.
    pub(crate) fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.ahead.is_empty() && self.fill()? == 0 {
            return Ok(None);
        }
        self.until(b"\r\n\r\n").map(Some)
    }

    /// A chunked body: its bytes on the wire, and its content.
    pub(crate) fn chunks(&mut self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (mut wire, mut body) = (Vec::new(), Vec::new());
        loop {
            let line = self.until(b"\r\n")?;
            let size = lossy(&line);
            let size = size.trim_end().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            wire.extend_from_slice(&line);
            if size == 0 {
                break;
            }
            let chunk = self.exactly(size + 2)?;
            body.extend_from_slice(&chunk[..size]);
            wire.extend_from_slice(&chunk);
        }
        loop {
            let trailer = self.until(b"\r\n")?;
            wire.extend_from_slice(&trailer);
            if trailer == b"\r\n" {
                return Ok((wire, body));
            }
        }
    }

    /// The next chunk's bytes; empty at the end.
    pub(crate) fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = lossy(&self.until(b"\r\n")?);
        let size = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        let mut chunk = self.exactly(size + 2)?;
        chunk.truncate(size);
        Ok(chunk)
    }

    /// The next response, a 1xx included.
    pub(crate) fn response(&mut self) -> Response {
        self.try_response("GET")
            .unwrap_or_else(|e| panic!("no response: {e}; read: {:?}", lossy(&self.ahead)))
    }

    /// The next response, as one to a request of that method.
    pub(crate) fn try_response(&mut self, method: &str) -> io::Result<Response> {
        let head = self.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = lossy(&head);
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status: u16 = status.ok_or_else(|| io::Error::other(format!("no status in {head:?}")))?;
        let mut response = Response { status, head, body: Vec::new() };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(response);
        }
        response.body = if response.field("transfer-encoding").is_some() {
            self.chunks()?.1
        } else if let Some(length) = response.field("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            self.exactly(length)?
        } else {
            self.rest()
        };
        Ok(response)
    }

    /// Returns whether the other side ended the connection without another byte.
    pub(crate) fn ended(&mut self) -> bool {
        self.rest().is_empty()
    }
}

impl Response {
    /// The value of the first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        fields(&self.head, name).next()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        lossy(&self.body)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("no JSON ({e}): {}{}", self.head, self.text()))
    }
}

/// The values of the fields of that name in a head.
pub(crate) fn fields<'a>(head: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    head.lines().skip(1).filter_map(move |line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Bytes as lossy text.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
