//! What the frames of one chunk say, gathered while they are followed.

use crate::tunnel::KINDS;
use crate::tunnel::messages::FeedResult;
use crate::websocket::frame::{Close, Event, NO_STATUS, Opcode};
use std::num::NonZeroU64;

/// What one turn of a lane saw, for counters and clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FrameSummary {
    /// Messages by kind, in the order of [`KINDS`].
    pub(super) messages: [u32; KINDS.len()],
    /// Wire bytes.
    pub(super) bytes: u64,
    /// Bytes of a data frame passed.
    pub(super) data: bool,
    /// The code of the source's Close.
    pub(super) closed: Option<u16>,
    /// The pong to the gateway's ping came.
    pub(super) ponged: bool,
    /// The ping that waited went to the sink.
    pub(super) pinged: Option<NonZeroU64>,
}

impl FrameSummary {
    /// Text and binary messages.
    pub(super) fn data_messages(&self) -> u64 {
        u64::from(self.messages[0]) + u64::from(self.messages[1])
    }

    /// What counts against a rate of messages: pings too, or a flood of them would be free.
    pub(super) fn rated(&self) -> u32 {
        self.messages[..3].iter().sum()
    }

    /// A whole message passed.
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

/// What one chunk holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameStats {
    awaited: Option<NonZeroU64>,
    /// Behind the first frame that ends in it.
    pub(super) first_end: Option<usize>,
    /// The pong that goes no further.
    pub(super) cut: Option<(usize, usize)>,
    /// Where the Close in it starts, and its code.
    pub(super) close: Option<(usize, u16)>,
    /// How much of it may pass.
    pub(super) end: usize,
}

impl FrameStats {
    pub(super) fn new(awaited: Option<NonZeroU64>) -> Self {
        Self { awaited, first_end: None, cut: None, close: None, end: 0 }
    }

    /// The Close, which starts at `at`, goes no further.
    pub(super) fn spare(&mut self, at: usize, seen: &mut FrameSummary) {
        self.close = None;
        self.end = at;
        seen.closed = None;
    }

    pub(super) fn note(&mut self, event: Event<'_>, seen: &mut FrameSummary) {
        match event {
            Event::FrameStart { opcode, .. } => seen.data |= !opcode.is_control(),
            Event::FrameEnd { at, .. } => {
                self.first_end.get_or_insert(at);
            }
            Event::MessageEnd { opcode, .. } => seen.count(opcode),
            Event::Control { opcode: Opcode::Pong, payload, start, at } => {
                let ours = self.awaited.is_some_and(|awaited| payload == awaited.get().to_be_bytes());
                if ours && self.cut.is_none() {
                    self.cut = Some((start, at));
                } else {
                    seen.count(Opcode::Pong);
                }
            }
            Event::Control { opcode, payload, start, at } => {
                seen.count(opcode);
                if opcode == Opcode::Close {
                    self.end = at;
                    // A body that cannot be read passes only when the route lets invalid frames pass.
                    let code = Close::read(payload).map_or(NO_STATUS, |close| close.code);
                    self.close = Some((start, code));
                    seen.closed = Some(code);
                }
            }
        }
    }
}
