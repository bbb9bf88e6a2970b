//! A client's connection as we hand it to Pingora: unbuffered reads, one write for a head and its
//! body, a limit on how long and how large a request head may get, and a way back to the bare
//! socket for a WebSocket. What the bytes mean is not known here.

use super::first_line::{FirstLine, Line};
use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;

/// What is written before it is flushed is joined into one send, up to this size: an answer's head
/// and a small body leave in one packet. A larger piece goes out beside what waits, uncopied.
const JOIN: usize = 8 << 10;

const SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Where a connection is in its cycle; the reader needs to know when a head begins and ends.
const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BODY: u8 = 2;

/// The bare socket under a connection.
#[derive(Debug)]
pub enum Socket {
    /// TCP, with Nagle's algorithm off.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// What a connection allows a request head to take.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// From a head's first incomplete read to its end; answered with 408 beyond (RFC 9110 §15.5.9).
    pub time: Duration,
    /// Bytes; a head that has no end within twice as many is cut off with 431 (RFC 6585 §5).
    pub size: usize,
}

/// A client's connection.
pub struct Connection {
    socket: Socket,
    peer: SocketAddr,
    listener: u16,
    limits: HeadLimits,
    phase: AtomicU8,
    head: usize,
    line: FirstLine,
    deadline: Option<Pin<Box<Sleep>>>,
    out: BytesMut,
}

impl Connection {
    /// Wraps a socket that was accepted by the listener of that index. `peer` is `None` for a Unix
    /// socket, whose client counts as 127.0.0.1.
    pub fn new(socket: Socket, peer: Option<SocketAddr>, listener: u16, limits: HeadLimits) -> Self {
        let peer = peer.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        let phase = AtomicU8::new(IDLE);
        Self {
            socket,
            peer,
            listener,
            limits,
            phase,
            head: 0,
            line: FirstLine::default(),
            deadline: None,
            out: BytesMut::new(),
        }
    }

    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The index of the listener it came in by.
    pub fn listener(&self) -> u16 {
        self.listener
    }

    /// The head is complete: its limits rest until the next request. Tells how its first line looked.
    ///
    /// Takes `&self` because Pingora lends the stream shared while a request is under way.
    pub fn head_complete(&self, method: &str) -> Line {
        self.phase.store(BODY, Ordering::Relaxed);
        self.line.verdict(method)
    }

    /// The next bytes read are the beginning of a new head.
    pub fn next_request(&mut self) {
        *self.phase.get_mut() = IDLE;
        self.head = 0;
        self.line = FirstLine::default();
        self.deadline = None;
    }

    /// The bare socket, for a tunnel. Nothing may wait unflushed by then.
    pub fn into_socket(self) -> Socket {
        self.socket
    }

    /// Notes what a read of a head brought, and whether the head has had its time.
    fn watch_head(&mut self, cx: &mut Context<'_>, read: Poll<io::Result<usize>>) -> Poll<io::Result<()>> {
        match read {
            Poll::Ready(Ok(n)) => {
                self.head += n;
                *self.phase.get_mut() = HEAD;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // Between two requests Pingora's keep-alive timer watches; a timer of ours is armed only
            // when a head comes in pieces, so an ordinary request never touches one.
            Poll::Pending if *self.phase.get_mut() == IDLE => Poll::Pending,
            Poll::Pending => {
                let time = self.limits.time;
                let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
                ready!(deadline.as_mut().poll(cx));
                self.refuse(SLOW);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "request head took too long")))
            }
        }
    }

    /// A last word that nobody waits for: the connection is closed behind it.
    fn refuse(&self, answer: &[u8]) {
        let _ = match &self.socket {
            Socket::Tcp(socket) => socket.try_write(answer),
            Socket::Unix(socket) => socket.try_write(answer),
        };
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let n = ready!(self.socket.poll_write(cx, &self.out))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
        }
        self.out.clear();
        Poll::Ready(Ok(()))
    }
}

impl Socket {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let in_head = *this.phase.get_mut() != BODY;
        // Pingora reads again only when the head is not complete yet.
        // A whole head that is too large gets a proper answer; this ends one that goes on for ever.
        if in_head && this.head >= this.limits.size.saturating_mul(2) {
            this.refuse(LARGE);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "request head too large")));
        }
        let before = buf.filled().len();
        let read = match &mut this.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
        };
        if !in_head {
            // Between a request and its answer Pingora listens with one byte's room for the client's
            // end, and would then drop what the client had sent behind the request. A client that only
            // ended its direction waits for all its answers (RFC 9112 §9.6); the next read of a head
            // finds the end again.
            let probe_found_end = before == 0 && buf.capacity() == 1 && buf.filled().is_empty();
            let read =
                if probe_found_end && matches!(read, Poll::Ready(Ok(()))) { Poll::Pending } else { read };
            // Nothing more to do here means that the backend is waited for: the part of its answer that
            // came must not wait with us. A small answer that comes whole never gets here in between.
            if read.is_pending() && !this.out.is_empty() && matches!(this.poll_out(cx), Poll::Ready(Err(_))) {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            return read;
        }
        let n = buf.filled().len() - before;
        this.line.see(&buf.filled()[before..]);
        this.watch_head(cx, read.map_ok(|()| n))
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
                return this.socket.poll_write(cx, bytes);
            }
            let parts = [IoSlice::new(&this.out), IoSlice::new(bytes)];
            let n = ready!(this.socket.poll_write_vectored(cx, &parts))?;
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
        match &mut this.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        // The peer may be gone already; there is nobody left to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_raw_fd(),
            Socket::Unix(socket) => socket.as_raw_fd(),
        }
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
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}
