//! Non-101 response to a handshake: the connection is passed to Pingora, which reads the response like any
//! other.

use crate::tunnel::{Io, TunnelIo};
use parking_lot::Mutex;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as Transport;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The backend's connection for Pingora, with the bytes that were already read prepended.
pub(in crate::proxy) fn replay(tunnel_io: TunnelIo, read: &[u8]) -> Option<Stream> {
    let mut transport = match tunnel_io {
        TunnelIo::Tcp(socket) => Transport::from(socket),
        TunnelIo::Unix(socket) => Transport::from(socket),
        TunnelIo::Boxed(stream) => VirtualSocketStream::new(Box::new(SyncIo(Mutex::new(stream)))).into(),
        TunnelIo::Gone => return None,
    };
    transport.rewind(read);
    Some(Box::new(transport))
}

/// A stream as Pingora's type. The mutex is never locked: exclusive access needs no lock, and the type only
/// provides `Sync`.
struct SyncIo(Mutex<Box<dyn Io>>);

impl fmt::Debug for SyncIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncIo")
    }
}

impl VirtualSocket for SyncIo {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for SyncIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().0.get_mut()).poll_read(cx, buf)
    }
}

impl AsyncWrite for SyncIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().0.get_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().0.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().0.get_mut()).poll_shutdown(cx)
    }
}
