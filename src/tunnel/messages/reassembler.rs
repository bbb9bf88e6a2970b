//! Reassembly of one direction: frames to messages, inspection, and back to frames.

use super::buffer_pool;
use super::{Inspector, PluginClose, Stop};
use crate::plugin::ChainVerdict;
use crate::tunnel::state::{ReassemblerState, valid_start};
use crate::tunnel::{Reason, Side};
use crate::websocket::frame::{
    Event, FrameError, FrameParser, MAX_WITHHELD, Mask, Opcode, Rules, Sender, Violation, apply_mask,
    payload_of, write_message,
};
use bytes::BytesMut;
use moongate_sdk::{Direction, Message};

/// One inspected direction of a tunnel.
#[derive(Debug)]
pub struct Reassembler {
    follower: FrameParser,
    rules: Rules,
    partial: PartialMessage,
}

/// The current message.
#[derive(Debug)]
struct PartialMessage {
    from: Side,
    opcode: Opcode,
    /// Its unmasked payload so far. No allocation between messages.
    payload: BytesMut,
    /// The length of the text that was validated as UTF-8.
    checked: usize,
    /// The masking key of the current frame, rotated to its next byte; `None` between frames.
    key: Option<[u8; 4]>,
    /// Nothing is inspected or forwarded any more; the source is parsed for its Close frame only.
    muted: bool,
    stop: Option<Stop>,
}

/// The result of a feed besides its output.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedResult {
    /// Dropped messages, text and binary.
    pub dropped: [u32; 2],
    /// Whether bytes of a data frame were received.
    pub data: bool,
}

impl Reassembler {
    /// A reassembler for bytes from this side, after the handshake.
    #[must_use]
    pub fn new(from: Side, rules: Rules) -> Self {
        let sender = match from {
            Side::Client => Sender::Client,
            Side::Backend => Sender::Server,
        };
        let partial = PartialMessage {
            from,
            opcode: Opcode::Binary,
            payload: BytesMut::new(),
            checked: 0,
            key: None,
            muted: false,
            stop: None,
        };
        Self { follower: FrameParser::new(sender), rules, partial }
    }

    /// Decodes `chunk`, inspects the messages that it completes, and appends the frames to forward to `out`.
    /// The caller prepends the bytes that the last feed withheld (see [`Reassembler::reclaim`]).
    pub fn feed(&mut self, chunk: &[u8], inspector: &mut dyn Inspector, out: &mut Vec<u8>) -> FeedResult {
        let Self { follower, rules, partial } = self;
        if partial.stop.is_some() {
            return FeedResult::default();
        }
        let data = !chunk.is_empty() && partial.key.is_some();
        let mut feed =
            Feed { partial, inspector, out, chunk, at: 0, fed: FeedResult { data, ..FeedResult::default() } };
        let result = follower.feed(chunk, rules, &mut |event| feed.on(event));
        let fed = feed.finish();
        if let Err(violation) = result {
            partial.stop.get_or_insert(Stop::Violation(violation));
        }
        if !follower.in_message() {
            // The next message may come much later.
            buffer_pool::give_back(std::mem::take(&mut partial.payload));
        }
        fed
    }

    /// Moves an incomplete frame header or control frame to the front of `into`; see
    /// [`FrameParser::reclaim`].
    pub fn reclaim(&mut self, into: &mut [u8; MAX_WITHHELD]) -> usize {
        self.follower.reclaim(into)
    }

    /// Why the reassembler stopped, returned once. After a plugin's close, the source is still parsed for its
    /// Close frame.
    pub fn stopped(&mut self) -> Option<Stop> {
        let stop = self.partial.stop.take()?;
        self.partial.muted = true;
        Some(stop)
    }

    /// Stops inspection and forwarding: the sink has received its Close frame.
    pub(in crate::tunnel) fn mute(&mut self) {
        self.partial.muted = true;
    }

    /// Returns whether the source has sent its Close frame.
    pub(in crate::tunnel) fn has_closed(&self) -> bool {
        self.follower.closed()
    }

    /// The state for another process; `None` if the inspector or the source ends the tunnel.
    pub(in crate::tunnel) fn state(&self) -> Option<ReassemblerState> {
        let Self { follower, partial, .. } = self;
        if partial.muted || partial.stop.is_some() {
            return None;
        }
        Some(ReassemblerState {
            parser: follower.state()?,
            is_text: partial.opcode == Opcode::Text,
            payload: if follower.in_message() { partial.payload.to_vec() } else { Vec::new() },
            key: partial.key,
        })
    }

    /// Continues with the state of another process; `None` if it is not one.
    pub(in crate::tunnel) fn resume(&mut self, state: ReassemblerState) -> Option<()> {
        let ReassemblerState { parser, is_text, payload, key } = state;
        self.follower = FrameParser::continue_from(self.follower.sender(), &parser)?;
        let partial = &mut self.partial;
        partial.opcode = if is_text { Opcode::Text } else { Opcode::Binary };
        partial.checked = if is_text { valid_start(&payload)? } else { 0 };
        partial.key = key;
        if self.follower.in_message() {
            partial.payload = buffer_pool::payload();
            partial.payload.extend_from_slice(&payload);
        }
        Some(())
    }

    /// The parser of the source's frames.
    pub(in crate::tunnel) fn parser(&self) -> &FrameParser {
        &self.follower
    }

    /// Bytes held of the current message.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.partial.payload.capacity()
    }

    /// Resets the state for another source; an incomplete message is discarded.
    pub(in crate::tunnel) fn take_over(&mut self) {
        *self = Self::new(self.partial.from, self.rules);
    }
}

/// The decoding of one chunk.
struct Feed<'a> {
    partial: &'a mut PartialMessage,
    inspector: &'a mut dyn Inspector,
    out: &'a mut Vec<u8>,
    chunk: &'a [u8],
    /// The consumed length of the chunk.
    at: usize,
    fed: FeedResult,
}

impl Feed<'_> {
    fn on(&mut self, event: Event<'_>) {
        if self.partial.stop.is_some() {
            return;
        }
        match event {
            Event::FrameStart { opcode, at, .. } if !opcode.is_control() => self.begin(opcode, at),
            Event::FrameEnd { opcode, at, .. } if !opcode.is_control() => {
                self.take(at);
                self.partial.key = None;
            }
            Event::MessageEnd { .. } => self.end(),
            Event::Control { start, at, .. } if !self.partial.muted => {
                self.out.extend_from_slice(&self.chunk[start..at]);
            }
            Event::Control { .. } | Event::FrameStart { .. } | Event::FrameEnd { .. } => {}
        }
    }

    /// Starts a data frame.
    fn begin(&mut self, opcode: Opcode, at: usize) {
        // The header is complete, since withheld bytes are prepended.
        let Some((head, key)) = payload_of(&self.chunk[at..]) else { return };
        self.at = at + head;
        self.fed.data = true;
        self.partial.key = Some(key);
        if opcode != Opcode::Continuation {
            self.partial.opcode = opcode;
            self.partial.checked = 0;
            if self.partial.payload.capacity() == 0 {
                self.partial.payload = buffer_pool::payload();
            }
            self.partial.payload.clear();
        }
    }

    /// Consumes the payload up to `to`.
    fn take(&mut self, to: usize) {
        let partial = &mut *self.partial;
        let Some(key) = partial.key.as_mut().filter(|_| !partial.muted) else { return };
        let bytes = &self.chunk[self.at..to];
        let start = partial.payload.len();
        partial.payload.extend_from_slice(bytes);
        if *key != [0; 4] {
            apply_mask(&mut partial.payload[start..], *key);
            key.rotate_left(bytes.len() & 3);
        }
        self.at = to;
        if partial.opcode == Opcode::Text && !partial.is_utf8_so_far() {
            self.violate();
        }
    }

    /// Completes a message.
    fn end(&mut self) {
        if self.partial.muted {
            return;
        }
        let text = self.partial.opcode == Opcode::Text;
        if text && self.partial.checked < self.partial.payload.len() {
            return self.violate();
        }
        let direction = match self.partial.from {
            Side::Client => Direction::ToBackend,
            Side::Backend => Direction::ToClient,
        };
        let payload = std::mem::take(&mut self.partial.payload);
        let mut message = Message { direction, binary: !text, payload };
        match self.inspector.message(&mut message) {
            ChainVerdict::Forward => self.forward(&message),
            ChainVerdict::Drop => self.fed.dropped[usize::from(!text)] += 1,
            ChainVerdict::Close { code, reason } => {
                self.dismiss(PluginClose { reason: Reason::Plugin, code, text: reason });
            }
            ChainVerdict::Failed => self.dismiss(PluginClose::failed()),
        }
        self.partial.payload = message.payload;
    }

    fn forward(&mut self, message: &Message) {
        if !message.binary && std::str::from_utf8(&message.payload).is_err() {
            return self.dismiss(PluginClose::not_text());
        }
        let mask = match self.partial.from {
            Side::Client => Mask::fresh(),
            Side::Backend => Mask::Off,
        };
        let opcode = if message.binary { Opcode::Binary } else { Opcode::Text };
        write_message(self.out, opcode, &message.payload, mask);
    }

    fn dismiss(&mut self, plugin_close: PluginClose) {
        self.partial.stop = Some(Stop::Dismissed(plugin_close));
    }

    fn violate(&mut self) {
        let what = FrameError::Text;
        let violation = Violation { at: self.at, code: what.close_code(), what };
        self.partial.stop = Some(Stop::Violation(violation));
    }

    /// Ends the chunk, perhaps inside a frame.
    fn finish(mut self) -> FeedResult {
        if self.partial.stop.is_none() {
            self.take(self.chunk.len());
        }
        self.fed
    }
}

impl PartialMessage {
    /// Returns whether the text so far is the start of valid UTF-8. Each byte is validated once, except for a
    /// split character.
    fn is_utf8_so_far(&mut self) -> bool {
        let valid = valid_start(&self.payload[self.checked..]);
        self.checked += valid.unwrap_or_default();
        valid.is_some()
    }
}
