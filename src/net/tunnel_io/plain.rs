//! The two plain sockets: the system call first, the runtime only when it found nothing to do.
//!
//! tokio asks the runtime before every read, which takes a lock to leave a waker behind even when the
//! bytes are there. And libc's `recv` and `send` make a thread cancellable and back, with two atomic
//! exchanges each; rustix calls the kernel itself.

use super::TlsIo;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

/// A peer that is gone is an error here, not a signal.
#[cfg(target_os = "linux")]
const QUIETLY: SendFlags = SendFlags::NOSIGNAL;
/// Systems without that flag leave it to Rust's runtime, which ignores the signal.
#[cfg(not(target_os = "linux"))]
const QUIETLY: SendFlags = SendFlags::empty();

/// A socket that the runtime watches.
pub(super) trait RawSocket: AsFd {
    /// As [`TcpStream::try_io`].
    fn attempt<R>(&self, interest: Interest, work: impl FnOnce() -> io::Result<R>) -> io::Result<R>;

    /// As [`TcpStream::poll_read_ready`].
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// As [`super::Leg::try_send`].
    #[inline]
    fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.once(Interest::WRITABLE, bytes.len(), || Ok(send(self, bytes, QUIETLY)?))
    }

    /// Works once on up to `room` bytes. A socket that took or gave fewer has no more: the runtime is
    /// told that it would block, which saves the call that would find it out (an edge-triggered epoll
    /// tells of whatever comes from then on).
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
        // Nothing is done where something could be, so the readiness stays as it is.
        self.attempt(Interest::READABLE, || Ok(())).is_err()
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
