//! A stream of an HTTP/2 connection as a client's side of a tunnel (RFC 8441 §5): what the client sends in
//! DATA frames comes out as bytes, and the other way round.
//!
//! Flow control is the backpressure. What came is held here for one frame at most, and its window is
//! given back when the tunnel takes it up, so a backend that reads slowly stops its own client and nobody
//! else's. What goes is handed to the connection as far as the client's window and the connection's buffer
//! take it. The end of a direction is END_STREAM, said at the latest when the tunnel lets go of the stream: as
//! with a TCP connection, what was written before arrives.

use crate::tunnel::Io;
use bytes::{Buf, Bytes};
use h2::SendStream;
use http::Method;
use pingora::http::RequestHeader;
use pingora::protocols::http::v2::server::HttpSession;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose request was answered with 200.
pub(super) struct Duplex {
    from_client: HttpSession,
    to_client: SendStream<Bytes>,
    /// The rest of a DATA frame.
    rest: Bytes,
    /// END_STREAM was said.
    ended: bool,
}

impl Duplex {
    /// Takes over a session whose answer has begun; `None` when it has not.
    pub(super) fn new(mut session: HttpSession) -> Option<Self> {
        let to_client = session.take_response_body_writer()?;
        // A tunnel may live for weeks, and nobody asks for its request's fields any more. What its
        // connection counts it by lives with it.
        if let Ok(mut head) = RequestHeader::build(Method::GET, b"/", Some(0)) {
            *head.extensions_mut() = std::mem::take(session.req_header_mut().extensions_mut());
            *session.req_header_mut() = head;
        }
        Some(Self { from_client: session, to_client, rest: Bytes::new(), ended: false })
    }

    fn end(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        self.to_client.send_data(Bytes::new(), true).map_err(lost)
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
            match this.from_client.poll_read_body_bytes(cx) {
                Poll::Ready(Some(Ok(data))) => this.rest = data,
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
        this.to_client.reserve_capacity(bytes.len());
        let room = loop {
            match this.to_client.capacity() {
                0 => {}
                room => break room,
            }
            match ready!(this.to_client.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(lost(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        };
        let taken = room.min(bytes.len());
        this.to_client.send_data(Bytes::copy_from_slice(&bytes[..taken]), false).map_err(lost)?;
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
