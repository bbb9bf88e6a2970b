//! Statistics of the frames in a chunk, collected while parsing.

use super::pings::{self, PingAnswered};
use crate::tunnel::KINDS;
use crate::tunnel::messages::FeedResult;
use crate::websocket::frame::{Close, Event, NO_STATUS, Opcode};
use std::num::NonZeroU64;

/// The frames of one turn, for counters and clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FrameSummary {
    /// Messages by kind, in the order of [`KINDS`].
    pub(super) messages: [u32; KINDS.len()],
    /// Wire bytes.
    pub(super) bytes: u64,
    /// Whether bytes of a data frame were relayed.
    pub(super) data: bool,
    /// The code of the source's Close frame.
    pub(super) closed: Option<u16>,
    /// Whether the pong to the gateway's latest ping was received.
    pub(super) ponged: bool,
    /// The waiting ping that was sent to the sink.
    pub(super) pinged: Option<NonZeroU64>,
}

impl FrameSummary {
    /// Text and binary messages.
    pub(super) fn data_messages(&self) -> u64 {
        u64::from(self.messages[0]) + u64::from(self.messages[1])
    }

    /// The count for a message rate: pings included, since a flood of them would otherwise be free.
    pub(super) fn rated(&self) -> u32 {
        self.messages[..3].iter().sum()
    }

    /// Counts a complete message.
    pub(super) fn message(&mut self, opcode: Opcode) {
        self.data = true;
        self.count(opcode);
    }

    /// Adds what a stage saw that does not pass.
    pub(super) fn add(&mut self, fed: FeedResult) {
        self.data |= fed.data;
        for (count, dropped) in self.messages.iter_mut().zip(fed.dropped) {
            *count += dropped;
        }
    }

    fn count(&mut self, opcode: Opcode) {
        if let Some(at) = KINDS.iter().position(|kind| *kind == opcode) {
            self.messages[at] += 1;
        }
    }
}

/// The positions of frames within a chunk.
#[derive(Debug)]
pub(super) struct FrameStats {
    awaited: Option<NonZeroU64>,
    /// The position after the first frame that ends in it.
    pub(super) first_end: Option<usize>,
    /// The pongs that are not forwarded, in order; adjacent ones are one part.
    pub(super) cuts: Vec<(usize, usize)>,
    /// The position of the Close frame, and its code.
    pub(super) close: Option<(usize, u16)>,
    /// The length that may be forwarded.
    pub(super) end: usize,
}

impl FrameStats {
    pub(super) fn new(awaited: Option<NonZeroU64>) -> Self {
        Self { awaited, first_end: None, cuts: Vec::new(), close: None, end: 0 }
    }

    /// The Close frame at `at` is not forwarded.
    pub(super) fn spare(&mut self, at: usize, seen: &mut FrameSummary) {
        self.close = None;
        self.end = at;
        seen.closed = None;
    }

    fn cut(&mut self, start: usize, at: usize) {
        match self.cuts.last_mut() {
            Some((_, end)) if *end == start => *end = at,
            _ => self.cuts.push((start, at)),
        }
    }

    pub(super) fn note(&mut self, event: Event<'_>, seen: &mut FrameSummary) {
        match event {
            Event::FrameStart { opcode, .. } => seen.data |= !opcode.is_control(),
            Event::FrameEnd { at, .. } => {
                self.first_end.get_or_insert(at);
            }
            Event::MessageEnd { opcode, .. } => seen.count(opcode),
            Event::Control { opcode: Opcode::Pong, payload, start, at } => {
                match self.awaited.and_then(|awaited| pings::answered(awaited, payload)) {
                    Some(answered) => {
                        seen.ponged |= answered == PingAnswered::Latest;
                        self.cut(start, at);
                    }
                    None => seen.count(Opcode::Pong),
                }
            }
            Event::Control { opcode, payload, start, at } => {
                seen.count(opcode);
                if opcode == Opcode::Close {
                    self.end = at;
                    // An invalid body is forwarded only if the route allows invalid frames.
                    let code = Close::read(payload).map_or(NO_STATUS, |close| close.code);
                    self.close = Some((start, code));
                    seen.closed = Some(code);
                }
            }
        }
    }
}
