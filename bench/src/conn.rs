//! One non-blocking socket with what could not be sent yet, in the clear or under TLS, and the epoll set that
//! watches many of them.
//! Sockets are watched edge-triggered, once and for all: no epoll_ctl call falls into a measurement.

use crate::tls::Session;
use crate::transport::Road;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Bytes that one read may bring.
pub(crate) const SCRATCH: usize = 64 << 10;

/// How long a connect and each blocking step of a handshake may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a read brought.
pub(crate) enum Got {
    /// So many bytes; more may be waiting.
    Some(usize),
    /// So many bytes, and nothing else for now.
    Last(usize),
    /// The peer will send nothing more.
    End,
}

/// A socket, and what it would not take.
pub(crate) struct Conn {
    stream: TcpStream,
    /// Over which everything goes, when it is there; it keeps what is unsent itself.
    tls: Option<Box<Session>>,
    unsent: Vec<u8>,
    ending: bool,
}

impl Conn {
    /// Connects; reads and writes block until [`Conn::unblock`]. A handshake in TLS begins with the first write.
    pub(crate) fn connect(road: &Road) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&road.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let tls = road.tls.as_ref().map(Session::new).transpose()?.map(Box::new);
        Ok(Self { tls, ..Self::from(stream)? })
    }

    /// Takes over an accepted socket.
    pub(crate) fn from(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, tls: None, unsent: Vec::new(), ending: false })
    }

    /// From here on nothing waits.
    pub(crate) fn unblock(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)
    }

    /// The socket, for an epoll set.
    pub(crate) fn watched(&self) -> &impl AsFd {
        &self.stream
    }

    /// Sends what it can and keeps the rest for [`Conn::flush`].
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

    /// Sends what was kept; whether all of it is gone.
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

    /// Takes note of what the epoll set said.
    pub(crate) fn note(&mut self, ready: Ready) {
        self.ending |= ready.ending;
    }

    /// Reads once. A read that does not fill the buffer has emptied the socket (epoll(7)), which
    /// saves the second read that would only say so; except when the peer's end is waiting behind it,
    /// for no further event would tell.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<Got> {
        if let Some(session) = &mut self.tls {
            return session.read(&self.stream, into);
        }
        loop {
            match (&self.stream).read(into) {
                Ok(0) => return Ok(Got::End),
                Ok(n) if n == into.len() || self.ending => return Ok(Got::Some(n)),
                Ok(n) => return Ok(Got::Last(n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Got::Last(0)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether TLS was resumed from a ticket; `None` without TLS and while its handshake is under way.
    pub(crate) fn resumed(&self) -> Option<bool> {
        self.tls.as_ref()?.resumed()
    }
}

/// A member of the set that something happened to.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    /// Its number.
    pub(crate) number: u64,
    /// The peer sends nothing more, or the connection is broken.
    ending: bool,
}

/// An epoll set; its members are known by a number.
pub(crate) struct Watch {
    set: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Watch {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { set, events: Vec::with_capacity(256) })
    }

    /// Watches a socket for both directions, edge-triggered, until it is closed.
    pub(crate) fn add(&self, socket: &impl AsFd, number: u64) -> io::Result<()> {
        use epoll::EventFlags as On;
        self.insert(socket, number, On::IN | On::OUT | On::RDHUP | On::ET)
    }

    /// Watches for something to read, level-triggered: listeners and pipes.
    pub(crate) fn add_source(&self, source: &impl AsFd, number: u64) -> io::Result<()> {
        self.insert(source, number, epoll::EventFlags::IN)
    }

    fn insert(&self, source: &impl AsFd, number: u64, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.set, source, epoll::EventData::new_u64(number), flags)?)
    }

    /// The members that are ready, after at most `timeout`. An interrupting signal is an empty answer.
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

    /// The `at`th member that the last wait found ready.
    pub(crate) fn ready(&self, at: usize) -> Ready {
        use epoll::EventFlags as On;
        let event = self.events[at];
        let flags = event.flags;
        Ready { number: event.data.u64(), ending: flags.intersects(On::RDHUP | On::HUP | On::ERR) }
    }
}
