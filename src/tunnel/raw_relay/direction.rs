//! One direction of a raw relay: bytes from its source to its sink.

use crate::net::tunnel_io::is_end_of_keys;
use crate::tunnel::TunnelIo;
use crate::tunnel::relay_io::WriteBuffer;
use std::io;
use std::task::{Context, Poll};

/// The state of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceState {
    Open,
    /// Read up to its end, and discarded: the sink gets nothing more.
    Discarded,
    Ended,
}

/// The result of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing to do until the task is woken.
    Waiting,
    /// More may be available, but other tasks run first.
    Yield,
    /// The source has ended its direction.
    Ended,
    /// The source's connection failed, or was cut.
    Failed,
    /// The source's TLS keys have come to their end.
    KeysEnded,
    /// The sink reads nothing more.
    SinkFailed,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Direction {
    pub(super) out: WriteBuffer,
    pub(super) source: SourceState,
    /// Nothing was readable at the last read, and the source wakes the task.
    pub(super) listening: bool,
}

impl Direction {
    pub(super) fn new() -> Self {
        Self { out: WriteBuffer::new(), source: SourceState::Open, listening: false }
    }

    /// Returns whether no bytes wait for the sink, and none were received from the source since the last read.
    pub(super) fn rests(&self, source: &TunnelIo) -> bool {
        self.listening && self.out.rests() && source.is_silent()
    }

    /// Returns whether the source has ended, and the sink has everything.
    pub(super) fn is_complete(&self) -> bool {
        self.source == SourceState::Ended && self.out.is_idle()
    }

    /// The source sends nothing more for the sink.
    pub(super) fn discard(&mut self) {
        if self.source == SourceState::Open {
            self.source = SourceState::Discarded;
        }
    }

    /// Moves bytes until a connection is not ready. Up to `reads` reads, each of up to `window` bytes, are done, and
    /// `count` is called with the size of each.
    pub(super) fn pump(
        &mut self,
        (source, sink): (&mut TunnelIo, &mut TunnelIo),
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        (reads, window): (u32, usize),
        mut count: impl FnMut(usize),
    ) -> Turn {
        let room = scratch.len().min(window);
        for _ in 0..reads {
            match self.out.deliver(sink, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Turn::SinkFailed,
                Poll::Pending if self.source == SourceState::Discarded => {}
                Poll::Pending => return Turn::Waiting,
            }
            if self.source == SourceState::Ended {
                return self.flush(sink, cx);
            }
            let read = source.poll_receive(cx, &mut scratch[..room]);
            self.listening = read.is_pending();
            match read {
                Poll::Pending => return self.flush(sink, cx),
                Poll::Ready(Ok(0)) => return Turn::Ended,
                Poll::Ready(Ok(_)) if self.source == SourceState::Discarded => {}
                Poll::Ready(Ok(length)) => {
                    count(length);
                    if self.out.send(sink, &scratch[..length], cx).is_err() {
                        return Turn::SinkFailed;
                    }
                }
                Poll::Ready(Err(error)) if is_end_of_keys(&error) => return Turn::KeysEnded,
                // Also TLS without close_notify: bytes may be missing (RFC 8446 §6.1).
                Poll::Ready(Err(_)) => return Turn::Failed,
            }
        }
        // Reading is paused, or other tunnels of this thread run first: accepted bytes are still sent.
        match self.out.deliver(sink, cx) {
            Poll::Ready(Err(_)) => Turn::SinkFailed,
            Poll::Pending => Turn::Waiting,
            Poll::Ready(Ok(())) if reads == 0 => self.flush(sink, cx),
            Poll::Ready(Ok(())) => Turn::Yield,
        }
    }

    fn flush(&mut self, sink: &mut TunnelIo, cx: &mut Context<'_>) -> Turn {
        let flushed: io::Result<()> = self.out.drop_written(sink, cx);
        if flushed.is_err() { Turn::SinkFailed } else { Turn::Waiting }
    }
}
