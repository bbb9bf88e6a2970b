//! A non-blocking socket with its write buffer, plaintext or TLS, and an epoll set. Sockets are registered once,
//! edge-triggered: a measurement contains no epoll_ctl.

use crate::tls::Session;
use crate::transport::Transport;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The largest read, in bytes.
pub(crate) const READ_SIZE: usize = 64 << 10;

/// The timeout of a connect and of each blocking step of a handshake.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The outcome of a read.
pub(crate) enum ReadOutcome {
    /// This many bytes; more may be waiting.
    Data(usize),
    /// This many bytes; nothing more is available now.
    Drained(usize),
    /// The peer's end of stream.
    Eof,
}

/// A socket and its unsent bytes.
pub(crate) struct Conn {
    stream: TcpStream,
    /// The TLS connection, if any; it buffers its own unsent bytes.
    tls: Option<Box<Session>>,
    unsent: Vec<u8>,
    peer_closed: bool,
}

impl Conn {
    /// Connects; reads and writes block until [`Conn::set_nonblocking`]. A TLS handshake begins with the first write.
    pub(crate) fn connect(transport: &Transport) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&transport.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let tls = transport.tls.as_ref().map(Session::new).transpose()?.map(Box::new);
        Ok(Self { tls, ..Self::from(stream)? })
    }

    /// Wraps an accepted socket.
    pub(crate) fn from(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, tls: None, unsent: Vec::new(), peer_closed: false })
    }

    /// Switches to non-blocking I/O.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)
    }

    /// The socket, for an epoll set.
    pub(crate) fn socket(&self) -> &impl AsFd {
        &self.stream
    }

    /// Sends as much as possible and buffers the rest for [`Conn::flush`].
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(session) = &mut self.tls {
            return session.send(&self.stream, bytes);
        }
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let sent = self.write(bytes)?;
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends buffered bytes; true if none are left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        if let Some(session) = &mut self.tls {
            return session.flush(&self.stream);
        }
        if self.unsent.is_empty() {
            return Ok(true);
        }
        let unsent = std::mem::take(&mut self.unsent);
        let sent = self.write(&unsent)?;
        self.unsent.extend_from_slice(&unsent[sent..]);
        Ok(self.unsent.is_empty())
    }

    /// Sends as much of the bytes as possible and returns their number. Without TLS only.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.flush()? { self.write(bytes) } else { Ok(0) }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match (&self.stream).write(&bytes[sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(sent)
    }

    /// Records an event of the epoll set.
    pub(crate) fn record_event(&mut self, event: ReadyEvent) {
        self.peer_closed |= event.peer_closed;
    }

    /// Reads once. A read that does not fill the buffer has emptied the socket (epoll(7)), so no second read is
    /// needed. The exception is the end of stream, for which no further event would come.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<ReadOutcome> {
        if let Some(session) = &mut self.tls {
            return session.read(&self.stream, into);
        }
        loop {
            match (&self.stream).read(into) {
                Ok(0) => return Ok(ReadOutcome::Eof),
                Ok(n) if n == into.len() || self.peer_closed => return Ok(ReadOutcome::Data(n)),
                Ok(n) => return Ok(ReadOutcome::Drained(n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(ReadOutcome::Drained(0)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether TLS was resumed from a ticket; `None` without TLS or during the handshake.
    pub(crate) fn resumed(&self) -> Option<bool> {
        self.tls.as_ref()?.resumed()
    }
}

/// A ready member of the set.
#[derive(Clone, Copy)]
pub(crate) struct ReadyEvent {
    /// Its token.
    pub(crate) token: u64,
    /// The peer sends nothing more, or the connection is broken.
    peer_closed: bool,
}

/// An epoll set; a token identifies each member.
pub(crate) struct EpollSet {
    set: OwnedFd,
    events: Vec<epoll::Event>,
}

impl EpollSet {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { set, events: Vec::with_capacity(256) })
    }

    /// Watches a socket for both directions, edge-triggered, until it is closed.
    pub(crate) fn add(&self, socket: &impl AsFd, token: u64) -> io::Result<()> {
        use epoll::EventFlags as On;
        self.insert(socket, token, On::IN | On::OUT | On::RDHUP | On::ET)
    }

    /// Watches for readability, level-triggered: listeners and pipes.
    pub(crate) fn add_source(&self, source: &impl AsFd, token: u64) -> io::Result<()> {
        self.insert(source, token, epoll::EventFlags::IN)
    }

    fn insert(&self, source: &impl AsFd, token: u64, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.set, source, epoll::EventData::new_u64(token), flags)?)
    }

    /// Waits at most `timeout` for ready members and returns their number; 0 after an interrupting signal.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        self.events.clear();
        match epoll::wait(&self.set, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(self.events.len()),
            Err(e) => Err(e.into()),
        }
    }

    /// The `at`th ready member of the last wait.
    pub(crate) fn event(&self, at: usize) -> ReadyEvent {
        use epoll::EventFlags as On;
        let event = self.events[at];
        let flags = event.flags;
        ReadyEvent { token: event.data.u64(), peer_closed: flags.intersects(On::RDHUP | On::HUP | On::ERR) }
    }
}
