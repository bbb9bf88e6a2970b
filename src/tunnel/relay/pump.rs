//! Byte pump of a direction: reads from the source, parses the frames, writes to the sink.
//!
//! Bytes are forwarded as read, without a copy, up to the last complete header. A header or control frame
//! that is split by the end of a read waits for its rest. Only the pongs to the gateway's own pings are
//! removed.

use super::direction::{Direction, SinkMode, SourceState};
use super::frame_stats::{FrameStats, FrameSummary};
use crate::net::tunnel_io::is_end_of_keys;
use crate::tunnel::TunnelIo;
use crate::tunnel::messages::{self, Inspector, Stop};
use crate::tunnel::tap::TunnelTap;
use crate::websocket::frame::{MAX_WITHHELD, Rules, Violation};
use std::io;
use std::task::{Context, Poll};

/// The limits of a direction in one turn.
pub(super) struct ReadLimits<'a> {
    pub(super) rules: Rules,
    /// The maximum number of reads; with 0 the turn only writes.
    pub(super) reads: u32,
    /// The maximum number of bytes per read.
    pub(super) window: usize,
    /// The inspector of an inspected direction.
    pub(super) inspector: Option<&'a mut Box<dyn Inspector>>,
    /// The taps of the tunnel.
    pub(super) tap: Option<&'a mut Box<TunnelTap>>,
}

/// The outcome of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// Nothing to do until the task is woken.
    Waiting,
    /// More may be available, but other tasks run first.
    Yield,
    /// The source's transport ended in order.
    Ended,
    /// The source's transport failed.
    Failed,
    /// The source's TLS keys have come to their end.
    KeysEnded,
    /// The sink reads nothing more.
    SinkFailed,
    /// The source violated the protocol; it is no longer parsed.
    Violation(Violation),
    /// The inspector closed the tunnel; the direction holds the Close.
    Dismissed,
    /// The source sent a Close frame with this code, which is not forwarded.
    Leaves(u16),
}

impl Direction {
    /// Moves bytes until a connection is not ready.
    pub(super) fn pump(
        &mut self,
        (source, sink): (&mut TunnelIo, &mut TunnelIo),
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        terms: &mut ReadLimits<'_>,
        seen: &mut FrameSummary,
    ) -> ReadOutcome {
        for _ in 0..terms.reads {
            match self.deliver(sink, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return ReadOutcome::SinkFailed,
                Poll::Pending => return ReadOutcome::Waiting,
            }
            if self.source == SourceState::Ended {
                return self.flush_pending(sink, cx);
            }
            let read = self.read(source, cx, scratch, terms.window);
            self.listening = read.is_pending();
            match read {
                Poll::Pending => return self.flush_pending(sink, cx),
                // TLS that ends without close_notify: common among clients.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return ReadOutcome::Ended;
                }
                Poll::Ready(Err(error)) if is_end_of_keys(&error) => return ReadOutcome::KeysEnded,
                Poll::Ready(Err(_)) => return ReadOutcome::Failed,
                Poll::Ready(Ok(0)) => return ReadOutcome::Ended,
                Poll::Ready(Ok(count)) => {
                    if let Some(tap) = &mut terms.tap {
                        tap.read(self.from, &scratch[MAX_WITHHELD..][..count]);
                    }
                    let chunk = self.chunk(scratch, count, seen);
                    match self.accept(chunk, sink, cx, terms, seen) {
                        ReadOutcome::Waiting => {}
                        stop => return stop,
                    }
                }
            }
        }
        // Reading is paused, or other tunnels of this thread run first: accepted bytes are still sent.
        match self.deliver(sink, cx) {
            Poll::Ready(Err(_)) => ReadOutcome::SinkFailed,
            Poll::Pending => ReadOutcome::Waiting,
            Poll::Ready(Ok(())) if terms.reads == 0 => self.flush_pending(sink, cx),
            Poll::Ready(Ok(())) => ReadOutcome::Yield,
        }
    }

    /// Accepts bytes that were read before the relay began.
    pub(super) fn early(
        &mut self,
        bytes: &[u8],
        terms: &mut ReadLimits<'_>,
        seen: &mut FrameSummary,
    ) -> ReadOutcome {
        seen.bytes += bytes.len() as u64;
        if let Some(tap) = &mut terms.tap {
            tap.read(self.from, bytes);
        }
        if let (Some(inspector), true) = (&mut terms.inspector, self.is_inspected()) {
            return self.inspect(bytes, &mut ***inspector, seen, |direction, bytes, rules, seen| {
                direction.take_in(bytes, rules, seen)
            });
        }
        self.take_in(bytes, &terms.rules, seen)
    }

    /// Parses bytes and keeps them for the next turn.
    fn take_in(&mut self, bytes: &[u8], rules: &Rules, seen: &mut FrameSummary) -> ReadOutcome {
        let (notes, turn) = self.follow(bytes, rules, seen);
        self.edit(&bytes[..notes.end], &notes, seen);
        turn
    }

    fn deliver(&mut self, sink: &mut TunnelIo, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.deliver(sink, cx)
    }

    fn flush_pending(&mut self, sink: &mut TunnelIo, cx: &mut Context<'_>) -> ReadOutcome {
        match self.out.drop_written(sink, cx) {
            Ok(()) => ReadOutcome::Waiting,
            Err(_) => ReadOutcome::SinkFailed,
        }
    }

    /// Reads after the space for withheld bytes.
    fn read(
        &self,
        tunnel_io: &mut TunnelIo,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        window: usize,
    ) -> Poll<io::Result<usize>> {
        let room = scratch[MAX_WITHHELD..].len().min(window);
        tunnel_io.poll_receive(cx, &mut scratch[MAX_WITHHELD..][..room])
    }

    /// The read bytes with withheld ones prepended: every header and control frame then lies within one
    /// chunk.
    fn chunk<'s>(&mut self, scratch: &'s mut [u8], count: usize, seen: &mut FrameSummary) -> &'s [u8] {
        seen.bytes += count as u64;
        let end = MAX_WITHHELD + count;
        if !self.is_inspected() && self.follower.withheld() == 0 {
            return &scratch[MAX_WITHHELD..end];
        }
        let mut before = [0; MAX_WITHHELD];
        let withheld = match self.stage() {
            Some(stage) => stage.reclaim(&mut before),
            None => self.follower.reclaim(&mut before),
        };
        let start = MAX_WITHHELD - withheld;
        scratch[start..MAX_WITHHELD].copy_from_slice(&before[..withheld]);
        &scratch[start..end]
    }

    /// Parses a chunk and forwards it.
    fn accept(
        &mut self,
        chunk: &[u8],
        sink: &mut TunnelIo,
        cx: &mut Context<'_>,
        terms: &mut ReadLimits<'_>,
        seen: &mut FrameSummary,
    ) -> ReadOutcome {
        if self.source == SourceState::Lost {
            return ReadOutcome::Waiting;
        }
        if let (Some(inspector), true) = (&mut terms.inspector, self.is_inspected()) {
            return self.inspect(chunk, &mut ***inspector, seen, |direction, chunk, rules, seen| {
                direction.forward(chunk, sink, cx, rules, seen)
            });
        }
        self.forward(chunk, sink, cx, &terms.rules, seen)
    }

    /// Shows the messages that `chunk` completes, and hands what is left to `pass`.
    fn inspect(
        &mut self,
        chunk: &[u8],
        inspector: &mut dyn Inspector,
        seen: &mut FrameSummary,
        pass: impl FnOnce(&mut Self, &[u8], &Rules, &mut FrameSummary) -> ReadOutcome,
    ) -> ReadOutcome {
        messages::lend(|out| {
            let shut = self.pass == SinkMode::Shut;
            let Some(stage) = self.stage() else { return ReadOutcome::Waiting };
            if shut {
                stage.mute();
            }
            seen.add(stage.feed(chunk, inspector, out));
            let stop = stage.stopped();
            // What a stage writes is whole and within the limits.
            let turn = pass(self, out, &Rules::default(), seen);
            match stop {
                None => turn,
                Some(Stop::Violation(violation)) => {
                    self.source = SourceState::Lost;
                    ReadOutcome::Violation(violation)
                }
                Some(Stop::Dismissed(plugin_close)) => {
                    self.note_dismissal(plugin_close);
                    ReadOutcome::Dismissed
                }
            }
        })
    }

    /// Follows frames and hands them to the sink.
    fn forward(
        &mut self,
        chunk: &[u8],
        sink: &mut TunnelIo,
        cx: &mut Context<'_>,
        rules: &Rules,
        seen: &mut FrameSummary,
    ) -> ReadOutcome {
        let undisturbed = self.pass == SinkMode::Open && self.ping.is_none();
        if undisturbed
            && self.out.watch().is_none()
            && let Some(opcode) = self.follower.whole_message(chunk, rules)
        {
            seen.message(opcode);
            let sent = self.out.send(sink, chunk, cx);
            return if sent.is_err() { ReadOutcome::SinkFailed } else { ReadOutcome::Waiting };
        }
        let (notes, turn) = self.follow(chunk, rules, seen);
        let bytes = &chunk[..notes.end];
        if !undisturbed || !notes.cuts.is_empty() || notes.close.is_some() {
            self.edit(bytes, &notes, seen);
        } else if self.out.send(sink, bytes, cx).is_err() {
            return ReadOutcome::SinkFailed;
        }
        turn
    }

    fn follow(&mut self, chunk: &[u8], rules: &Rules, seen: &mut FrameSummary) -> (FrameStats, ReadOutcome) {
        let mut notes = FrameStats::new(self.awaited);
        // The rest of a data frame is data too.
        seen.data |= !chunk.is_empty() && !self.follower.may_inject();
        let result = match self.out.watch() {
            None => self.follower.feed(chunk, rules, &mut |event| notes.note(event, seen)),
            Some(kept) => {
                kept.begin();
                self.follower.feed(chunk, rules, &mut |event| {
                    notes.note(event, seen);
                    kept.note(event);
                })
            }
        };
        let turn = match result {
            Ok(()) => match notes.close {
                Some((at, code)) if self.spares(code) => {
                    notes.spare(at, seen);
                    self.source = SourceState::Lost;
                    ReadOutcome::Leaves(code)
                }
                Some(_) => ReadOutcome::Waiting,
                None => {
                    notes.end = chunk.len() - self.follower.withheld();
                    ReadOutcome::Waiting
                }
            },
            Err(violation) => {
                notes.end = violation.at;
                self.source = SourceState::Lost;
                ReadOutcome::Violation(violation)
            }
        };
        (notes, turn)
    }

    /// Forwards `bytes` without the removed parts and with the frame that waits for a boundary.
    fn edit(&mut self, bytes: &[u8], notes: &FrameStats, seen: &mut FrameSummary) {
        if self.pass == SinkMode::Shut {
            return;
        }
        if let (SinkMode::Behind(pending), Some((start, _))) = (self.pass, notes.close) {
            self.keep(bytes, 0, start, notes);
            self.out.push(self.close_frame(pending).as_bytes());
            self.pass = SinkMode::Shut;
            return;
        }
        let boundary = notes.first_end.filter(|end| *end <= bytes.len());
        let waits = self.ping.is_some() || matches!(self.pass, SinkMode::Until(_));
        let split = boundary.filter(|_| waits).unwrap_or(bytes.len());
        self.keep(bytes, 0, split, notes);
        if boundary.is_some() {
            if let Some(payload) = self.ping.take() {
                self.out.push(self.ping_frame(payload).as_bytes());
                seen.pinged = Some(payload);
            }
            if let SinkMode::Until(pending) = self.pass {
                self.out.push(self.close_frame(pending).as_bytes());
                self.pass = SinkMode::Shut;
                return;
            }
        }
        self.keep(bytes, split, bytes.len(), notes);
        if notes.close.is_some() {
            self.pass = SinkMode::Shut;
        }
    }

    /// Forwards `bytes[from..to]` without the removed parts.
    fn keep(&mut self, bytes: &[u8], from: usize, to: usize, notes: &FrameStats) {
        let mut at = from;
        for (start, end) in &notes.cuts {
            let start = (*start).clamp(at, to);
            self.out.pass(&bytes[at..start], at);
            at = (*end).clamp(start, to);
        }
        self.out.pass(&bytes[at..to], at);
    }
}
