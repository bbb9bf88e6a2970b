//! What goes out to one side: written at once as far as the side takes it, the rest kept until it
//! does. While nothing waits there is no buffer. What the bytes mean stays out.

use super::replay_buffer::ReplayBuffer;
use crate::tunnel::TunnelIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// How far the side's inbound stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteState {
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
pub(super) struct WriteBuffer {
    /// Accepted for delivery; what lies before `written` is on its way.
    backlog: Vec<u8>,
    written: usize,
    state: WriteState,
    /// The leg may hold what was written in a buffer of its own.
    unflushed: bool,
    /// Something of the backlog was written since this was last asked.
    drained: bool,
    /// What was written is let go message by message, for the side may be lost and another one told.
    kept: Option<Box<ReplayBuffer>>,
}

impl WriteBuffer {
    pub(super) fn new() -> Self {
        Self {
            backlog: Vec::new(),
            written: 0,
            state: WriteState::Open,
            unflushed: false,
            drained: false,
            kept: None,
        }
    }

    /// From now on, messages that are not wholly written can be said again.
    pub(super) fn keep(&mut self, kept: Box<ReplayBuffer>) {
        self.kept = Some(kept);
    }

    /// What watches the frames of the bytes to come.
    pub(super) fn watch(&mut self) -> Option<&mut ReplayBuffer> {
        self.kept.as_deref_mut()
    }

    /// Writes nothing until [`Outbox::attach`]: the side takes nothing more, or is not there.
    pub(super) fn hold(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.set_away(true);
            self.unflushed = false;
        }
    }

    /// Goes back to the start of the message that was cut and holds it; `false` when that is gone.
    pub(super) fn rewind(&mut self) -> bool {
        let Some(kept) = &mut self.kept else { return false };
        let whole = kept.rewind(&mut self.backlog, self.written);
        kept.set_away(true);
        self.written = 0;
        self.unflushed = false;
        whole
    }

    /// There is somebody to write to.
    pub(super) fn attach(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.set_away(false);
        }
    }

    /// How much more may come for a side that is not there; `None` when it is.
    pub(super) fn room(&self) -> Option<usize> {
        let away = self.kept.as_ref().filter(|kept| kept.is_away());
        away.map(|kept| kept.room(&self.backlog))
    }

    /// Nothing waits, or nothing will ever be taken.
    pub(super) fn is_idle(&self) -> bool {
        match self.state {
            WriteState::Open => !self.waits() && !self.unflushed,
            WriteState::Ending => false,
            WriteState::Done | WriteState::Broken => true,
        }
    }

    /// Nothing is to be done for the side.
    #[inline]
    pub(super) fn rests(&self) -> bool {
        // Whatever waited and went out was freed, so that it was told is known too.
        self.backlog.capacity() == 0
            && self.state == WriteState::Open
            && !self.unflushed
            && !self.drained
            && self.kept.is_none()
    }

    /// Bytes wait for a side that takes none.
    pub(super) fn is_blocked(&self) -> bool {
        self.waits() && self.room().is_none()
    }

    /// Something is still to be written.
    pub(super) fn waits(&self) -> bool {
        self.written < self.backlog.len()
    }

    /// Whether bytes that waited went out since this was last asked.
    pub(super) fn take_drained(&mut self) -> bool {
        std::mem::take(&mut self.drained)
    }

    /// Accepts a frame of the gateway's own; it goes out with the next [`Outbox::deliver`].
    pub(super) fn push(&mut self, frame: &[u8]) {
        match &mut self.kept {
            _ if self.state != WriteState::Open => {}
            None => self.backlog.extend_from_slice(frame),
            Some(kept) => kept.enter_own(&mut self.backlog, frame),
        }
    }

    /// Accepts `bytes` of the other side, which begin at `at` in what was followed last.
    pub(super) fn pass(&mut self, bytes: &[u8], at: usize) {
        match &mut self.kept {
            _ if self.state != WriteState::Open => {}
            None => self.backlog.extend_from_slice(bytes),
            Some(kept) => kept.enter(&mut self.backlog, bytes, at),
        }
    }

    /// Nothing comes behind what waits but the end. Whether that was news.
    pub(super) fn end(&mut self) -> bool {
        let news = self.state == WriteState::Open;
        if news {
            self.state = WriteState::Ending;
        }
        news
    }

    /// The side is gone: what waits is dropped, and whatever comes.
    pub(super) fn give_up(&mut self) {
        self.state = WriteState::Broken;
        self.kept = None;
        self.backlog = Vec::new();
        self.written = 0;
        self.unflushed = false;
    }

    /// Writes `bytes` at once as far as the side takes them and keeps the rest. Nothing waits here.
    pub(super) fn send(&mut self, leg: &mut TunnelIo, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        if self.state != WriteState::Open || bytes.is_empty() {
            return Ok(());
        }
        if self.kept.is_some() {
            return self.send_kept(leg, bytes, cx);
        }
        let taken = match leg.try_send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unflushed = leg.buffers();
                // Leaves the waker behind that is to tell when more is taken.
                match Pin::new(leg).poll_write(cx, bytes) {
                    Poll::Pending => 0,
                    Poll::Ready(result) => result?,
                }
            }
            taken => taken?,
        };
        if taken < bytes.len() {
            self.backlog.extend_from_slice(&bytes[taken..]);
        }
        Ok(())
    }

    /// As [`Outbox::send`], and what another side would have to be told stays.
    #[cold]
    fn send_kept(&mut self, leg: &mut TunnelIo, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        let free = !self.waits() && self.room().is_none();
        let Some(kept) = &mut self.kept else { return Ok(()) };
        let mut result = Ok(());
        let mut taken = 0;
        if free {
            self.unflushed = leg.buffers();
            match Pin::new(leg).poll_write(cx, bytes) {
                Poll::Pending => {}
                Poll::Ready(Ok(count)) => taken = count,
                Poll::Ready(Err(error)) => result = Err(error),
            }
        }
        if taken == bytes.len() {
            kept.passed(&mut self.backlog, &mut self.written, bytes);
        } else {
            kept.enter(&mut self.backlog, bytes, 0);
            self.written += taken;
        }
        result
    }

    /// Writes what waits and, behind the last byte, the end. Ready when nothing waits any more.
    #[inline]
    pub(super) fn deliver(&mut self, leg: &mut TunnelIo, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // As nearly always.
        if self.backlog.is_empty() && self.state == WriteState::Open && self.kept.is_none() {
            return Poll::Ready(Ok(()));
        }
        self.deliver_backlog(leg, cx)
    }

    fn deliver_backlog(&mut self, leg: &mut TunnelIo, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.room() {
            None => {}
            Some(0) => return Poll::Pending,
            Some(_) => return Poll::Ready(Ok(())),
        }
        while self.written < self.backlog.len() {
            self.unflushed = leg.buffers();
            let taken = ready!(Pin::new(&mut *leg).poll_write(cx, &self.backlog[self.written..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
            self.drained = true;
        }
        match &mut self.kept {
            None if self.written > 0 => {
                // Freed, not kept for next time: most tunnels are idle most of the time.
                self.backlog = Vec::new();
                self.written = 0;
            }
            None => {}
            Some(kept) => kept.trim(&mut self.backlog, &mut self.written),
        }
        if self.state == WriteState::Ending {
            ready!(Pin::new(leg).poll_shutdown(cx))?;
            self.state = WriteState::Done;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing more comes for now: what the leg holds back is flushed.
    pub(super) fn drop_written(&mut self, leg: &mut TunnelIo, cx: &mut Context<'_>) -> io::Result<()> {
        if self.unflushed
            && let Poll::Ready(result) = Pin::new(leg).poll_flush(cx)
        {
            result?;
            self.unflushed = false;
        }
        Ok(())
    }
}
