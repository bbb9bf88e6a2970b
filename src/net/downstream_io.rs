//! Downstream stream types: TCP, Unix socket and TLS behind one type, without buffers beyond those of TLS.

use super::tunnel_io::{Carrier, Io, TlsConnection, TlsIo, TunnelIo};
use pingora::protocols::l4::ext::get_tcp_info;
use rustix::net::RecvFlags;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// The stream of a client connection.
#[derive(Debug)]
pub enum Socket {
    /// TCP, with Nagle's algorithm off.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP or a Unix socket, boxed to keep plain connections small.
    Tls(Box<TlsConnection<TlsStream<Carrier<Socket>>>>),
}

impl Socket {
    /// The local address; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            Socket::Unix(_) => None,
            Socket::Tls(stream) => stream.get_ref().0.socket().local_addr(),
        }
    }

    /// Waits for bytes and copies them without consuming; 0 means the end. Bytes that are not consumed are
    /// returned again at once. Not for TLS.
    ///
    /// # Errors
    /// I/O errors.
    pub async fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.peek(into).await,
            Socket::Unix(socket) => {
                let look = || Ok(rustix::net::recv(socket, &mut *into, RecvFlags::PEEK)?.0);
                socket.async_io(Interest::READABLE, look).await
            }
            Socket::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether the kernel knows the acknowledged bytes.
    pub(crate) fn is_tcp(&self) -> bool {
        match self {
            Socket::Tcp(_) => true,
            Socket::Unix(_) => false,
            Socket::Tls(stream) => stream.get_ref().0.socket().is_tcp(),
        }
    }

    /// The bytes that the peer has acknowledged; 0 without TCP.
    pub(crate) fn acknowledged(&self) -> u64 {
        let info = self.is_tcp().then(|| get_tcp_info(self.as_raw_fd()));
        info.and_then(Result::ok).map_or(0, |info| info.tcpi_bytes_acked)
    }

    /// A second handle, for watching the connection beside its reader.
    pub(crate) fn another_handle(&self) -> io::Result<OwnedFd> {
        match self {
            Socket::Tcp(socket) => socket.as_fd().try_clone_to_owned(),
            Socket::Unix(socket) => socket.as_fd().try_clone_to_owned(),
            Socket::Tls(stream) => stream.get_ref().0.socket().another_handle(),
        }
    }

    /// Whether bytes (1) or the end (0) are available now; with TLS, of the connection below.
    pub(crate) fn peek_now(&self) -> io::Result<usize> {
        let mut byte = [0; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match self {
            Socket::Tcp(socket) => Ok(rustix::net::recv(socket, &mut byte, flags)?.0),
            Socket::Unix(socket) => Ok(rustix::net::recv(socket, &mut byte, flags)?.0),
            Socket::Tls(stream) => stream.get_ref().0.socket().peek_now(),
        }
    }

    /// Shuts down the sending direction, except with TLS, which needs an alert first.
    pub(crate) fn end_sending(&self) {
        // The connection may be closed already.
        let _ = match self {
            Socket::Tcp(socket) => socket2::SockRef::from(socket).shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket2::SockRef::from(socket).shutdown(Shutdown::Write),
            Socket::Tls(_) => Ok(()),
        };
    }

    /// Whether a drop of a connection with TLS sends no alert.
    pub(crate) fn set_ends_without_alert(&mut self, ends_without_alert: bool) {
        if let Socket::Tls(stream) = self {
            stream.set_ends_without_alert(ends_without_alert);
        }
    }

    /// The end of the connection does not complete what was sent: without TLS it becomes a reset, and with TLS it has no
    /// alert.
    pub(crate) fn reset_on_close(&mut self) {
        match self {
            Socket::Tcp(socket) => {
                // The connection may be closed already.
                let _ = socket2::SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
            }
            Socket::Tls(stream) => stream.set_ends_without_alert(true),
            Socket::Unix(_) => {}
        }
    }

    /// Reads available bytes. Never any with TLS.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.try_read(buffer),
            Socket::Unix(socket) => socket.try_read(buffer),
            Socket::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether [`Socket::try_read`] may return bytes.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(socket) => socket.poll_read_ready(cx),
            Socket::Unix(socket) => socket.poll_read_ready(cx),
            Socket::Tls(stream) => stream.get_ref().0.socket().poll_readable(cx),
        }
    }
}

impl TlsIo for Socket {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(socket) => socket.poll_receive(cx, into),
            Socket::Unix(socket) => socket.poll_receive(cx, into),
            Socket::Tls(stream) => stream.poll_receive(cx, into),
        }
    }

    fn is_silent(&self) -> bool {
        match self {
            Socket::Tcp(socket) => socket.is_silent(),
            Socket::Unix(socket) => socket.is_silent(),
            Socket::Tls(stream) => stream.is_silent(),
        }
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.send_now(bytes),
            Socket::Unix(socket) => socket.send_now(bytes),
            // TLS is no transport of TLS.
            Socket::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl From<Socket> for TunnelIo {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Tcp(socket) => Self::Tcp(socket),
            Socket::Unix(socket) => Self::Unix(socket),
            Socket::Tls(stream) => Self::Boxed(stream),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Socket::Tcp(socket) => socket.as_raw_fd(),
            Socket::Unix(socket) => socket.as_raw_fd(),
            Socket::Tls(stream) => stream.get_ref().0.socket().as_raw_fd(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // TLS usually writes one record at a time, and send(2) is cheaper than writev(2).
        if let [one] = bytes {
            return self.poll_write(cx, one);
        }
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(_) | Socket::Unix(_) => Poll::Ready(Ok(())),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
