//! A client's connection as Pingora's stream.
//!
//! It has unbuffered reads, one write for a header and its body, limits on the time and size of a request
//! header, and access to the bare socket for a WebSocket. A read never returns bytes after a request's end:
//! they are kept for the next request. `net` determines that end.
//!
//! Pingora gets a complete and validated header (see `h1_head`). While a header is received in pieces,
//! Pingora gets empty lines, which its parser skips (RFC 9112 §2.2). They restart Pingora's timer, which
//! would close without a response.

use super::min_rate::Pace;
use super::session_control::{EndedBy, SessionControl};
use super::socket_watch::{DisconnectFuture, SocketWatch};
use super::upload_gate::Gate;
use crate::net::conn_info::ConnInfo;
use crate::net::downstream_io::Socket;
use crate::net::http1::message_framing::{Boundary, ParseState, Reading};
use crate::proxy::failure::Failure;
use crate::proxy::request::h1_head::SentHead;
use crate::proxy::request::head_intake::HeadIntake;
use crate::runtime::worker_timer::WorkerTimer;
use crate::snapshot::MinRate;
use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, timeout};

/// Writes before a flush are joined into one send up to this size: a header and a small body leave in one
/// packet. A larger chunk is sent with the joined bytes, without a copy.
const JOIN: usize = 8 << 10;

/// While a response is awaited, at most this much of what the client sends after its request is read, to
/// detect its disconnect.
const AHEAD: usize = 16 << 10;

/// The time and size limits of reads after a request was rejected. A connection that is closed with unread
/// bytes is reset, and the response may be lost (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// The limits of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// From a header's first incomplete read to its end; 408 above it (RFC 9110 §15.5.9).
    pub time: Duration,
    /// The header size in bytes; a header without an end within twice as many gets 431 (RFC 6585 §5).
    pub size: usize,
    /// How long an idle connection is kept: the maximum duration of a read by Pingora.
    pub idle: Duration,
    /// The minimum rate of a body; 408 below it.
    pub body_rate: Option<MinRate>,
    /// The minimum rate at which a response is read.
    pub send_rate: Option<MinRate>,
}

/// A client's connection.
pub struct Connection {
    socket: Socket,
    conn_info: ConnInfo,
    limits: RequestLimits,
    boundary: Boundary,
    control: SessionControl,
    /// Bytes that were read after the end of the current request.
    behind: BytesMut,
    /// The header of the current request, between the client and the parser.
    intake: HeadIntake,
    deadline: Option<Pin<Box<Sleep>>>,
    announcement: Option<Pin<Box<Sleep>>>,
    /// Limits the backend's idle time.
    silence: WorkerTimer,
    /// Detects the disconnect of a client that is no longer read.
    gone: Option<DisconnectFuture>,
    /// The client's half-close was read after the current request.
    is_half_closed: bool,
    /// The rates of the request body and of the response, created at the first wait for the client.
    body_pace: Option<Box<Pace>>,
    send_pace: Option<Box<Pace>>,
    /// The bytes that the client had acknowledged at the last check.
    acknowledged: u64,
    out: BytesMut,
    /// The permit of the listener's connection limit.
    permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Wraps an accepted socket. The bytes `early` were read from it before and begin its first request.
    pub fn new(
        socket: Socket,
        early: BytesMut,
        conn_info: ConnInfo,
        limits: RequestLimits,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            socket,
            conn_info,
            limits,
            boundary: Boundary::default(),
            control: SessionControl::default(),
            behind: early,
            intake: HeadIntake::default(),
            deadline: None,
            announcement: None,
            silence: WorkerTimer::default(),
            gone: None,
            is_half_closed: false,
            body_pace: None,
            send_pace: None,
            acknowledged: 0,
            out: BytesMut::new(),
            permit,
        }
    }

    /// The address that the client connected to.
    pub(in crate::proxy) fn local_addr(&self) -> Option<SocketAddr> {
        self.conn_info.local.or_else(|| self.socket.local_addr())
    }

    /// The connection's addresses and protocols.
    pub fn conn_info(&self) -> &ConnInfo {
        &self.conn_info
    }

    /// Compares the received header with the parser's result: its size and fields.
    pub fn compare(&self, size: usize, headers: &HeaderMap) -> Reading {
        if size == self.intake.given_size(self.head_size()) {
            self.boundary.compare(headers)
        } else {
            Reading::Doubtful
        }
    }

    /// The received size of the header in bytes.
    pub(in crate::proxy) fn head_size(&self) -> usize {
        self.boundary.head()
    }

    /// The status and the reason of the current request's rejection, regardless of the parser.
    pub fn refusal(&self) -> Option<(StatusCode, &'static str)> {
        let failure = self.intake.refusal()?;
        Some((failure.status().unwrap_or(StatusCode::BAD_REQUEST), failure.token()))
    }

    /// The received header, if the parser got another one. Returned once.
    pub(in crate::proxy) fn take_sent(&self) -> Option<Box<SentHead>> {
        self.intake.take_sent()
    }

    /// The session control of its requests.
    pub(in crate::proxy) fn control(&self) -> &SessionControl {
        &self.control
    }

    /// A watch for disconnects while nothing is read; `None` if no descriptor is left.
    pub(in crate::proxy) fn watch(&self) -> Option<SocketWatch> {
        Some(SocketWatch::new(self.socket.another_handle().ok()?, self.control.finishes()))
    }

    /// Returns whether the client has disconnected, without waiting: an end after unread bytes is not seen.
    pub(in crate::proxy) fn has_left(&self) -> bool {
        match self.socket.peek_now() {
            Ok(0) => !self.control.finishes(),
            Ok(_) => false,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Returns whether the request body is incomplete.
    pub(in crate::proxy) fn is_in_body(&self) -> bool {
        self.boundary.stage() == ParseState::Body
    }

    /// Half-closes a connection without TLS, so that the client sees the end of its response. With TLS the
    /// close of the connection does it.
    pub(in crate::proxy) fn end_sending(&self) {
        self.socket.end_sending();
    }

    /// Returns whether the request body violated its framing.
    pub fn is_broken(&self) -> bool {
        self.boundary.stage() == ParseState::Broken
    }

    /// The next bytes are those of a new header. Returns whether the previous request is complete; otherwise
    /// further bytes must not be parsed as a request.
    pub fn next_request(&mut self) -> bool {
        let over = self.boundary.stage() == ParseState::Over && self.intake.is_over();
        self.boundary = Boundary::default();
        self.control.reset();
        self.intake.next_request();
        self.deadline = None;
        self.announcement = None;
        self.gone = None;
        self.is_half_closed = false;
        self.body_pace = None;
        self.send_pace = None;
        over
    }

    /// Waits for the first byte of the next request; false at the client's end, an error if the connection
    /// failed.
    pub async fn await_request(&mut self) -> io::Result<bool> {
        if self.behind.is_empty() {
            self.socket.read_buf(&mut self.behind).await?;
        }
        Ok(!self.behind.is_empty())
    }

    /// The next header must be complete within its time limit from now on, even if it has not begun.
    pub fn expect_head(&mut self) {
        self.deadline = Some(Box::pin(tokio::time::sleep(self.limits.time)));
    }

    /// The bare socket for a tunnel, the bytes read after the request, and the listener's permit. Everything
    /// must have been flushed.
    pub fn into_parts(self) -> (Socket, Bytes, Option<OwnedSemaphorePermit>) {
        (self.socket, self.behind.freeze(), self.permit)
    }

    /// Checks the time limit of an incomplete header.
    ///
    /// Between two requests Pingora's keep-alive timer applies. A timer of ours is armed only for a header in
    /// pieces, or by [`Self::expect_head`], so that an ordinary request never uses one.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stage = self.boundary.stage();
        let has_begun = stage == ParseState::Head && self.intake.first_byte().is_some();
        if !has_begun && (stage == ParseState::Body || self.deadline.is_none()) {
            return Poll::Pending;
        }
        let time = self.limits.time;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        if deadline.as_mut().poll(cx).is_pending() {
            return if has_begun { self.poll_announcement(cx, buf) } else { Poll::Pending };
        }
        if has_begun {
            self.intake.refuse(Failure::HeaderTimeout);
            self.intake.give(buf);
            return Poll::Ready(Ok(()));
        }
        // A client that sent nothing gets no response.
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "request header took too long")))
    }

    /// Keeps Pingora's timer from ending the wait for a header before its time limit.
    fn poll_announcement(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let pause = self.limits.idle / 2;
        if pause < self.limits.time {
            let pause = pause.max(Duration::from_millis(400));
            let timer = self.announcement.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            ready!(timer.as_mut().poll(cx));
            timer.set(tokio::time::sleep(pause));
            self.intake.announce(buf);
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Reads bytes of the current request, first those kept for it.
    fn poll_request(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let was_in_head = matches!(self.boundary.stage(), ParseState::Idle | ParseState::Head);
            let before = buf.filled().len();
            let own = if self.behind.is_empty() {
                match Pin::new(&mut self.socket).poll_read(cx, buf) {
                    Poll::Pending if self.boundary.stage() == ParseState::Body => {
                        return self.poll_body_pace(cx);
                    }
                    Poll::Pending => return self.poll_deadline(cx, buf),
                    Poll::Ready(Err(error)) if self.intake.is_empty() => return Poll::Ready(Err(error)),
                    // A part of the header was received: the log reports its end.
                    Poll::Ready(Err(_)) => 0,
                    Poll::Ready(Ok(())) => {
                        if let Some(pace) = &mut self.body_pace {
                            pace.moved(buf.filled().len() - before);
                        }
                        let own = self.boundary.follow(&buf.filled()[before..]);
                        self.behind.extend_from_slice(&buf.filled()[before + own..]);
                        buf.set_filled(before + own);
                        own
                    }
                }
            } else {
                let here = self.behind.len().min(buf.remaining());
                let own = self.boundary.follow(&self.behind[..here]);
                buf.put_slice(&self.behind[..own]);
                self.behind.advance(own);
                if self.behind.is_empty() {
                    // An idle connection holds no buffer.
                    self.behind = BytesMut::new();
                }
                own
            };
            if !was_in_head || (own == 0 && self.intake.is_empty()) {
                // An empty read would mean end of stream to the reader.
                return if own == 0 && self.is_broken() {
                    Poll::Ready(Err(broken()))
                } else {
                    Poll::Ready(Ok(()))
                };
            }
            let head = (self.boundary.stage() != ParseState::Head).then(|| self.boundary.head());
            if self.intake.take(buf, before, own, head, self.limits.size) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Checks the minimum rate of a body.
    fn poll_body_pace(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(rate) = self.limits.body_rate.filter(|_| self.control.is_paced()) else {
            return Poll::Pending;
        };
        let pace = self.body_pace.get_or_insert_with(|| Box::new(Pace::new(rate)));
        ready!(pace.poll_slow(cx));
        self.control.end(EndedBy::Body);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "request body is too slow")))
    }

    /// Detects the client's end between a request and the end of its response.
    ///
    /// Bytes received until then are its next request and are kept. A half-close means that the client
    /// disconnected, or that it waits for its responses (RFC 9112 §9.6): the route's `on_client_close`
    /// decides. In the second case the next read of a header finds the end again, and a reset is still
    /// detected.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_half_closed && self.behind.len() < AHEAD {
            let mut space = [MaybeUninit::uninit(); 1024];
            let mut read = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => self.behind.extend_from_slice(read.filled()),
                Ok(()) => self.is_half_closed = true,
                // TLS without close_notify.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.is_half_closed = true,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if self.is_half_closed && !self.control.finishes() {
            Poll::Ready(Err(gone()))
        } else {
            self.poll_gone(cx)
        }
    }

    /// The client is no longer read: its disconnect is still detected.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gone.is_none() {
            let Some(watch) = self.watch() else { return Poll::Pending };
            self.gone = Some(watch.gone());
        }
        match &mut self.gone {
            Some(watch) => watch.as_mut().poll(cx).map(|()| Err(gone())),
            None => Poll::Pending,
        }
    }

    /// Checks the backend's idle time while a response is awaited or in progress and no write is pending.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(deadline) = self.control.deadline() else { return Poll::Pending };
        ready!(self.silence.poll(deadline, cx));
        self.control.end(EndedBy::Backend);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the backend is idle")))
    }

    /// Handles the result of a write, and checks the client's minimum rate.
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => {
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
            Poll::Pending => {
                let Some(rate) = self.limits.send_rate.filter(|_| self.control.is_paced()) else {
                    return Poll::Pending;
                };
                if self.send_pace.is_none() {
                    self.acknowledged = self.socket.acknowledged();
                }
                let pace = self.send_pace.get_or_insert_with(|| Box::new(Pace::new(rate)));
                ready!(pace.poll_slow(cx));
                // The kernel reports writability only when a good part of its buffer is free: the client may
                // read meanwhile.
                let acknowledged = self.socket.acknowledged();
                let taken = acknowledged.saturating_sub(self.acknowledged);
                self.acknowledged = acknowledged;
                if taken > 0 {
                    pace.moved(usize::try_from(taken).unwrap_or(usize::MAX));
                    return self.wrote(cx, Poll::Pending);
                }
                self.control.end(EndedBy::Send);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")))
            }
        }
    }

    /// Reads and discards the remaining bytes, up to a limit.
    async fn drain(&mut self) -> io::Result<()> {
        let mut unread = vec![0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match self.socket.read(&mut unread).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = Pin::new(&mut self.socket).poll_write(cx, &self.out);
            let n = ready!(self.wrote(cx, written))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
        }
        self.out.clear();
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the client disconnected")
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "request body violates its framing")
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.intake.gives() {
            this.intake.give(buf);
            return Poll::Ready(Ok(()));
        }
        let read = match this.boundary.stage() {
            _ if this.intake.is_refused() => Poll::Ready(Err(broken())),
            ParseState::Broken => Poll::Ready(Err(broken())),
            ParseState::Over => this.poll_end(cx),
            ParseState::Body if this.control.gate.get() == Gate::Paused => this.poll_gone(cx),
            // The response is sent first.
            ParseState::Body if this.control.gate.get() == Gate::Ended => {
                return this.poll_out(cx).map(|_| Err(io::Error::other("the upload has ended")));
            }
            ParseState::Idle | ParseState::Head | ParseState::Body => this.poll_request(cx, buf),
        };
        let awaits_backend = match this.boundary.stage() {
            ParseState::Over => true,
            ParseState::Body => this.control.gate.get() == Gate::Paused,
            ParseState::Idle | ParseState::Head | ParseState::Broken => false,
        };
        let read = if read.is_pending() && awaits_backend { this.poll_silence(cx) } else { read };
        // A pending read means a wait: buffered parts of the response must be sent now. A small response that
        // arrives whole does not get here before its end.
        if read.is_pending() && !this.out.is_empty() && matches!(this.poll_out(cx), Poll::Ready(Err(_))) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.out.len() + bytes.len() <= JOIN {
            this.out.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            let waiting = this.out.len();
            if waiting == 0 {
                let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
                return this.wrote(cx, written);
            }
            let parts = [IoSlice::new(&this.out), IoSlice::new(bytes)];
            let written = Pin::new(&mut this.socket).poll_write_vectored(cx, &parts);
            let n = ready!(this.wrote(cx, written))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.out.advance(n.min(waiting));
            if n > waiting {
                return Poll::Ready(Ok(n - waiting));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        // The peer may have disconnected already, in which case the error is irrelevant.
        let ended = AsyncWriteExt::shutdown(self).await;
        if self.intake.is_refused() && ended.is_ok() {
            let _ = timeout(LINGER, self.drain()).await;
        }
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        self.socket.as_raw_fd()
    }
}

impl Ssl for Connection {}
impl Peek for Connection {}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Connection {
    // The peer's address is cached: querying the kernel would be a syscall per request.
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("arrival", &self.conn_info).finish_non_exhaustive()
    }
}
