//! One direction of a tunnel: read from the source, follow the frames, hand them to the sink.
//!
//! What passes is passed as it was read, without a copy. Only the gateway's own control frames enter,
//! at boundaries, and only the answers to its own pings are taken out. When to do so, and every clock,
//! is the relay's.

use super::notes::{Notes, Seen};
use super::outbox::Outbox;
use crate::tunnel::frame::{ControlFrame, Follower, MAX_WITHHELD, Mask, Rules, Sender, Violation, Wrong};
use crate::tunnel::{Leg, Side};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};

/// What a lane may do in one turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) rules: Rules,
    /// How often it may read; 0 only delivers.
    pub(super) reads: u32,
    /// How many bytes it may read at once.
    pub(super) window: usize,
}

/// What one turn led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing more to do until something wakes the task.
    Waiting,
    /// There may be more at once; others go first.
    Yield,
    /// The source's transport ended in order.
    Ended,
    /// The source's transport failed.
    Failed,
    /// The sink takes nothing more.
    SinkFailed,
    /// The source broke the protocol; it is not followed any further.
    Violation(Violation),
}

/// A Close of the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    pub(super) code: u16,
    pub(super) text: Text,
}

/// The reason in a Close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    Plain(&'static str),
    /// What the side did wrong.
    Wrong(Wrong),
}

/// What the sink still gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Everything.
    Open,
    /// The rest of the frame under way, then this.
    Until(Farewell),
    /// Nothing: a Close is behind everything.
    Shut,
}

/// What still comes from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Open,
    /// Bytes that mean nothing any more: it broke the protocol.
    Lost,
    Ended,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) out: Outbox,
    follower: Follower,
    pass: Pass,
    source: Source,
    /// The side the bytes come from.
    from: Side,
    /// A ping for the sink that waits for a boundary.
    ping: Option<u64>,
    /// The payload of the ping the source was sent; its pong goes no further.
    awaited: Option<u64>,
}

impl Lane {
    pub(super) fn new(from: Side) -> Self {
        let sender = match from {
            Side::Client => Sender::Client,
            Side::Backend => Sender::Server,
        };
        Self {
            out: Outbox::new(),
            follower: Follower::new(sender),
            pass: Pass::Open,
            source: Source::Open,
            from,
            ping: None,
            awaited: None,
        }
    }

    /// The source sends nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.source == Source::Ended
    }

    /// What the source sends cannot be understood any more.
    pub(super) fn is_lost(&self) -> bool {
        self.source == Source::Lost
    }

    /// The source has sent its Close.
    pub(super) fn has_closed(&self) -> bool {
        self.follower.closed()
    }

    /// The sink has got its Close, or gets none.
    pub(super) fn is_shut(&self) -> bool {
        self.pass == Pass::Shut
    }

    /// What comes from here on is the pong to `payload`, when it is one.
    pub(super) fn await_pong(&mut self, payload: u64) {
        self.awaited = Some(payload);
    }

    /// The source sends nothing more. A Close that waited for the end of a frame has waited in vain.
    pub(super) fn end(&mut self) {
        self.source = Source::Ended;
        if matches!(self.pass, Pass::Until(_)) {
            self.pass = Pass::Shut;
            self.out.end();
        }
    }

    /// Ends the sink's stream: with a Close at the next boundary, or bare when there will be none.
    /// Whether that was news; a Close that has passed or waits stays the only one.
    pub(super) fn close(&mut self, farewell: Farewell) -> bool {
        if self.pass != Pass::Open {
            return false;
        }
        self.ping = None;
        if self.follower.may_inject() {
            self.out.push(self.farewell(farewell).as_bytes());
            self.pass = Pass::Shut;
        } else if self.source == Source::Open {
            self.pass = Pass::Until(farewell);
        } else {
            self.out.end();
            self.pass = Pass::Shut;
        }
        true
    }

    /// Pings the sink. Whether the ping is on its way; otherwise it goes at the next boundary.
    pub(super) fn ping(&mut self, payload: u64) -> bool {
        if self.pass != Pass::Open {
            return false;
        }
        let now = self.follower.may_inject();
        if now {
            self.out.push(self.ping_frame(payload).as_bytes());
        } else {
            self.ping = Some(payload);
        }
        now
    }

    /// Moves bytes until a leg has to be waited for.
    pub(super) fn turn(
        &mut self,
        (source, sink): (&mut Leg, &mut Leg),
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        terms: &Terms,
        seen: &mut Seen,
    ) -> Turn {
        for _ in 0..terms.reads {
            match self.deliver(sink, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Turn::SinkFailed,
                Poll::Pending => return Turn::Waiting,
            }
            if self.source == Source::Ended {
                return self.settle(sink, cx);
            }
            match self.read(source, cx, scratch, terms.window) {
                Poll::Pending => return self.settle(sink, cx),
                // TLS that ends without its closing alert: the usual way for a client to leave.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Turn::Ended;
                }
                Poll::Ready(Err(_)) => return Turn::Failed,
                Poll::Ready(Ok(0)) => return Turn::Ended,
                Poll::Ready(Ok(count)) => {
                    let chunk = self.chunk(scratch, count, seen);
                    match self.accept(chunk, sink, cx, &terms.rules, seen) {
                        Turn::Waiting => {}
                        stop => return stop,
                    }
                }
            }
        }
        // Reading is paused, or the tunnels of this thread take turns: what was accepted goes out.
        match self.deliver(sink, cx) {
            Poll::Ready(Err(_)) => Turn::SinkFailed,
            Poll::Pending => Turn::Waiting,
            Poll::Ready(Ok(())) if terms.reads == 0 => self.settle(sink, cx),
            Poll::Ready(Ok(())) => Turn::Yield,
        }
    }

    /// Takes bytes that were read before the relay began.
    pub(super) fn early(&mut self, bytes: &[u8], rules: &Rules, seen: &mut Seen) -> Turn {
        seen.bytes += bytes.len() as u64;
        let (notes, turn) = self.follow(bytes, rules, seen);
        self.edit(&bytes[..notes.end], &notes, seen);
        turn
    }

    fn deliver(&mut self, sink: &mut Leg, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.deliver(sink, cx)
    }

    fn settle(&mut self, sink: &mut Leg, cx: &mut Context<'_>) -> Turn {
        match self.out.settle(sink, cx) {
            Ok(()) => Turn::Waiting,
            Err(_) => Turn::SinkFailed,
        }
    }

    /// Reads behind the room for what the follower withholds.
    fn read(
        &self,
        leg: &mut Leg,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        window: usize,
    ) -> Poll<io::Result<usize>> {
        let room = scratch[MAX_WITHHELD..].len().min(window);
        let mut buffer = ReadBuf::new(&mut scratch[MAX_WITHHELD..][..room]);
        Pin::new(leg).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
    }

    /// What was read, with what was withheld before in front of it: every head and every control frame
    /// then lies within one chunk.
    fn chunk<'s>(&mut self, scratch: &'s mut [u8], count: usize, seen: &mut Seen) -> &'s [u8] {
        seen.bytes += count as u64;
        let end = MAX_WITHHELD + count;
        if self.follower.withheld() == 0 {
            return &scratch[MAX_WITHHELD..end];
        }
        let mut before = [0; MAX_WITHHELD];
        let withheld = self.follower.reclaim(&mut before);
        let start = MAX_WITHHELD - withheld;
        scratch[start..MAX_WITHHELD].copy_from_slice(&before[..withheld]);
        &scratch[start..end]
    }

    /// Follows a chunk and passes on what is to pass.
    fn accept(
        &mut self,
        chunk: &[u8],
        sink: &mut Leg,
        cx: &mut Context<'_>,
        rules: &Rules,
        seen: &mut Seen,
    ) -> Turn {
        if self.source == Source::Lost {
            return Turn::Waiting;
        }
        let (notes, turn) = self.follow(chunk, rules, seen);
        let bytes = &chunk[..notes.end];
        let untouched = self.pass == Pass::Open && self.ping.is_none() && notes.cut.is_none();
        if !untouched || notes.closed {
            self.edit(bytes, &notes, seen);
        } else if self.out.send(sink, bytes, cx).is_err() {
            return Turn::SinkFailed;
        }
        turn
    }

    fn follow(&mut self, chunk: &[u8], rules: &Rules, seen: &mut Seen) -> (Notes, Turn) {
        let mut notes = Notes::new(self.awaited);
        // The rest of a data frame is data too.
        seen.data |= !chunk.is_empty() && !self.follower.may_inject();
        let result = self.follower.feed(chunk, rules, &mut |event| notes.note(event, seen));
        let turn = match result {
            Ok(()) => {
                if !notes.closed {
                    notes.end = chunk.len() - self.follower.withheld();
                }
                Turn::Waiting
            }
            Err(violation) => {
                notes.end = violation.at;
                self.source = Source::Lost;
                Turn::Violation(violation)
            }
        };
        if notes.cut.is_some() {
            self.awaited = None;
            seen.ponged = true;
        }
        (notes, turn)
    }

    /// Passes on `bytes` without what is cut out and with what waits for a boundary.
    fn edit(&mut self, bytes: &[u8], notes: &Notes, seen: &mut Seen) {
        if self.pass == Pass::Shut {
            return;
        }
        let boundary = notes.first_end.filter(|end| *end <= bytes.len());
        let waits = self.ping.is_some() || self.pass != Pass::Open;
        let split = boundary.filter(|_| waits).unwrap_or(bytes.len());
        self.keep(bytes, 0, split, notes);
        if boundary.is_some() {
            if let Some(payload) = self.ping.take() {
                self.out.push(self.ping_frame(payload).as_bytes());
                seen.pinged = Some(payload);
            }
            if let Pass::Until(farewell) = self.pass {
                self.out.push(self.farewell(farewell).as_bytes());
                self.pass = Pass::Shut;
                return;
            }
        }
        self.keep(bytes, split, bytes.len(), notes);
        if notes.closed {
            self.pass = Pass::Shut;
        }
    }

    /// Passes on `bytes[from..to]` without what is cut out of them.
    fn keep(&mut self, bytes: &[u8], from: usize, to: usize, notes: &Notes) {
        let (start, end) = notes.cut.unwrap_or((to, to));
        self.out.push(&bytes[from..start.clamp(from, to)]);
        self.out.push(&bytes[end.clamp(from, to)..to]);
    }

    fn farewell(&self, farewell: Farewell) -> ControlFrame {
        match farewell.text {
            Text::Plain(text) => ControlFrame::close(farewell.code, text, self.mask()),
            Text::Wrong(wrong) => ControlFrame::close(farewell.code, &wrong.to_string(), self.mask()),
        }
    }

    fn ping_frame(&self, payload: u64) -> ControlFrame {
        ControlFrame::ping(&payload.to_be_bytes(), self.mask())
    }

    /// Towards a backend the gateway is a client.
    fn mask(&self) -> Mask {
        match self.from {
            Side::Client => Mask::With((random() as u32).to_be_bytes()),
            Side::Backend => Mask::Off,
        }
    }
}

/// A number that nobody outside can guess: std's keyed hash, with a key of its own for every state.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
