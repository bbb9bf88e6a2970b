//! I/O of one side of a tunnel: the byte stream of a client or a backend.
//!
//! Plain sockets have their own variants, because they need no box, no buffer and no flush: a read is one
//! system call (`plain`).

mod carrier;
mod plain;
mod record_state;
mod record_stream;
mod tls;
mod tls_connection;

pub use carrier::{Carrier, RecordFollower, TlsIo};
pub(crate) use record_state::RecordState;
pub(crate) use record_stream::{RecordStream, is_end_of_keys};
pub use tls_connection::{TlsConnection, TlsSession};

use plain::RawSocket as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A byte stream in both directions: TLS, a stream of HTTP/2, a pipe in a test.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// Reads available bytes into `into`; 0 means the end. After `Pending`, the waker is called when bytes
    /// arrive.
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        Pin::new(self).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
    }

    /// Whether reading would certainly find nothing: since the last `Pending` of [`Io::poll_receive`], no
    /// bytes, end or error arrived, and its waker is still registered. Must be called on the thread that
    /// polls the runtime's sockets. `false` is always correct.
    fn is_silent(&self) -> bool {
        false
    }

    /// As [`AsyncWrite::poll_shutdown`] for bytes that are incomplete: with TLS no closing alert is sent, whose absence tells
    /// the peer of a truncation (RFC 8446 §6.1).
    fn poll_shutdown_incomplete(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }

    /// Whether [`Io::into_records`] may succeed.
    fn may_become_records(&self) -> bool {
        false
    }

    /// TLS as records, whose state can move to another process; the stream itself if that is impossible now, or at all.
    fn into_records(self: Box<Self>) -> TunnelIo;
}

#[cfg(test)]
impl Io for tokio::io::DuplexStream {
    fn into_records(self: Box<Self>) -> TunnelIo {
        TunnelIo::Boxed(self)
    }
}

/// One side of a tunnel.
pub enum TunnelIo {
    /// A plain TCP connection.
    Tcp(TcpStream),
    /// A plain unix socket.
    Unix(UnixStream),
    /// TLS 1.3 records, whose state can move; writes may be buffered, so they are flushed.
    Records(Box<RecordStream>),
    /// Any other stream; writes may be buffered, so they are flushed.
    Boxed(Box<dyn Io>),
    /// Closed: reads and writes do nothing.
    Gone,
}

impl TunnelIo {
    /// Reads available bytes into `into`; 0 means the end.
    #[inline]
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => stream.poll_receive(cx, into),
            Self::Unix(stream) => stream.poll_receive(cx, into),
            Self::Records(stream) => stream.poll_receive(cx, into),
            Self::Boxed(stream) => stream.poll_receive(cx, into),
            Self::Gone => Poll::Ready(Ok(0)),
        }
    }

    /// As [`Io::is_silent`].
    #[inline]
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_silent(),
            Self::Unix(stream) => stream.is_silent(),
            Self::Records(stream) => stream.is_silent(),
            Self::Boxed(stream) => stream.is_silent(),
            Self::Gone => false,
        }
    }

    /// Sends as many `bytes` as possible now. Unlike [`AsyncWrite::poll_write`], registers no waker: after
    /// `WouldBlock`, `poll_write` waits.
    ///
    /// # Errors
    /// Errors of the socket; `WouldBlock` if nothing can be sent now, or the stream is not a plain socket.
    #[inline]
    pub(crate) fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_send(bytes),
            Self::Unix(stream) => stream.try_send(bytes),
            Self::Records(_) | Self::Boxed(_) => Err(io::ErrorKind::WouldBlock.into()),
            Self::Gone => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// As [`TlsIo::send_now`].
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.send_now(bytes),
            Self::Unix(stream) => stream.send_now(bytes),
            Self::Records(_) | Self::Boxed(_) | Self::Gone => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether written bytes may be buffered until a flush.
    pub(crate) fn buffers(&self) -> bool {
        matches!(self, Self::Records(_) | Self::Boxed(_))
    }

    /// As [`Io::poll_shutdown_incomplete`].
    pub(crate) fn poll_shutdown_incomplete(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Records(stream) => stream.poll_shutdown_incomplete(cx),
            Self::Boxed(stream) => stream.poll_shutdown_incomplete(cx),
            Self::Tcp(_) | Self::Unix(_) | Self::Gone => Pin::new(self).poll_shutdown(cx),
        }
    }

    /// Whether [`TunnelIo::make_movable`] may succeed.
    pub(crate) fn may_move(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Records(_) => true,
            Self::Boxed(stream) => stream.may_become_records(),
            Self::Gone => false,
        }
    }

    /// Another process has a copy of the connection, or may have: its end here sends nothing.
    pub(crate) fn set_lent(&mut self, is_lent: bool) {
        if let Self::Records(stream) = self {
            stream.set_lent(is_lent);
        }
    }

    /// Makes the side one whose state can move to another process; returns whether it is one.
    pub(crate) fn make_movable(&mut self) -> bool {
        *self = match std::mem::replace(self, Self::Gone) {
            Self::Boxed(stream) => stream.into_records(),
            other => other,
        };
        matches!(self, Self::Tcp(_) | Self::Unix(_) | Self::Records(_))
    }
}

impl From<TcpStream> for TunnelIo {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for TunnelIo {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<Box<dyn Io>> for TunnelIo {
    fn from(stream: Box<dyn Io>) -> Self {
        Self::Boxed(stream)
    }
}

impl std::fmt::Debug for TunnelIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(stream) => f.debug_tuple("Tcp").field(stream).finish(),
            Self::Unix(stream) => f.debug_tuple("Unix").field(stream).finish(),
            Self::Records(_) => f.write_str("Records"),
            Self::Boxed(_) => f.write_str("Boxed"),
            Self::Gone => f.write_str("Gone"),
        }
    }
}

impl AsyncRead for TunnelIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Records(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Boxed(stream) => {
                let count = ready!(stream.poll_receive(cx, buf.initialize_unfilled()))?;
                buf.advance(count);
                Poll::Ready(Ok(()))
            }
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for TunnelIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Records(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Boxed(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(_) | Self::Unix(_) | Self::Gone => Poll::Ready(Ok(())),
            Self::Records(stream) => Pin::new(stream).poll_flush(cx),
            Self::Boxed(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Records(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Boxed(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}
