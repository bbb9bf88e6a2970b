//! Messages of one direction for a tap: parsed from the bytes that the side sent.

use super::inflater::Inflater;
use super::{LARGEST_EXCERPT, TappedMessage};
use crate::tunnel::Side;
use crate::websocket::frame::{
    Event, FrameParser, MAX_WITHHELD, Opcode, Rules, Sender, apply_mask, payload_of,
};

/// Nothing is refused here: the relay does that.
const RULES: Rules = Rules { max_frame: u64::MAX, max_message: u64::MAX, deflate: true, strict: false };

/// RSV1 of a frame's first byte: the message is compressed (RFC 7692 §6).
const COMPRESSED: u8 = 0x40;

/// Reads the messages from one side.
#[derive(Debug)]
pub(super) struct MessageReader {
    id: u64,
    from: Side,
    parser: FrameParser,
    /// The tap began within a message, which is skipped.
    skips: bool,
    /// The bytes can no longer be parsed.
    is_lost: bool,
    message: PartialMessage,
    /// The compression context; `None` without compression, or if its beginning was not seen.
    inflater: Option<Box<Inflater>>,
}

/// The message so far.
#[derive(Debug)]
struct PartialMessage {
    opcode: Opcode,
    is_compressed: bool,
    size: u64,
    excerpt: Vec<u8>,
    /// It could not be inflated, so it has no excerpt.
    is_unreadable: bool,
    /// The masking key of the current frame, rotated to its next byte; `None` between frames.
    key: Option<[u8; 4]>,
    /// Where the payload of the current chunk continues.
    at: usize,
}

/// Whether a tap sees the compression context of a direction begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompressionContext {
    /// There is no compression, or an unknown one.
    None,
    /// The context began before the tap and continues.
    Missed,
    /// From the beginning; `resets` if every message begins a new one.
    Seen { resets: bool },
}

impl MessageReader {
    /// Continues from the state of the relay's parser.
    pub(super) fn new(id: u64, from: Side, parser: &FrameParser, context: CompressionContext) -> Self {
        let inflater = match context {
            CompressionContext::Seen { resets } => Some(Box::new(Inflater::new(resets))),
            CompressionContext::None | CompressionContext::Missed => None,
        };
        Self {
            id,
            from,
            skips: !parser.between_messages(),
            parser: parser.clone(),
            is_lost: false,
            message: PartialMessage::new(),
            inflater,
        }
    }

    /// The side was replaced by another peer, whose first message begins.
    pub(super) fn restart(&mut self, context: CompressionContext) {
        let sender = match self.from {
            Side::Client => Sender::Client,
            Side::Backend => Sender::Server,
        };
        *self = Self::new(self.id, self.from, &FrameParser::new(sender), context);
    }

    /// Reads bytes as they were received, and reports every message and control frame.
    pub(super) fn read(&mut self, bytes: &[u8], report: &mut dyn FnMut(&TappedMessage)) {
        if self.is_lost {
            return;
        }
        // A header lies within one chunk, as the parser's events need it.
        let mut held = [0; MAX_WITHHELD];
        let withheld = self.parser.reclaim(&mut held);
        let joined;
        let chunk = if withheld == 0 {
            bytes
        } else {
            joined = [&held[..withheld], bytes].concat();
            &joined
        };
        let Self { id, from, parser, skips, message, inflater, .. } = self;
        message.at = 0;
        let mut reader = ChunkReader { id: *id, from: *from, skips, message, inflater, chunk, report };
        let result = parser.feed(chunk, &RULES, &mut |event| reader.on(event));
        let end = chunk.len() - parser.withheld().min(chunk.len());
        reader.take(end);
        self.is_lost = result.is_err();
    }
}

impl PartialMessage {
    fn new() -> Self {
        Self {
            opcode: Opcode::Binary,
            is_compressed: false,
            size: 0,
            excerpt: Vec::new(),
            is_unreadable: false,
            key: None,
            at: 0,
        }
    }
}

/// A message could not be inflated.
fn give_up(inflater: &mut Option<Box<Inflater>>) {
    *inflater = inflater.take().and_then(|failed| failed.after_failure()).map(Box::new);
}

/// The reader of one chunk.
struct ChunkReader<'a> {
    id: u64,
    from: Side,
    skips: &'a mut bool,
    message: &'a mut PartialMessage,
    inflater: &'a mut Option<Box<Inflater>>,
    chunk: &'a [u8],
    report: &'a mut dyn FnMut(&TappedMessage),
}

impl ChunkReader<'_> {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::FrameStart { opcode, at, .. } if !opcode.is_control() => self.begin(opcode, at),
            Event::FrameEnd { opcode, at, .. } if !opcode.is_control() => {
                self.take(at);
                self.message.key = None;
            }
            Event::MessageEnd { .. } if std::mem::take(self.skips) => {}
            Event::MessageEnd { .. } => self.end(),
            Event::Control { opcode, payload, .. } => {
                let message = TappedMessage {
                    id: self.id,
                    from: self.from,
                    opcode,
                    size: payload.len() as u64,
                    excerpt: payload.to_vec(),
                    is_compressed: false,
                };
                (self.report)(&message);
            }
            Event::FrameStart { .. } | Event::FrameEnd { .. } => {}
        }
    }

    fn begin(&mut self, opcode: Opcode, at: usize) {
        let Some((head, key)) = self.chunk.get(at..).and_then(payload_of) else { return };
        let message = &mut *self.message;
        message.at = at + head;
        message.key = Some(key);
        if opcode != Opcode::Continuation {
            message.opcode = opcode;
            message.is_compressed = self.chunk[at] & COMPRESSED != 0;
            message.size = 0;
            message.excerpt.clear();
            message.is_unreadable = false;
        }
    }

    /// Takes the payload of the current frame up to `to`.
    fn take(&mut self, to: usize) {
        let message = &mut *self.message;
        let Some(key) = &mut message.key else { return };
        let Some(bytes) = self.chunk.get(message.at..to).filter(|bytes| !bytes.is_empty()) else { return };
        message.at = to;
        message.size += bytes.len() as u64;
        let frame_key = *key;
        key.rotate_left(bytes.len() & 3);
        if *self.skips || message.is_unreadable {
            return;
        }
        if message.is_compressed
            && let Some(inflater) = self.inflater
        {
            let mut clear = bytes.to_vec();
            apply_mask(&mut clear, frame_key);
            if inflater.push(&clear, &mut message.excerpt, LARGEST_EXCERPT).is_err() {
                give_up(self.inflater);
                message.excerpt.clear();
                message.is_unreadable = true;
            }
            return;
        }
        let start = message.excerpt.len();
        let room = LARGEST_EXCERPT.saturating_sub(start).min(bytes.len());
        message.excerpt.extend_from_slice(&bytes[..room]);
        apply_mask(&mut message.excerpt[start..], frame_key);
    }

    fn end(&mut self) {
        let message = &mut *self.message;
        let mut is_compressed = message.is_compressed;
        if is_compressed
            && !message.is_unreadable
            && let Some(inflater) = self.inflater
        {
            match inflater.finish(&mut message.excerpt, LARGEST_EXCERPT) {
                Ok(size) => (message.size, is_compressed) = (size, false),
                Err(_) => {
                    give_up(self.inflater);
                    message.excerpt.clear();
                }
            }
        }
        let tapped = TappedMessage {
            id: self.id,
            from: self.from,
            opcode: message.opcode,
            size: message.size,
            excerpt: std::mem::take(&mut message.excerpt),
            is_compressed,
        };
        (self.report)(&tapped);
    }
}

#[cfg(test)]
mod tests {
    use crate::tunnel::tap::reader_invariants;
    use proptest::prelude::*;

    /// Frames with any content, and bytes that are no frames.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let frame = (any::<u8>(), any::<[u8; 4]>(), prop::collection::vec(any::<u8>(), 0..125)).prop_map(
            |(first, key, payload)| [&[first, 0x80 | payload.len() as u8][..], &key, &payload].concat(),
        );
        let piece = prop_oneof![8 => frame, 1 => prop::collection::vec(any::<u8>(), 0..20)];
        prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_split_are_the_same_messages(bytes in stream(), size in 1_usize..40) {
            reader_invariants::check(&bytes, size);
        }
    }
}
