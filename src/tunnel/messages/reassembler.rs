//! One direction taken apart into messages and put together again.

use super::buffer_pool;
use super::{Inspector, PluginClose, Stop};
use crate::plugin::ChainVerdict;
use crate::tunnel::{Reason, Side};
use crate::websocket::frame::{
    Event, FrameError, FrameParser, MAX_WITHHELD, Mask, Opcode, Rules, Sender, Violation, apply_mask,
    payload_of, write_message,
};
use bytes::BytesMut;
use moongate_sdk::{Direction, Message};

/// One direction of a tunnel whose messages are shown to somebody.
#[derive(Debug)]
pub struct Reassembler {
    follower: FrameParser,
    rules: Rules,
    desk: Desk,
}

/// The message under way.
#[derive(Debug)]
struct Desk {
    from: Side,
    opcode: Opcode,
    /// What came of its payload, in the clear. Without memory between two messages.
    payload: BytesMut,
    /// How much of a text was found to be UTF-8.
    checked: usize,
    /// The key of the frame under way, turned to its next byte; `None` between two frames.
    key: Option<[u8; 4]>,
    /// Nothing is shown or passed on any more; the source is followed to its Close.
    deaf: bool,
    stop: Option<Stop>,
}

/// What a feed led to besides what it wrote.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedResult {
    /// Messages that go no further, text and binary.
    pub dropped: [u32; 2],
    /// Bytes of a data frame came.
    pub data: bool,
}

impl Reassembler {
    /// A stage for what comes from this side, behind the handshake.
    #[must_use]
    pub fn new(from: Side, rules: Rules) -> Self {
        let sender = match from {
            Side::Client => Sender::Client,
            Side::Backend => Sender::Server,
        };
        let desk = Desk {
            from,
            opcode: Opcode::Binary,
            payload: BytesMut::new(),
            checked: 0,
            key: None,
            deaf: false,
            stop: None,
        };
        Self { follower: FrameParser::new(sender), rules, desk }
    }

    /// Takes `chunk`, shows the messages that it completes, and appends to `out` what is to pass: whole frames. What
    /// the last feed withheld is to stand in front of it (see [`Stage::reclaim`]).
    pub fn feed(&mut self, chunk: &[u8], inspector: &mut dyn Inspector, out: &mut Vec<u8>) -> FeedResult {
        let Self { follower, rules, desk } = self;
        if desk.stop.is_some() {
            return FeedResult::default();
        }
        let data = !chunk.is_empty() && desk.key.is_some();
        let mut feed =
            Feed { desk, inspector, out, chunk, at: 0, fed: FeedResult { data, ..FeedResult::default() } };
        let result = follower.feed(chunk, rules, &mut |event| feed.on(event));
        let fed = feed.finish();
        if let Err(violation) = result {
            desk.stop.get_or_insert(Stop::Violation(violation));
        }
        if !follower.in_message() {
            // The next message may be a day away.
            buffer_pool::give_back(std::mem::take(&mut desk.payload));
        }
        fed
    }

    /// Moves the start of a head or control frame that was cut to the front of `into`; see [`Follower::reclaim`].
    pub fn reclaim(&mut self, into: &mut [u8; MAX_WITHHELD]) -> usize {
        self.follower.reclaim(into)
    }

    /// Why nothing more comes, told once. After a dismissal the source is still followed to its Close.
    pub fn stopped(&mut self) -> Option<Stop> {
        let stop = self.desk.stop.take()?;
        self.desk.deaf = true;
        Some(stop)
    }

    /// From now on nothing is shown or passed on: the sink has got its Close.
    pub(in crate::tunnel) fn deafen(&mut self) {
        self.desk.deaf = true;
    }

    /// The source has sent its Close.
    pub(in crate::tunnel) fn has_closed(&self) -> bool {
        self.follower.closed()
    }

    /// Bytes kept of a message under way.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.desk.payload.capacity()
    }

    /// Another source begins; what the last one left unfinished is forgotten.
    pub(in crate::tunnel) fn take_over(&mut self) {
        *self = Self::new(self.desk.from, self.rules);
    }
}

/// One chunk at the desk.
struct Feed<'a> {
    desk: &'a mut Desk,
    inspector: &'a mut dyn Inspector,
    out: &'a mut Vec<u8>,
    chunk: &'a [u8],
    /// How far the chunk was taken.
    at: usize,
    fed: FeedResult,
}

impl Feed<'_> {
    fn on(&mut self, event: Event<'_>) {
        if self.desk.stop.is_some() {
            return;
        }
        match event {
            Event::FrameStart { opcode, at, .. } if !opcode.is_control() => self.begin(opcode, at),
            Event::FrameEnd { opcode, at, .. } if !opcode.is_control() => {
                self.take(at);
                self.desk.key = None;
            }
            Event::MessageEnd { .. } => self.end(),
            Event::Control { start, at, .. } if !self.desk.deaf => {
                self.out.extend_from_slice(&self.chunk[start..at]);
            }
            Event::Control { .. } | Event::FrameStart { .. } | Event::FrameEnd { .. } => {}
        }
    }

    /// A data frame begins.
    fn begin(&mut self, opcode: Opcode, at: usize) {
        // Its head is whole: what was withheld stands in front.
        let Some((head, key)) = payload_of(&self.chunk[at..]) else { return };
        self.at = at + head;
        self.fed.data = true;
        self.desk.key = Some(key);
        if opcode != Opcode::Continuation {
            self.desk.opcode = opcode;
            self.desk.checked = 0;
            if self.desk.payload.capacity() == 0 {
                self.desk.payload = buffer_pool::payload();
            }
            self.desk.payload.clear();
        }
    }

    /// Takes the payload up to `to`.
    fn take(&mut self, to: usize) {
        let desk = &mut *self.desk;
        let Some(key) = desk.key.as_mut().filter(|_| !desk.deaf) else { return };
        let bytes = &self.chunk[self.at..to];
        let start = desk.payload.len();
        desk.payload.extend_from_slice(bytes);
        if *key != [0; 4] {
            apply_mask(&mut desk.payload[start..], *key);
            key.rotate_left(bytes.len() & 3);
        }
        self.at = to;
        if desk.opcode == Opcode::Text && !desk.is_utf8_so_far() {
            self.violate();
        }
    }

    /// A message is whole.
    fn end(&mut self) {
        if self.desk.deaf {
            return;
        }
        let text = self.desk.opcode == Opcode::Text;
        if text && self.desk.checked < self.desk.payload.len() {
            return self.violate();
        }
        let direction = match self.desk.from {
            Side::Client => Direction::ToBackend,
            Side::Backend => Direction::ToClient,
        };
        let payload = std::mem::take(&mut self.desk.payload);
        let mut message = Message { direction, binary: !text, payload };
        match self.inspector.message(&mut message) {
            ChainVerdict::Forward => self.forward(&message),
            ChainVerdict::Drop => self.fed.dropped[usize::from(!text)] += 1,
            ChainVerdict::Close { code, reason } => {
                self.dismiss(PluginClose { reason: Reason::Plugin, code, text: reason });
            }
            ChainVerdict::Failed => self.dismiss(PluginClose::failed()),
        }
        self.desk.payload = message.payload;
    }

    fn forward(&mut self, message: &Message) {
        if !message.binary && std::str::from_utf8(&message.payload).is_err() {
            return self.dismiss(PluginClose::not_text());
        }
        let mask = match self.desk.from {
            Side::Client => Mask::fresh(),
            Side::Backend => Mask::Off,
        };
        let opcode = if message.binary { Opcode::Binary } else { Opcode::Text };
        write_message(self.out, opcode, &message.payload, mask);
    }

    fn dismiss(&mut self, dismissal: PluginClose) {
        self.desk.stop = Some(Stop::Dismissed(dismissal));
    }

    fn violate(&mut self) {
        let what = FrameError::Text;
        let violation = Violation { at: self.at, code: what.close_code(), what };
        self.desk.stop = Some(Stop::Violation(violation));
    }

    /// The chunk ends here, perhaps inside a frame.
    fn finish(mut self) -> FeedResult {
        if self.desk.stop.is_none() {
            self.take(self.chunk.len());
        }
        self.fed
    }
}

impl Desk {
    /// Whether what came of a text is the start of UTF-8. Each byte is looked at once, but for a character that is cut.
    fn is_utf8_so_far(&mut self) -> bool {
        match std::str::from_utf8(&self.payload[self.checked..]) {
            Ok(rest) => self.checked += rest.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return false,
        }
        true
    }
}
