//! What goes out to one side: written at once as far as the side takes it, the rest kept until it
//! does. While nothing waits there is no buffer. What the bytes mean stays out.

use crate::tunnel::Leg;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// How far the side's inbound stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Behind what waits comes the end.
    Ending,
    /// The end was delivered.
    Done,
    /// The side takes nothing more.
    Broken,
}

/// What goes out to one side.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Accepted for delivery; what lies before `written` is on its way.
    backlog: Vec<u8>,
    written: usize,
    state: State,
    /// The leg may hold what was written in a buffer of its own.
    unflushed: bool,
    /// Something of the backlog was written since this was last asked.
    drained: bool,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { backlog: Vec::new(), written: 0, state: State::Open, unflushed: false, drained: false }
    }

    /// Nothing waits, or nothing will ever be taken.
    pub(super) fn is_idle(&self) -> bool {
        match self.state {
            State::Open => self.backlog.is_empty() && !self.unflushed,
            State::Ending => false,
            State::Done | State::Broken => true,
        }
    }

    /// Bytes wait for a side that takes none.
    pub(super) fn is_blocked(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether bytes that waited went out since this was last asked.
    pub(super) fn take_drained(&mut self) -> bool {
        std::mem::take(&mut self.drained)
    }

    /// Accepts `bytes`; they go out with the next [`Outbox::deliver`].
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.state == State::Open {
            self.backlog.extend_from_slice(bytes);
        }
    }

    /// Nothing comes behind what waits but the end. Whether that was news.
    pub(super) fn end(&mut self) -> bool {
        let news = self.state == State::Open;
        if news {
            self.state = State::Ending;
        }
        news
    }

    /// The side is gone: what waits is dropped, and whatever comes.
    pub(super) fn give_up(&mut self) {
        self.state = State::Broken;
        self.backlog = Vec::new();
        self.written = 0;
        self.unflushed = false;
    }

    /// Writes `bytes` at once as far as the side takes them and keeps the rest. Nothing waits here.
    pub(super) fn send(&mut self, leg: &mut Leg, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        if self.state != State::Open || bytes.is_empty() {
            return Ok(());
        }
        self.unflushed = leg.buffers();
        let taken = match Pin::new(leg).poll_write(cx, bytes) {
            Poll::Pending => 0,
            Poll::Ready(result) => result?,
        };
        self.backlog.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Writes what waits and, behind the last byte, the end. Ready when nothing waits any more.
    pub(super) fn deliver(&mut self, leg: &mut Leg, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.backlog.len() {
            self.unflushed = leg.buffers();
            let taken = ready!(Pin::new(&mut *leg).poll_write(cx, &self.backlog[self.written..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
            self.drained = true;
        }
        if self.written > 0 {
            // Freed, not kept for next time: most tunnels are idle most of the time.
            self.backlog = Vec::new();
            self.written = 0;
        }
        if self.state == State::Ending {
            ready!(Pin::new(leg).poll_shutdown(cx))?;
            self.state = State::Done;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing more comes for now: what the leg holds back is flushed.
    pub(super) fn settle(&mut self, leg: &mut Leg, cx: &mut Context<'_>) -> io::Result<()> {
        if self.unflushed
            && let Poll::Ready(result) = Pin::new(leg).poll_flush(cx)
        {
            result?;
            self.unflushed = false;
        }
        Ok(())
    }
}
