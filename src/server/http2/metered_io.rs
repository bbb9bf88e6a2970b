//! The socket under an HTTP/2 connection. h2 bounds what it buffers; what it has no bound for ends here: floods
//! of frames that carry nothing, a request's head that does not come to its end, and a client that does
//! not take what it is sent. Malformed messages that h2 does not refuse are made ones that it does: see `sections`.

use super::field_sections::Sections;
use super::flood_limit::Budget;
use super::frame_scan::{CONTINUATION, Frames, HEADERS, What};
use super::refused_heads::Heads;
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

/// The bytes before a client's first frame (RFC 9113 §3.4).
pub(super) const PREFACE: usize = 24;

/// How patient a meter is.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameTimeouts {
    /// From a head's first incomplete read to its end.
    pub(super) head: Duration,
    /// The longest wait for a client that does not read.
    pub(super) send: Duration,
}

/// Says that the connection must end: nothing is read from it any more.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    raised: Notify,
    malformed: AtomicBool,
}

impl Alarm {
    /// Waits for it. Returns whether the client sent something malformed; else it floods the connection.
    pub(super) async fn raised(&self) -> bool {
        self.raised.notified().await;
        self.malformed.load(Ordering::Relaxed)
    }

    fn raise(&self, malformed: bool) {
        self.malformed.store(malformed, Ordering::Relaxed);
        self.raised.notify_one();
    }
}

/// The flag END_STREAM, and how many bytes before the end of a frame's head the flags are (RFC 9113 §4.1).
const END_STREAM: u8 = 1;
const FLAGS: usize = 5;

/// The socket of a connection that speaks HTTP/2.
pub(super) struct Meter {
    socket: Socket,
    /// What was read before HTTP/2 was known to be spoken.
    early: BytesMut,
    came: Frames,
    went: Frames,
    budget: Budget,
    sections: Sections,
    ended: bool,
    alarm: Arc<Alarm>,
    patience: FrameTimeouts,
    // Armed only while a head is incomplete, or a write waits: an ordinary connection touches neither.
    head: Option<Pin<Box<Sleep>>>,
    send: Option<Pin<Box<Sleep>>>,
}

impl Meter {
    /// Over `socket`, from which `early` was read before.
    pub(super) fn new(
        socket: Socket,
        early: BytesMut,
        patience: FrameTimeouts,
        heads: Arc<Heads>,
    ) -> (Self, Arc<Alarm>) {
        let alarm = Arc::<Alarm>::default();
        let meter = Self {
            socket,
            early,
            came: Frames::behind(PREFACE),
            went: Frames::behind(0),
            budget: Budget::full(),
            sections: Sections::new(heads),
            ended: false,
            alarm: Arc::clone(&alarm),
            patience,
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

    /// Bytes came. What is malformed in a way that h2 overlooks is changed into what it refuses.
    fn follow(&mut self, bytes: &mut [u8]) -> Result<(), ClientFault> {
        // Where the flags of the field section under way are, when they came with these bytes.
        let mut flags = None;
        let mut at = 0;
        while at < bytes.len() {
            let piece = self.came.next(&bytes[at..]);
            let end = at + piece.length;
            match piece.what {
                What::Head(frame) => {
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
                What::Section => {
                    if self.sections.read(&mut bytes[at..end]).is_err() {
                        // Trailers that do not end their stream h2 refuses with an error of that stream. Those whose
                        // frame's head it has already are an error of the connection (RFC 9113 §5.4.2 allows it).
                        let flags =
                            flags.and_then(|flags| bytes.get_mut(flags)).ok_or(ClientFault::Malformed)?;
                        *flags &= !END_STREAM;
                    }
                }
                What::Other => {}
            }
            at = end;
        }
        Ok(())
    }

    /// Nothing came: has the head that is under way had its time?
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.came.within_section() {
            self.head = None;
            return Poll::Pending;
        }
        ready!(expired(&mut self.head, self.patience.head, cx));
        self.sections.expire();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "request head took too long")))
    }

    /// What of these bytes was written, or how long nothing was.
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
                    self.went.follow(&part[..here], |frame| {
                        budget.on_frame_sent(frame);
                        sections.on_frame_sent(frame);
                    });
                    left -= here;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(expired(&mut self.send, self.patience.send, cx));
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

/// Whether the time is over that began when this was asked first.
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
        let Err(wrong) = this.follow(&mut buf.filled_mut()[before..]) else { return Poll::Ready(Ok(())) };
        // Whoever drives the connection says goodbye for us; nothing else wakes it.
        this.ended = true;
        buf.set_filled(before);
        this.alarm.raise(wrong == ClientFault::Malformed);
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
