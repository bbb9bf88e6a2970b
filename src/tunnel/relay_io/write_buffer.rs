//! Write buffer of a side: bytes are written at once as far as possible, the rest is kept. Without waiting
//! bytes there is no allocation.

use super::replay_buffer::ReplayBuffer;
use crate::tunnel::TunnelIo;
use crate::tunnel::state::ReplayState;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// The state of the outgoing stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteState {
    Open,
    /// The stream ends after the waiting bytes.
    Ending,
    /// The same, but what was sent is incomplete.
    EndingIncomplete,
    /// The end was sent.
    Done,
    /// The side reads nothing more.
    Broken,
}

/// The write buffer of a side.
#[derive(Debug)]
pub(in crate::tunnel) struct WriteBuffer {
    /// Bytes to send; those before `written` have been sent.
    backlog: Vec<u8>,
    written: usize,
    state: WriteState,
    /// The connection may buffer written bytes.
    unflushed: bool,
    /// Bytes of the backlog were written since the last check.
    drained: bool,
    /// Keeps written bytes until their message is complete, for failover.
    replay: Option<Box<ReplayBuffer>>,
}

impl WriteBuffer {
    pub(in crate::tunnel) fn new() -> Self {
        Self {
            backlog: Vec::new(),
            written: 0,
            state: WriteState::Open,
            unflushed: false,
            drained: false,
            replay: None,
        }
    }

    /// From now on, incompletely written messages can be replayed.
    pub(in crate::tunnel) fn keep(&mut self, kept: Box<ReplayBuffer>) {
        self.replay = Some(kept);
    }

    /// The replay buffer that tracks the parsed frames.
    pub(in crate::tunnel) fn watch(&mut self) -> Option<&mut ReplayBuffer> {
        self.replay.as_deref_mut()
    }

    /// Writes nothing until [`WriteBuffer::attach`]: the side reads nothing more, or is absent.
    pub(in crate::tunnel) fn hold(&mut self) {
        if let Some(kept) = &mut self.replay {
            kept.set_away(true);
            self.unflushed = false;
        }
    }

    /// Rewinds to the start of the incomplete message and holds it; `false` if it was discarded.
    pub(in crate::tunnel) fn rewind(&mut self) -> bool {
        let Some(kept) = &mut self.replay else { return false };
        let whole = kept.rewind(&mut self.backlog, self.written);
        kept.set_away(true);
        self.written = 0;
        self.unflushed = false;
        whole
    }

    /// The side is connected again.
    pub(in crate::tunnel) fn attach(&mut self) {
        if let Some(kept) = &mut self.replay {
            kept.set_away(false);
        }
    }

    /// The remaining capacity for an absent side; `None` if it is connected.
    pub(in crate::tunnel) fn room(&self) -> Option<usize> {
        let away = self.replay.as_ref().filter(|kept| kept.is_away());
        away.map(|kept| kept.room(&self.backlog))
    }

    /// Returns whether no bytes wait, or none will ever be accepted.
    pub(in crate::tunnel) fn is_idle(&self) -> bool {
        match self.state {
            WriteState::Open => !self.waits() && !self.unflushed,
            WriteState::Ending | WriteState::EndingIncomplete => false,
            WriteState::Done | WriteState::Broken => true,
        }
    }

    /// Returns whether there is nothing to do for the side.
    #[inline]
    pub(in crate::tunnel) fn rests(&self) -> bool {
        // The backlog is freed when it was sent, so an empty capacity means that the drain was reported.
        self.backlog.capacity() == 0
            && self.state == WriteState::Open
            && !self.unflushed
            && !self.drained
            && self.replay.is_none()
    }

    /// Returns whether bytes wait for a side that does not read.
    pub(in crate::tunnel) fn is_blocked(&self) -> bool {
        self.waits() && self.room().is_none()
    }

    /// The backlog for another process, and what of it may be replayed; `None` if the stream ends, or is held.
    pub(in crate::tunnel) fn state(&self) -> Option<(Vec<u8>, Option<ReplayState>)> {
        match &self.replay {
            _ if self.state != WriteState::Open => None,
            None => Some((self.backlog[self.written..].to_vec(), None)),
            Some(kept) => Some((self.backlog.clone(), Some(kept.state(self.written)?))),
        }
    }

    /// The bytes that were not sent.
    pub(in crate::tunnel) fn unsent(&self) -> &[u8] {
        &self.backlog[self.written..]
    }

    /// Continues with the backlog of another process and its valid state. Without a replay buffer the written bytes are
    /// discarded.
    pub(in crate::tunnel) fn resume(&mut self, mut backlog: Vec<u8>, replay: Option<ReplayState>) {
        let state = replay.unwrap_or_default();
        match &mut self.replay {
            Some(kept) => {
                self.written = state.written;
                kept.resume(state);
            }
            None => drop(backlog.drain(..state.written)),
        }
        self.backlog = backlog;
    }

    /// A side with buffers of its own may have bytes that another process has written.
    pub(in crate::tunnel) fn flush_later(&mut self, sink: &TunnelIo) {
        self.unflushed = sink.buffers();
    }

    /// Returns whether bytes wait to be written.
    pub(in crate::tunnel) fn waits(&self) -> bool {
        self.written < self.backlog.len()
    }

    /// Returns whether waiting bytes were sent since the last call.
    pub(in crate::tunnel) fn take_drained(&mut self) -> bool {
        std::mem::take(&mut self.drained)
    }

    /// Queues a frame of the gateway; the next [`WriteBuffer::deliver`] sends it.
    pub(in crate::tunnel) fn push(&mut self, frame: &[u8]) {
        match &mut self.replay {
            _ if self.state != WriteState::Open => {}
            None => self.backlog.extend_from_slice(frame),
            Some(kept) => kept.enter_own(&mut self.backlog, frame),
        }
    }

    /// Queues `bytes` of the other side, which start at `at` in the parsed chunk.
    pub(in crate::tunnel) fn pass(&mut self, bytes: &[u8], at: usize) {
        match &mut self.replay {
            _ if self.state != WriteState::Open => {}
            None => self.backlog.extend_from_slice(bytes),
            Some(kept) => kept.enter(&mut self.backlog, bytes, at),
        }
    }

    /// Ends the stream after the waiting bytes. Returns whether this changed anything.
    pub(in crate::tunnel) fn end(&mut self) -> bool {
        let activity = self.state == WriteState::Open;
        if activity {
            self.state = WriteState::Ending;
        }
        activity
    }

    /// As [`WriteBuffer::end`]; the peer is told that the bytes are incomplete, where TLS can tell it.
    pub(in crate::tunnel) fn end_incomplete(&mut self) {
        if matches!(self.state, WriteState::Open | WriteState::Ending) {
            self.state = WriteState::EndingIncomplete;
        }
    }

    /// The side is gone: waiting and further bytes are discarded.
    pub(in crate::tunnel) fn give_up(&mut self) {
        self.state = WriteState::Broken;
        self.replay = None;
        self.backlog = Vec::new();
        self.written = 0;
        self.unflushed = false;
    }

    /// Writes `bytes` at once as far as possible and keeps the rest. Call it only if no bytes wait.
    pub(in crate::tunnel) fn send(
        &mut self,
        tunnel_io: &mut TunnelIo,
        bytes: &[u8],
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        if self.state != WriteState::Open || bytes.is_empty() {
            return Ok(());
        }
        if self.replay.is_some() {
            return self.send_kept(tunnel_io, bytes, cx);
        }
        let taken = match tunnel_io.try_send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unflushed = tunnel_io.buffers();
                // Registers the waker for writability.
                match Pin::new(tunnel_io).poll_write(cx, bytes) {
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

    /// As [`WriteBuffer::send`], keeping the bytes for a replay.
    #[cold]
    fn send_kept(&mut self, tunnel_io: &mut TunnelIo, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        let free = !self.waits() && self.room().is_none();
        let Some(kept) = &mut self.replay else { return Ok(()) };
        let mut result = Ok(());
        let mut taken = 0;
        if free {
            self.unflushed = tunnel_io.buffers();
            match Pin::new(tunnel_io).poll_write(cx, bytes) {
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

    /// Writes the waiting bytes and then the end. Ready if no bytes wait.
    #[inline]
    pub(in crate::tunnel) fn deliver(
        &mut self,
        tunnel_io: &mut TunnelIo,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        // The common case.
        if self.backlog.is_empty() && self.state == WriteState::Open && self.replay.is_none() {
            return Poll::Ready(Ok(()));
        }
        self.deliver_backlog(tunnel_io, cx)
    }

    fn deliver_backlog(&mut self, tunnel_io: &mut TunnelIo, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.room() {
            None => {}
            Some(0) => return Poll::Pending,
            Some(_) => return Poll::Ready(Ok(())),
        }
        while self.written < self.backlog.len() {
            self.unflushed = tunnel_io.buffers();
            let taken = ready!(Pin::new(&mut *tunnel_io).poll_write(cx, &self.backlog[self.written..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
            self.drained = true;
        }
        match &mut self.replay {
            None if self.written > 0 => {
                // Freed, not reused: most tunnels are idle most of the time.
                self.backlog = Vec::new();
                self.written = 0;
            }
            None => {}
            Some(kept) => kept.trim(&mut self.backlog, &mut self.written),
        }
        match self.state {
            WriteState::Ending => ready!(Pin::new(tunnel_io).poll_shutdown(cx))?,
            WriteState::EndingIncomplete => ready!(tunnel_io.poll_shutdown_incomplete(cx))?,
            WriteState::Open | WriteState::Done | WriteState::Broken => return Poll::Ready(Ok(())),
        }
        self.state = WriteState::Done;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Flushes the connection's own buffer, after the last available bytes.
    pub(in crate::tunnel) fn drop_written(
        &mut self,
        tunnel_io: &mut TunnelIo,
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        if self.unflushed
            && let Poll::Ready(result) = Pin::new(tunnel_io).poll_flush(cx)
        {
            result?;
            self.unflushed = false;
        }
        Ok(())
    }
}
