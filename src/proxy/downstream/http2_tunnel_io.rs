//! HTTP/2 stream as a client's side of a tunnel (RFC 8441 §5): DATA frames carry the tunnel's bytes.
//!
//! Flow control is the backpressure. At most one received frame is held here, and its window is released when
//! the tunnel reads it, so that a slow backend stops only its own client. Written bytes are passed to the
//! connection as far as the client's window and the connection's buffer allow. END_STREAM ends a direction,
//! at the latest on drop: as with TCP, previously written bytes arrive.

use super::http2_session::StreamHalves;
use crate::tunnel::{Io, TunnelIo};
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose CONNECT got 200.
pub(super) struct Duplex {
    stream: StreamHalves,
    /// The rest of a DATA frame.
    rest: Bytes,
    /// END_STREAM was sent.
    ended: bool,
}

impl Duplex {
    pub(super) fn new(stream: StreamHalves) -> Self {
        Self { stream, rest: Bytes::new(), ended: false }
    }

    fn end(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        self.stream.to_client.send_data(Bytes::new(), true).map_err(lost)
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        // Otherwise the stream would be reset, and unsent bytes would be lost. One that is already gone needs
        // no end.
        let _ = self.end();
    }
}

/// A reset stream and a lost connection are both a connection reset to a tunnel (RFC 8441 §5).
fn lost(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl Io for Duplex {
    fn into_records(self: Box<Self>) -> TunnelIo {
        TunnelIo::Boxed(self)
    }
}

impl AsyncRead for Duplex {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        // Small frames are read together: the backend gets them in one write.
        loop {
            if !this.rest.is_empty() {
                let count = this.rest.len().min(buf.remaining());
                buf.put_slice(&this.rest[..count]);
                this.rest.advance(count);
            }
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            // The frame's buffer is not kept while the stream is idle.
            this.rest = Bytes::new();
            match this.stream.from_client.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    // Fails if the stream has ended, which the next read reports.
                    let _ = this.stream.from_client.flow_control().release_capacity(data.len());
                    this.rest = data;
                }
                // The next read finds the end or the error again.
                _ if buf.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(lost(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.stream.to_client.reserve_capacity(bytes.len());
        let room = loop {
            match this.stream.to_client.capacity() {
                0 => {}
                room => break room,
            }
            match ready!(this.stream.to_client.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(lost(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        };
        let taken = room.min(bytes.len());
        this.stream.to_client.send_data(Bytes::copy_from_slice(&bytes[..taken]), false).map_err(lost)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task sends the bytes that were passed to it.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().end())
    }
}
