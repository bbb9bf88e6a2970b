//! A stream of an HTTP/2 connection as a client's side of a tunnel (RFC 8441 §5): what the client sends in
//! DATA frames comes out as bytes, and the other way round.
//!
//! Flow control is the backpressure. What came is held here for one frame at most, and its window is
//! given back when the tunnel takes it up, so a backend that reads slowly stops its own client and nobody
//! else's. What goes is handed to the connection as far as the client's window and the connection's buffer
//! take it. The end of a direction is END_STREAM, said at the latest when the tunnel lets go of the stream: as
//! with a TCP connection, what was written before arrives.

use crate::proxy::downstream::h2_session::Halves;
use crate::tunnel::Io;
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose request was answered with 200.
pub(in crate::proxy) struct Duplex {
    stream: Halves,
    /// The rest of a DATA frame.
    rest: Bytes,
    /// END_STREAM was said.
    ended: bool,
}

impl Duplex {
    pub(in crate::proxy) fn new(stream: Halves) -> Self {
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
        // Otherwise the stream would be reset, and what the client has not got yet would be lost. One that
        // is gone already needs no end.
        let _ = self.end();
    }
}

/// The client reset the stream or its connection is gone: to a tunnel both are the reset of a connection
/// (RFC 8441 §5).
fn lost(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl Io for Duplex {}

impl AsyncRead for Duplex {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        // Small frames that wait are taken up together: the backend gets them in one write.
        loop {
            if !this.rest.is_empty() {
                let count = this.rest.len().min(buf.remaining());
                buf.put_slice(&this.rest[..count]);
                this.rest.advance(count);
            }
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            // The frame's buffer is not kept while nothing comes.
            this.rest = Bytes::new();
            match this.stream.from_client.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    // An error says that the stream has ended, which the next read finds.
                    let _ = this.stream.from_client.flow_control().release_capacity(data.len());
                    this.rest = data;
                }
                // The end, or the error, is there to be found again.
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
        // The connection's task sends what it was handed.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().end())
    }
}
