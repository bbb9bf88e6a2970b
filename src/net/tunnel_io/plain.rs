//! I/O of plain sockets: the system call first, and the runtime only if it would block.
//!
//! tokio registers a waker before every read, under a lock, even if bytes are available. libc's `recv` and
//! `send` are cancellation points, with two atomic exchanges each; rustix calls the kernel directly.

use super::TlsIo;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

/// MSG_NOSIGNAL: a closed peer is an error, not a signal.
#[cfg(target_os = "linux")]
const QUIETLY: SendFlags = SendFlags::NOSIGNAL;
/// Without that flag, Rust's runtime ignores the signal.
#[cfg(not(target_os = "linux"))]
const QUIETLY: SendFlags = SendFlags::empty();

/// A socket registered with the runtime.
pub(super) trait RawSocket: AsFd {
    /// As [`TcpStream::try_io`].
    fn attempt<R>(&self, interest: Interest, work: impl FnOnce() -> io::Result<R>) -> io::Result<R>;

    /// As [`TcpStream::poll_read_ready`].
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// As [`super::TunnelIo::try_send`].
    #[inline]
    fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.once(Interest::WRITABLE, bytes.len(), || Ok(send(self, bytes, QUIETLY)?))
    }

    /// One attempt with up to `room` bytes. After a partial transfer the runtime records that it would block,
    /// which saves the call that would find this out; an edge-triggered epoll reports later changes.
    #[inline]
    fn once(
        &self,
        interest: Interest,
        room: usize,
        work: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut short = None;
        let done = self.attempt(interest, || {
            let count = work()?;
            if 0 < count && count < room {
                short = Some(count);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        short.map_or(done, Ok)
    }
}

impl<P: RawSocket + AsyncRead + AsyncWrite + Send + Unpin> TlsIo for P {
    #[inline]
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let room = into.len();
            let read =
                self.once(Interest::READABLE, room, || Ok(recv(&*self, &mut *into, RecvFlags::empty())?.1));
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_readable(cx))?,
                read => return Poll::Ready(read),
            }
        }
    }

    #[inline]
    fn is_silent(&self) -> bool {
        // The closure never blocks, so the readiness stays unchanged.
        self.attempt(Interest::READABLE, || Ok(())).is_err()
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        // The runtime may not have noticed yet that the socket is writable.
        Ok(send(self, bytes, QUIETLY | SendFlags::DONTWAIT)?)
    }
}

impl RawSocket for TcpStream {
    #[inline]
    fn attempt<R>(&self, interest: Interest, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.try_io(interest, work)
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

impl RawSocket for UnixStream {
    #[inline]
    fn attempt<R>(&self, interest: Interest, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.try_io(interest, work)
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}
