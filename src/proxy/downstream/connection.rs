//! A client's connection as we hand it to Pingora: unbuffered reads, one write for a head and its
//! body, a limit on how long and how large a request head may get, and a way back to the bare
//! socket for a WebSocket. A read never goes past a request's end: what came behind it is kept for
//! the next one. Where that end is, `boundary` knows.
//!
//! Pingora gets a head when it is complete and was judged (see `request_head`). While one is on its way in pieces, it gets
//! empty lines, which a parser skips (RFC 9112 §2.2): Pingora's own timer, which answers nothing, begins anew with each.

use super::lazy_timer::LazyTimer;
use super::min_rate::Pace;
use super::session_control::{EndedBy, SessionControl};
use super::socket_watch::{Gone, SocketWatch};
use super::upload_gate::Gate;
use crate::net::conn_info::ConnInfo;
use crate::net::downstream_io::Socket;
use crate::net::http1::message_framing::{Boundary, ParseState, Reading};
use crate::proxy::failure::Failure;
use crate::proxy::request::h1_head::SentHead;
use crate::proxy::request::head_buffer::HeadIntake;
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

/// What is written before it is flushed is joined into one send, up to this size: an answer's head
/// and a small body leave in one packet. A larger piece goes out beside what waits, uncopied.
const JOIN: usize = 8 << 10;

/// While a response is awaited, so much of what the client sends behind its request is read, to find its end.
const AHEAD: usize = 16 << 10;

/// How long, and how much of, what a client sends is read after its request was refused: a connection that is closed with
/// bytes unread is reset, and the response may be lost with it (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// What a connection allows a request to take.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// From a head's first incomplete read to its end; answered with 408 beyond (RFC 9110 §15.5.9).
    pub time: Duration,
    /// Bytes; a head that has no end within twice as many is cut off with 431 (RFC 6585 §5).
    pub size: usize,
    /// How long an idle connection is kept: Pingora waits no longer for a read.
    pub idle: Duration,
    /// The lowest rate of a body; answered with 408 below.
    pub body_rate: Option<MinRate>,
    /// The lowest rate at which a response is taken.
    pub send_rate: Option<MinRate>,
}

/// A client's connection.
pub struct Connection {
    socket: Socket,
    arrival: ConnInfo,
    limits: RequestLimits,
    boundary: Boundary,
    control: SessionControl,
    /// What was read behind the end of the request under way.
    behind: BytesMut,
    /// The head of the request under way, between the client and the parser.
    intake: HeadIntake,
    deadline: Option<Pin<Box<Sleep>>>,
    announcement: Option<Pin<Box<Sleep>>>,
    /// Bounds the silence of the backend.
    silence: LazyTimer,
    /// Watches for the departure of a client of which nothing more is read.
    gone: Option<Gone>,
    /// The end of the client's direction was read behind the request under way.
    is_half_closed: bool,
    /// The rates of the request's body and of the response, once the client was waited for.
    body_pace: Option<Box<Pace>>,
    send_pace: Option<Box<Pace>>,
    /// Bytes that the client had acknowledged when it was last looked at.
    acknowledged: u64,
    out: BytesMut,
    /// The listener's room for it.
    permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Wraps a socket that was accepted. Bytes that were read from it before, `early`, are the first
    /// of its first request.
    pub fn new(
        socket: Socket,
        early: BytesMut,
        arrival: ConnInfo,
        limits: RequestLimits,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            socket,
            arrival,
            limits,
            boundary: Boundary::default(),
            control: SessionControl::default(),
            behind: early,
            intake: HeadIntake::default(),
            deadline: None,
            announcement: None,
            silence: LazyTimer::default(),
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
        self.arrival.local.or_else(|| self.socket.local_addr())
    }

    /// From where it came, and how.
    pub fn arrival(&self) -> &ConnInfo {
        &self.arrival
    }

    /// The head is complete, and this is how the parser read it: so many bytes, these fields.
    pub fn compare(&self, size: usize, headers: &HeaderMap) -> Reading {
        if size == self.intake.given_size(self.head_size()) {
            self.boundary.compare(headers)
        } else {
            Reading::Doubtful
        }
    }

    /// Bytes of the head as it was sent.
    pub(in crate::proxy) fn head_size(&self) -> usize {
        self.boundary.head()
    }

    /// The status and the reason with which the request under way is refused, whatever the parser says.
    pub fn refusal(&self) -> Option<(StatusCode, &'static str)> {
        let failure = self.intake.refusal()?;
        Some((failure.status().unwrap_or(StatusCode::BAD_REQUEST), failure.token()))
    }

    /// What was sent, where the parser got another head. It is given out once.
    pub(in crate::proxy) fn take_sent(&self) -> Option<Box<SentHead>> {
        self.intake.take_sent()
    }

    /// What the phases of a request tell it.
    pub(in crate::proxy) fn control(&self) -> &SessionControl {
        &self.control
    }

    /// What notices a client that leaves while nothing is read; `None` when the process has no descriptor left.
    pub(in crate::proxy) fn watch(&self) -> Option<SocketWatch> {
        Some(SocketWatch::new(self.socket.another_handle().ok()?, self.control.finishes()))
    }

    /// Whether the client has left, as far as the kernel says at once: behind unread bytes nothing is seen.
    pub(in crate::proxy) fn has_left(&self) -> bool {
        match self.socket.peek_now() {
            Ok(0) => !self.control.finishes(),
            Ok(_) => false,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Whether a part of the request's body is still to come.
    pub(in crate::proxy) fn is_in_body(&self) -> bool {
        self.boundary.stage() == ParseState::Body
    }

    /// Ends the sending direction of a plain connection, so that the client sees the end of its response. Over TLS the
    /// close of the connection does it.
    pub(in crate::proxy) fn end_sending(&self) {
        self.socket.end_sending();
    }

    /// Whether the request's body broke the rules of its framing.
    pub fn is_broken(&self) -> bool {
        self.boundary.stage() == ParseState::Broken
    }

    /// The next bytes read are the beginning of a new head. Returns whether the request before is
    /// over: when it is not, nothing that comes may be taken for a request.
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

    /// Waits for the first byte of the next request; false at the client's end, an error at the connection's.
    pub async fn await_request(&mut self) -> io::Result<bool> {
        if self.behind.is_empty() {
            self.socket.read_buf(&mut self.behind).await?;
        }
        Ok(!self.behind.is_empty())
    }

    /// The head of the next request has to be complete within its time from now on, also if it has not begun.
    pub fn expect_head(&mut self) {
        self.deadline = Some(Box::pin(tokio::time::sleep(self.limits.time)));
    }

    /// The bare socket, for a tunnel, what was read behind the request, and the listener's room for it. Nothing may wait
    /// unflushed by then.
    pub fn into_parts(self) -> (Socket, Bytes, Option<OwnedSemaphorePermit>) {
        (self.socket, self.behind.freeze(), self.permit)
    }

    /// A head's next bytes are awaited: has it had its time?
    ///
    /// Between two requests Pingora's keep-alive timer watches; a timer of ours is armed only when a
    /// head comes in pieces, or by [`Self::expect_head`], so an ordinary request never touches one.
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
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "request head took too long")))
    }

    /// Keeps Pingora's timer from ending the wait for a head before its deadline.
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

    /// Reads what belongs to the request under way, first what was kept for it.
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
                    // Part of a head is here: its end is told to the log.
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
                // Nothing read means the client's end to the reader, and this is not it.
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

    /// A body's next bytes are awaited: is it too slow?
    fn poll_body_pace(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(rate) = self.limits.body_rate.filter(|_| self.control.is_paced()) else {
            return Poll::Pending;
        };
        let pace = self.body_pace.get_or_insert_with(|| Box::new(Pace::new(rate)));
        ready!(pace.poll_slow(cx));
        self.control.end(EndedBy::Body);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "request body is too slow")))
    }

    /// Between a request and the end of its response the client's end is listened for.
    ///
    /// What the client sends by then is its next request, and is kept. The end of its direction says that it has left, or
    /// that it waits for all its responses (RFC 9112 §9.6): the route's `on_client_close` tells which. In the second case
    /// the next read of a head finds the end again, and a reset is still noticed.
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

    /// Nothing more is read of the client: its departure is still noticed.
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

    /// The response is awaited or under way, and nothing of it is being written: is the backend silent for too long?
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(deadline) = self.control.deadline() else { return Poll::Pending };
        ready!(self.silence.poll(deadline, cx));
        self.control.end(EndedBy::Backend);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the backend is silent")))
    }

    /// What a write of the response came to, or whether the client takes it too slowly.
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => {
                if let Some(pace) = &mut self.send_pace {
                    // What TCP takes is in the kernel's buffer: what the client takes, its acknowledgements say.
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
                // The kernel wants more only when a good part of its buffer is free: a client may read all that time.
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

    /// Reads what still comes, up to a limit.
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
    io::Error::new(io::ErrorKind::ConnectionAborted, "the client has left")
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "request body breaks its framing")
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
            // The response leaves first.
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
        // Nothing from the client means that somebody is waited for: the part of an answer that came
        // must not wait with us. A small answer that comes whole never gets here in between.
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
        // The peer may be gone already; there is nobody left to tell.
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
    // The peer's address is kept above: asking the kernel again would be a syscall a request.
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("arrival", &self.arrival).finish_non_exhaustive()
    }
}
