//! A client's HTTP/1 connection: buffered reads and writes of its socket, and their time limits.
//!
//! An idle connection holds no buffer: reads go through the stack until bytes arrive. Small writes are joined
//! and leave when the connection waits for something, at the latest with the end of a response.

use super::min_rate::Pace;
use super::session_control::{EndedBy, SessionControl};
use super::socket_watch::{DisconnectFuture, SocketWatch};
use crate::net::conn_info::ConnInfo;
use crate::net::connection_permit::ConnectionPermit;
use crate::net::downstream_io::Socket;
use crate::net::http1::head_end::{HeadEnd, empty_lines, line_ends};
use crate::proxy::failure::Failure;
use crate::proxy::request::head_parser::{self, ReceivedHead};
use crate::runtime::clock;
use crate::runtime::worker_timer::{WorkerTimer, timeout};
use crate::snapshot::RequestLimits;
use bytes::{Buf, Bytes, BytesMut};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

/// The bytes of one read outside of a body.
const SMALL_READ: usize = 4 << 10;

/// The space of one read of a body.
const BODY_READ: usize = 32 << 10;

/// While a response is awaited, at most this much of what the client sends after its request is read, to
/// detect its disconnect.
const AHEAD: usize = 16 << 10;

/// The time and size limits of reads after a request was rejected. A connection that is closed with unread
/// bytes is reset, and the response may be lost (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// The largest header that is received, whatever the setting.
const MAX_HEAD: usize = 850_000;

/// The bytes of a request header.
#[derive(Debug)]
pub(in crate::proxy) struct HeadBytes {
    bytes: Bytes,
    /// Why the header is rejected before its end.
    failure: Option<Failure>,
}

impl HeadBytes {
    pub(super) fn parse(&self) -> ReceivedHead {
        match self.failure {
            None => head_parser::parse(&self.bytes),
            Some(failure) => head_parser::refuse(&self.bytes, failure),
        }
    }
}

/// A client's connection.
pub struct Connection {
    socket: Socket,
    conn_info: ConnInfo,
    pub(super) limits: Arc<RequestLimits>,
    pub(super) control: SessionControl,
    /// Received bytes that no request has taken yet.
    pub(super) input: BytesMut,
    head_end: HeadEnd,
    /// When the header that has begun must be complete.
    head_deadline: Option<Instant>,
    /// Bytes of a response that were not sent yet.
    out: BytesMut,
    /// Sent bytes may still be in the buffer of TLS.
    must_flush: bool,
    timer: WorkerTimer,
    /// Since when the client sends no byte of its body, and since when it takes none of a response.
    silent_since: Option<Instant>,
    stuck_since: Option<Instant>,
    /// The maximum wait for a client that does not read.
    pub(super) send_timeout: Option<Duration>,
    /// Detects the disconnect of a client that is no longer read.
    gone: Option<DisconnectFuture>,
    /// The client's half-close was read after the current request.
    is_half_closed: bool,
    /// A request was rejected such that the end of it is unknown.
    is_refused: bool,
    /// The rates of the request body and of the response, created at the first wait for the client.
    body_pace: Option<Box<Pace>>,
    send_pace: Option<Box<Pace>>,
    /// The bytes that the client had acknowledged at the last check.
    acknowledged: u64,
    /// The permit of the listener's connection limit.
    permit: Option<ConnectionPermit>,
}

impl Connection {
    /// Wraps an accepted socket. The bytes `early` were read from it before and begin its first request.
    pub fn new(
        socket: Socket,
        early: BytesMut,
        conn_info: ConnInfo,
        limits: Arc<RequestLimits>,
        permit: Option<ConnectionPermit>,
    ) -> Self {
        Self {
            socket,
            conn_info,
            limits,
            control: SessionControl::default(),
            input: early,
            head_end: HeadEnd::default(),
            head_deadline: None,
            out: BytesMut::new(),
            must_flush: false,
            timer: WorkerTimer::default(),
            silent_since: None,
            stuck_since: None,
            send_timeout: None,
            gone: None,
            is_half_closed: false,
            is_refused: false,
            body_pace: None,
            send_pace: None,
            acknowledged: 0,
            permit,
        }
    }

    /// The address that the client connected to.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.conn_info.local.or_else(|| self.socket.local_addr())
    }

    /// The connection's addresses and protocols.
    pub(super) fn conn_info(&self) -> &ConnInfo {
        &self.conn_info
    }

    /// A watch for disconnects while nothing is read; `None` if no descriptor is left.
    pub(super) fn watch(&self) -> Option<SocketWatch> {
        Some(SocketWatch::new(self.socket.another_handle().ok()?, self.control.finishes()))
    }

    /// Returns whether the client has disconnected, without waiting: an end after unread bytes is not seen.
    pub(super) fn has_left(&self) -> bool {
        match self.socket.peek_now() {
            Ok(0) => !self.control.finishes(),
            Ok(_) => false,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Half-closes a connection without TLS, so that the client sees the end of its response. With TLS the
    /// close of the connection does it.
    pub(super) fn end_sending(&self) {
        self.socket.end_sending();
    }

    /// Makes the end of the connection visible to a client whose response ends with it.
    pub(super) fn reset_on_close(&mut self) {
        self.socket.reset_on_close();
    }

    /// Whether the end of the connection would complete a response that is incomplete: with TLS it has no alert then.
    pub(super) fn set_incomplete(&mut self, is_incomplete: bool) {
        self.socket.set_ends_without_alert(is_incomplete);
    }

    /// No other request can follow, since the end of the current one is unknown.
    pub(super) fn refuse_more(&mut self) {
        self.is_refused = true;
    }

    /// Returns whether another request may follow.
    pub(super) fn may_continue(&self) -> bool {
        !self.is_refused
    }

    /// Prepares for another request.
    pub(super) fn next_request(&mut self) {
        self.control.reset();
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.gone = None;
        self.is_half_closed = false;
        self.body_pace = None;
        self.send_pace = None;
    }

    /// Waits for the first byte of the next request; false at the client's end or after `idle`.
    pub async fn await_request(&mut self, idle: Duration) -> bool {
        let deadline = clock::now() + idle;
        poll_fn(|cx| {
            if !self.input.is_empty() {
                return Poll::Ready(true);
            }
            match self.poll_small_read(cx) {
                Poll::Ready(read) => Poll::Ready(read.is_ok_and(|count| count > 0)),
                Poll::Pending => self.timer.poll(deadline, cx).map(|()| false),
            }
        })
        .await
    }

    /// Reads the header of the next request, whose first byte must arrive within `idle`. Returns `None` if
    /// there is no further request.
    pub(in crate::proxy) async fn read_head(&mut self, idle: Duration) -> Option<HeadBytes> {
        let idle_deadline = clock::now() + idle;
        poll_fn(|cx| self.poll_head(idle_deadline, cx)).await
    }

    fn poll_head(&mut self, idle_deadline: Instant, cx: &mut Context<'_>) -> Poll<Option<HeadBytes>> {
        loop {
            // RFC 9112 §2.2: empty lines before a request are skipped.
            self.input.advance(empty_lines(&self.input));
            if let Some(end) = self.head_end.find(&self.input) {
                self.head_end = HeadEnd::default();
                self.head_deadline = None;
                // The whole buffer is not split, which would allocate.
                let is_whole = end == self.input.len();
                let bytes = if is_whole { std::mem::take(&mut self.input) } else { self.input.split_to(end) };
                return Poll::Ready(Some(HeadBytes { bytes: bytes.freeze(), failure: None }));
            }
            let first = self.input.get(line_ends(&self.input)).copied();
            match first {
                Some(first) if !head_parser::may_begin(first) => {
                    return Poll::Ready(self.refuse(head_parser::not_http(first)));
                }
                _ if self.input.len() >= self.limits.size.saturating_mul(2).min(MAX_HEAD) => {
                    return Poll::Ready(self.refuse(Failure::HeadTooLarge));
                }
                _ => {}
            }
            match (self.poll_small_read(cx), first) {
                (Poll::Ready(Ok(1..)), _) => {}
                // A client that sent nothing gets no response.
                (Poll::Ready(_), None) => return Poll::Ready(None),
                (Poll::Ready(_), Some(_)) => return Poll::Ready(self.refuse(Failure::ClientGone)),
                (Poll::Pending, None) => {
                    return self.timer.poll(self.head_deadline.unwrap_or(idle_deadline), cx).map(|()| None);
                }
                (Poll::Pending, Some(_)) => {
                    let time = self.limits.time;
                    let deadline = *self.head_deadline.get_or_insert_with(|| clock::now() + time);
                    ready!(self.timer.poll(deadline, cx));
                    return Poll::Ready(self.refuse(Failure::HeaderTimeout));
                }
            }
        }
    }

    /// The received part of a header that is rejected before its end.
    #[expect(clippy::unnecessary_wraps, reason = "the form of its callers' result")]
    fn refuse(&mut self, failure: Failure) -> Option<HeadBytes> {
        Some(HeadBytes { bytes: std::mem::take(&mut self.input).freeze(), failure: Some(failure) })
    }

    /// The next header must be complete within its time limit from now on, even if it has not begun.
    pub fn expect_head(&mut self) {
        self.head_deadline = Some(clock::now() + self.limits.time);
    }

    /// The bare socket for a tunnel, the bytes read after the request, and the listener's permit.
    pub fn into_parts(self) -> (Socket, Bytes, Option<ConnectionPermit>) {
        (self.socket, self.input.freeze(), self.permit)
    }

    /// Reads into `input`. 0 means the end.
    fn poll_small_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); SMALL_READ];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
        self.input.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Reads a part of a body of which at most `left` bytes are missing into `input`. 0 means the end.
    /// `timeout` limits the wait for it.
    pub(super) fn poll_body_read(
        &mut self,
        left: Option<u64>,
        timeout: Option<Duration>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let space = left.map_or(BODY_READ, |left| usize::try_from(left).unwrap_or(usize::MAX).min(BODY_READ));
        self.input.reserve(space);
        let read = pin!(self.socket.read_buf(&mut self.input)).poll(cx);
        match read {
            Poll::Ready(read) => {
                self.silent_since = None;
                if let (Some(pace), Ok(count)) = (&mut self.body_pace, &read) {
                    pace.moved(*count);
                }
                return Poll::Ready(read);
            }
            Poll::Pending if self.input.is_empty() => self.input = BytesMut::new(),
            Poll::Pending => {}
        }
        ready!(self.poll_slow_body(timeout, cx));
        self.control.end(EndedBy::Body);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "request body is too slow")))
    }

    /// Ready when the client was silent for too long in its body, or sends it too slowly.
    fn poll_slow_body(&mut self, timeout: Option<Duration>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timeout) = timeout {
            let since = *self.silent_since.get_or_insert_with(clock::now);
            if self.timer.poll(since + timeout, cx).is_ready() {
                return Poll::Ready(());
            }
        }
        let is_paced = self.control.is_paced() && !self.control.has_response_begun();
        let Some(rate) = self.limits.body_rate.filter(|_| is_paced) else {
            return Poll::Pending;
        };
        self.body_pace.get_or_insert_with(|| Box::new(Pace::new(rate))).poll_slow(cx)
    }

    /// Detects the client's end between a request and the end of its response.
    ///
    /// Bytes received until then are its next request and are kept. A half-close means that the client
    /// disconnected, or that it waits for its responses (RFC 9112 §9.6): the route's `on_client_close`
    /// decides. In the second case the next read of a header finds the end again, and a reset is still
    /// detected.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while !self.is_half_closed && self.input.len() < AHEAD {
            match ready!(self.poll_small_read(cx)) {
                Ok(1..) => {}
                Ok(0) => self.is_half_closed = true,
                // TLS without close_notify.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.is_half_closed = true,
                Err(error) => return Poll::Ready(error),
            }
        }
        if self.is_half_closed && !self.control.finishes() { Poll::Ready(gone()) } else { self.poll_gone(cx) }
    }

    /// The client is no longer read: its disconnect is still detected.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.gone.is_none() {
            let Some(watch) = self.watch() else { return Poll::Pending };
            self.gone = Some(watch.gone());
        }
        match &mut self.gone {
            Some(watch) => watch.as_mut().poll(cx).map(|()| gone()),
            None => Poll::Pending,
        }
    }

    /// Ready when the backend was idle for too long while a response is awaited or in progress.
    pub(super) fn poll_backend_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(deadline) = self.control.deadline() else { return Poll::Pending };
        ready!(self.timer.poll(deadline, cx));
        self.control.end(EndedBy::Backend);
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the backend is idle"))
    }

    /// The buffer for bytes to send.
    pub(super) fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Returns whether bytes wait to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.must_flush || !self.out.is_empty()
    }

    /// Sends everything.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Sends as much as possible.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = Pin::new(&mut self.socket).poll_write(cx, &self.out);
            let count = ready!(self.check_written(written, cx))?;
            self.out.advance(count);
        }
        // A stream that waits for events holds no buffer.
        self.out = BytesMut::new();
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        if flushed.is_pending() {
            return self.poll_stuck(cx).map(Err);
        }
        (self.must_flush, self.stuck_since) = (false, None);
        flushed
    }

    /// Sends the buffered bytes, then `data`, without a copy. Later bytes may follow in `tail`.
    pub(super) async fn send(&mut self, mut data: Bytes, tail: &[u8]) -> io::Result<()> {
        poll_fn(|cx| {
            while !data.is_empty() {
                let parts = [IoSlice::new(&self.out), IoSlice::new(&data), IoSlice::new(tail)];
                let written = Pin::new(&mut self.socket).poll_write_vectored(cx, &parts);
                let count = ready!(self.check_written(written, cx))?;
                let of_out = count.min(self.out.len());
                self.out.advance(of_out);
                let of_data = (count - of_out).min(data.len());
                data.advance(of_data);
                if data.is_empty() {
                    self.out.extend_from_slice(&tail[count - of_out - of_data..]);
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Handles the result of a write, and checks the limits of a client that does not read.
    fn check_written(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(count)) => {
                (self.must_flush, self.stuck_since) = (true, None);
                if let Some(pace) = &mut self.send_pace {
                    // Accepted bytes are only in the kernel's buffer: the client's acknowledgements show what
                    // it received.
                    if self.socket.is_tcp() {
                        pace.pause();
                    } else {
                        pace.moved(count);
                    }
                }
                self.control.hear();
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_stuck(cx).map(Err),
        }
    }

    /// Checks the limits of a client that does not read, during a write.
    fn poll_stuck(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.poll_slow_reader(cx));
        self.control.end(EndedBy::Send);
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly"))
    }

    /// Ready when the client has not read for too long, or reads too slowly.
    fn poll_slow_reader(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timeout) = self.send_timeout {
            let since = *self.stuck_since.get_or_insert_with(clock::now);
            if self.timer.poll(since + timeout, cx).is_ready() {
                return Poll::Ready(());
            }
        }
        let Some(rate) = self.limits.send_rate.filter(|_| self.control.is_paced()) else {
            return Poll::Pending;
        };
        if self.send_pace.is_none() {
            self.acknowledged = self.socket.acknowledged();
        }
        loop {
            let pace = self.send_pace.get_or_insert_with(|| Box::new(Pace::new(rate)));
            ready!(pace.poll_slow(cx));
            // The kernel reports writability only when a good part of its buffer is free: the client may read
            // meanwhile.
            let acknowledged = self.socket.acknowledged();
            let taken = acknowledged.saturating_sub(self.acknowledged);
            self.acknowledged = acknowledged;
            if taken == 0 {
                return Poll::Ready(());
            }
            pace.moved(usize::try_from(taken).unwrap_or(usize::MAX));
        }
    }

    /// Closes the connection after the bytes to send.
    pub async fn close(mut self: Box<Self>) {
        // The client may have disconnected already, in which case the error is irrelevant.
        // TLS sends an alert, for which a client that does not read is not awaited.
        let ended =
            self.flush().await.is_ok() && matches!(timeout(LINGER, self.socket.shutdown()).await, Ok(Ok(())));
        if self.is_refused && ended {
            let _ = timeout(LINGER, self.drain()).await;
        }
    }

    /// Reads and discards the remaining bytes, up to a limit.
    async fn drain(&mut self) -> io::Result<()> {
        let mut unread = vec![0; SMALL_READ];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match self.socket.read(&mut unread).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the client disconnected")
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("conn_info", &self.conn_info).finish_non_exhaustive()
    }
}
