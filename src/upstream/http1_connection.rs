//! HTTP/1.1 connection to a server: bytes of requests out, response headers and bodies in.
//!
//! Writing and reading progress together ([`Http1Connection::progress`]): a backend may respond before it has
//! read the whole request (RFC 9112 §9.3).

use super::proxy_header::ProxyAddrs;
use super::upstream_stream::UpstreamStream;
use crate::net::http1::body_decoder::{BadChunk, BodyDecoder, Decoded};
use crate::net::http1::field_names::FieldNames;
use crate::net::http1::response_head::{self, HeadError};
use crate::websocket;
use bytes::{Buf, Bytes, BytesMut};
use http::{Version, header};
use pingora::http::ResponseHeader;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::task::unconstrained;

/// The space for the first read of a response, and for those of a large body.
const FIRST_READ: usize = 4 << 10;
const LARGEST_READ: usize = 64 << 10;

/// An open connection.
#[derive(Debug)]
pub struct Http1Connection {
    stream: UpstreamStream,
    /// Received bytes that are not parsed yet.
    received: BytesMut,
    /// The bytes of `received` that were searched for the end of a header.
    searched: usize,
    /// The space for the next read.
    read_size: usize,
    /// The PROXY header that the connection began with applies to these addresses.
    addrs: ProxyAddrs,
    /// Whether an earlier exchange used the connection.
    is_reused: bool,
    /// Whether the last write waits for a flush (TLS).
    must_flush: bool,
    /// Nothing more is written: a write failed, or the rest of the request is not sent.
    is_write_closed: bool,
}

/// What a connection did.
#[derive(Debug)]
pub enum Progress {
    /// Everything was written.
    Written,
    /// Bytes were received.
    Received,
    /// The backend closed its direction.
    Closed,
}

/// Why a connection cannot be used further.
#[derive(Debug)]
pub enum Broken {
    /// A write failed.
    Write(io::Error),
    /// A read failed.
    Read(io::Error),
}

/// The next part of a response body.
#[derive(Debug)]
pub enum BodyPart {
    /// Data, never empty.
    Data(Bytes),
    /// The body is complete.
    End,
    /// More bytes must be received.
    NeedsBytes,
}

impl Http1Connection {
    pub(super) fn new(stream: UpstreamStream, addrs: ProxyAddrs) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            searched: 0,
            read_size: FIRST_READ,
            addrs,
            is_reused: false,
            must_flush: false,
            is_write_closed: false,
        }
    }

    /// A connection on which a response has begun, with the bytes received so far.
    pub fn resume(stream: UpstreamStream, addrs: ProxyAddrs, received: Bytes) -> Self {
        Self { received: BytesMut::from(received), ..Self::new(stream, addrs) }
    }

    /// Whether an earlier exchange used the connection.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    pub(super) fn addrs(&self) -> ProxyAddrs {
        self.addrs
    }

    pub(super) fn mark_reused(&mut self) {
        self.is_reused = true;
        self.read_size = FIRST_READ;
    }

    /// Returns whether the connection may serve another request now: it is open and has nothing to read. A backend
    /// that sends something between two exchanges has closed it, or sends a response without a request.
    pub(super) fn may_be_reused(&mut self) -> bool {
        // Records of TLS without data are consumed by the check.
        self.is_idle() && !self.stream.has_unread()
    }

    /// As [`Http1Connection::may_be_reused`], as far as the runtime knows: a system call less.
    pub(super) fn is_idle(&mut self) -> bool {
        if !self.received.is_empty() || self.must_flush || self.is_write_closed {
            return false;
        }
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        // A task without budget left would find every socket pending (`tokio::task::coop`).
        let read = unconstrained(poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut buffer)));
        pin!(read).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Writes nothing more: the connection serves no further request.
    pub fn stop_writing(&mut self) {
        self.must_flush = false;
        self.is_write_closed = true;
    }

    /// Frees the space of received bytes: an idle connection holds none.
    pub(super) fn free_buffer(&mut self) {
        self.received = BytesMut::new();
    }

    /// Writes `first` and then `second`, and receives if `receives`, until either is done. Written bytes are
    /// removed from the two. Cancel-safe.
    ///
    /// # Errors
    /// [`Broken`]. After a failed write, received bytes can still be read.
    pub async fn progress(
        &mut self,
        first: &mut BytesMut,
        second: &mut Bytes,
        receives: bool,
    ) -> Result<Progress, Broken> {
        poll_fn(|cx| self.poll_progress(cx, first, second, receives)).await
    }

    fn poll_progress(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut BytesMut,
        second: &mut Bytes,
        receives: bool,
    ) -> Poll<Result<Progress, Broken>> {
        let has_writes = self.must_flush || !first.is_empty() || !second.is_empty();
        if has_writes && !self.is_write_closed {
            match self.poll_write_all(cx, first, second) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(Progress::Written)),
                Poll::Ready(Err(error)) => {
                    // Another flush would fail again, and hide what the backend sends.
                    self.stop_writing();
                    return Poll::Ready(Err(Broken::Write(error)));
                }
                Poll::Pending => {}
            }
        }
        if receives { self.poll_receive(cx) } else { Poll::Pending }
    }

    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut BytesMut,
        second: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        self.must_flush = true;
        while !first.is_empty() || !second.is_empty() {
            let parts = [IoSlice::new(first), IoSlice::new(second)];
            let stream = Pin::new(&mut self.stream);
            let written = match (first.is_empty(), second.is_empty()) {
                (false, false) => stream.poll_write_vectored(cx, &parts),
                (false, true) => stream.poll_write(cx, first),
                (true, _) => stream.poll_write(cx, second),
            };
            let written = std::task::ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_first = written.min(first.len());
            first.advance(of_first);
            second.advance(written - of_first);
        }
        std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.must_flush = false;
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Progress, Broken>> {
        let read = if self.read_size == FIRST_READ {
            self.poll_small_read(cx)
        } else {
            self.received.reserve(self.read_size);
            pin!(self.stream.read_buf(&mut self.received)).poll(cx)
        };
        if self.received.is_empty() {
            // An idle event stream must not hold the space.
            self.received = BytesMut::new();
        }
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(Progress::Closed)),
            Poll::Ready(Ok(count)) => {
                // A backend that fills the space has more to send.
                if count >= self.read_size {
                    self.read_size = (self.read_size * 2).min(LARGEST_READ);
                }
                Poll::Ready(Ok(Progress::Received))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Broken::Read(error))),
        }
    }

    /// Reads through the stack: an idle connection holds no buffer.
    fn poll_small_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); FIRST_READ];
        let mut read = ReadBuf::uninit(&mut space);
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        self.received.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// The next response header among the received bytes, interim ones included, and the spelling of its names.
    ///
    /// # Errors
    /// [`HeadError::Malformed`].
    pub fn next_head(&mut self) -> Result<Option<(ResponseHeader, FieldNames)>, HeadError> {
        if self.received.is_empty() {
            return Ok(None);
        }
        response_head::take_next(&mut self.received, &mut self.searched)
    }

    /// The next part of a body among the received bytes.
    ///
    /// # Errors
    /// [`BadChunk`].
    pub fn next_part(&mut self, decoder: &mut BodyDecoder) -> Result<BodyPart, BadChunk> {
        Ok(match decoder.decode(&mut self.received)? {
            Decoded::Data(data) => BodyPart::Data(data),
            Decoded::End => BodyPart::End,
            Decoded::NeedsBytes => BodyPart::NeedsBytes,
        })
    }

    /// Whether written bytes wait for a flush.
    pub fn must_flush(&self) -> bool {
        self.must_flush
    }

    /// The stream of a connection that switches to another protocol, and the bytes received after its response header.
    pub fn into_stream(self) -> (UpstreamStream, Bytes) {
        (self.stream, self.received.freeze())
    }

    /// Whether received bytes are left.
    pub fn has_received(&self) -> bool {
        !self.received.is_empty()
    }
}

/// Returns whether the backend keeps the connection open after this response (RFC 9112 §9.3).
pub fn keeps_alive(head: &ResponseHeader) -> bool {
    let has = |token: &str| websocket::has_token(&head.headers, &header::CONNECTION, token);
    if head.version == Version::HTTP_10 { has("keep-alive") } else { !has("close") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::upstream::dial::PlainStream;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    /// A connection, and the backend's end of it.
    async fn connection() -> (Http1Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        (Http1Connection::new(UpstreamStream::Plain(PlainStream::Tcp(ours)), None), theirs)
    }

    async fn await_readable(connection: &Http1Connection) {
        let UpstreamStream::Plain(PlainStream::Tcp(stream)) = &connection.stream else {
            panic!("it is a plain TCP connection")
        };
        stream.readable().await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_is_idle_while_it_has_nothing_to_read() {
        let (mut open, _theirs) = connection().await;
        assert!(open.is_idle() && open.is_idle());
        let (mut closed, theirs) = connection().await;
        drop(theirs);
        await_readable(&closed).await;
        assert!(!closed.is_idle());
        let (mut unread, mut theirs) = connection().await;
        theirs.write_all(b"!").await.unwrap();
        await_readable(&unread).await;
        assert!(!unread.is_idle());
    }

    #[tokio::test]
    async fn bytes_that_the_runtime_does_not_know_of_are_recognized_too() {
        let (mut connection, theirs) = connection().await;
        assert!(connection.may_be_reused());
        theirs.writable().await.unwrap();
        theirs.try_write(b"!").unwrap();
        assert!(connection.is_idle() && !connection.may_be_reused());
    }

    #[tokio::test]
    async fn a_busy_task_recognizes_a_closed_connection_too() {
        let (mut closed, theirs) = connection().await;
        drop(theirs);
        await_readable(&closed).await;
        let mut cx = Context::from_waker(Waker::noop());
        while has_budget_remaining() {
            let _ = pin!(consume_budget()).poll(&mut cx);
        }
        assert!(!closed.is_idle());
    }
}
