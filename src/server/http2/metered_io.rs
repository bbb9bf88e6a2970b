//! I/O under an HTTP/2 connection, with limits that h2 lacks: floods of empty frames, incomplete request
//! headers, and clients that do not read. Malformed messages that h2 accepts are changed so that it rejects
//! them: see `field_sections`.

use super::field_sections::FieldSections;
use super::flood_limit::Budget;
use super::frame_scan::{CONTINUATION, FrameKind, Frames, HEADERS};
use super::rejected_by_h2::Heads;
use crate::net::downstream_io::Socket;
use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;

/// The length of the client preface (RFC 9113 §3.4).
pub(super) const PREFACE: usize = 24;

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameTimeouts {
    /// From a header's first incomplete read to its end.
    pub(super) head: Duration,
    /// The maximum wait for a client that does not read.
    pub(super) send: Duration,
}

/// Signals that the connection must end; it is no longer read.
#[derive(Debug, Default)]
pub(super) struct WakeHandle {
    raised: Notify,
    malformed: AtomicBool,
}

impl WakeHandle {
    /// Waits for the signal. Returns whether the client sent something malformed; otherwise it floods the
    /// connection.
    pub(super) async fn raised(&self) -> bool {
        self.raised.notified().await;
        self.malformed.load(Ordering::Relaxed)
    }

    fn raise(&self, malformed: bool) {
        self.malformed.store(malformed, Ordering::Relaxed);
        self.raised.notify_one();
    }
}

/// The flag END_STREAM, and the distance of the flags from the end of a frame header (RFC 9113 §4.1).
const END_STREAM: u8 = 1;
const FLAGS: usize = 5;

/// The socket of an HTTP/2 connection.
pub(super) struct Meter {
    socket: Socket,
    /// The bytes read before HTTP/2 was detected.
    early: BytesMut,
    received: Frames,
    sent: Frames,
    budget: Budget,
    sections: FieldSections,
    ended: bool,
    alarm: Arc<WakeHandle>,
    timeouts: FrameTimeouts,
    // Armed only while a header is incomplete or a write is pending: an ordinary connection uses neither.
    head: Option<Pin<Box<Sleep>>>,
    send: Option<Pin<Box<Sleep>>>,
}

impl Meter {
    /// Wraps `socket`, from which `early` was read before.
    pub(super) fn new(
        socket: Socket,
        early: BytesMut,
        timeouts: FrameTimeouts,
        heads: Arc<Heads>,
    ) -> (Self, Arc<WakeHandle>) {
        let alarm = Arc::<WakeHandle>::default();
        let meter = Self {
            socket,
            early,
            received: Frames::behind(PREFACE),
            sent: Frames::behind(0),
            budget: Budget::full(),
            sections: FieldSections::new(heads),
            ended: false,
            alarm: Arc::clone(&alarm),
            timeouts,
            head: None,
            send: None,
        };
        (meter, alarm)
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let here = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..here]);
        self.early.advance(here);
        if self.early.is_empty() {
            self.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Scans received bytes. Malformed ones that h2 accepts are changed so that it rejects them.
    fn follow(&mut self, bytes: &mut [u8]) -> Result<(), ClientFault> {
        // The position of the current field section's flags, if they are in these bytes.
        let mut flags = None;
        let mut at = 0;
        while at < bytes.len() {
            let piece = self.received.next(&bytes[at..]);
            let end = at + piece.length;
            match piece.what {
                FrameKind::Head(frame) => {
                    self.budget.on_frame_received(frame).map_err(|_| ClientFault::Flood)?;
                    if frame.ends_section() {
                        self.head = None;
                    }
                    if matches!(frame.kind, HEADERS | CONTINUATION) {
                        self.sections.begin(frame);
                    }
                    self.sections.on_frame_received(frame);
                    if frame.kind == HEADERS {
                        flags = end.checked_sub(FLAGS);
                    }
                }
                FrameKind::Section => {
                    if self.sections.read(&mut bytes[at..end]).is_err() {
                        // h2 rejects trailers without END_STREAM with a stream error. If h2 already has the
                        // frame header, a connection error is used (RFC 9113 §5.4.2 allows it).
                        let flags =
                            flags.and_then(|flags| bytes.get_mut(flags)).ok_or(ClientFault::Malformed)?;
                        *flags &= !END_STREAM;
                    }
                }
                FrameKind::Other => {}
            }
            at = end;
        }
        Ok(())
    }

    /// Nothing was received: checks the time limit of the current header.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.received.within_section() {
            self.head = None;
            return Poll::Pending;
        }
        ready!(expired(&mut self.head, self.timeouts.head, cx));
        self.sections.expire();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "request header took too long")))
    }

    /// Handles the result of a write, and checks its time limit.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => {
                self.send = None;
                let mut left = count;
                for part in parts {
                    let here = left.min(part.len());
                    let (budget, sections) = (&mut self.budget, &mut self.sections);
                    self.sent.follow(&part[..here], |frame| {
                        budget.on_frame_sent(frame);
                        sections.on_frame_sent(frame);
                    });
                    left -= here;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(expired(&mut self.send, self.timeouts.send, cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
            }
        }
    }
}

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientFault {
    Flood,
    Malformed,
}

/// Returns whether the time limit that began at the first call has passed.
fn expired(timer: &mut Option<Pin<Box<Sleep>>>, time: Duration, cx: &mut Context<'_>) -> Poll<()> {
    timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(time))).as_mut().poll(cx)
}

impl AsyncRead for Meter {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        match this.poll_bytes(cx, buf) {
            Poll::Pending => return this.poll_head(cx),
            Poll::Ready(read) => read?,
        }
        let Err(fault) = this.follow(&mut buf.filled_mut()[before..]) else { return Poll::Ready(Ok(())) };
        // The task that drives the connection sends GOAWAY; nothing else wakes it.
        this.ended = true;
        buf.set_filled(before);
        this.alarm.raise(fault == ClientFault::Malformed);
        Poll::Pending
    }
}

impl AsyncWrite for Meter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.wrote(cx, &[IoSlice::new(bytes)], written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, parts);
        this.wrote(cx, parts, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.socket).poll_flush(cx);
        this.wrote(cx, &[], flushed.map_ok(|()| 0)).map_ok(|_| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
