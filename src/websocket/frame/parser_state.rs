//! The place of a parser within its stream, for a tunnel that another process continues.

use super::frame_parser::FrameParser;
use super::partial_header::{MAX_WITHHELD, PartialHeader};
use super::{Opcode, Sender};
use serde::{Deserialize, Serialize};

/// Where a parser is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct ParserState {
    /// Payload bytes of the current frame that have not arrived yet.
    left: u64,
    /// Wire bytes and frames of the current message, with the current frame.
    message_bytes: u64,
    message_frames: u32,
    /// The opcode of the current message: 1 or 2; `None` between messages.
    message: Option<u8>,
    /// The first byte of the frame that `left` counts.
    current: u8,
    /// The start of an incomplete header or control frame.
    held: Vec<u8>,
}

impl FrameParser {
    /// Where the parser is; `None` after a Close.
    #[must_use]
    pub fn state(&self) -> Option<ParserState> {
        let message = match self.message {
            None => None,
            Some(Opcode::Text) => Some(1),
            Some(_) => Some(2),
        };
        (!self.closed).then(|| ParserState {
            left: self.left,
            message_bytes: self.message_bytes,
            message_frames: self.message_frames,
            message,
            current: self.current,
            held: self.held.as_ref().map(|held| held.as_slice().to_vec()).unwrap_or_default(),
        })
    }

    /// A parser that continues there; `None` if no parser can be there.
    #[must_use]
    pub fn continue_from(sender: Sender, state: &ParserState) -> Option<Self> {
        let message = match state.message {
            None => None,
            Some(1) => Some(Opcode::Text),
            Some(2) => Some(Opcode::Binary),
            Some(_) => return None,
        };
        // Bytes are withheld only at the start of a frame.
        if state.held.len() > MAX_WITHHELD || (state.left > 0 && !state.held.is_empty()) {
            return None;
        }
        Some(Self {
            left: state.left,
            message_bytes: state.message_bytes,
            message_frames: state.message_frames,
            message,
            current: state.current,
            held: (!state.held.is_empty()).then(|| PartialHeader::new(&state.held)),
            ..Self::new(sender)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::super::{Event, Rules};
    use super::*;
    use proptest::prelude::*;

    const RULES: Rules = Rules { max_frame: u64::MAX, max_message: 400, deflate: false, strict: true };

    /// What a parser reports of the bytes, as text, and how it ends.
    fn feed(parser: &mut FrameParser, bytes: &[u8], said: &mut String) -> bool {
        let mut front = [0; MAX_WITHHELD];
        let withheld = parser.reclaim(&mut front);
        let chunk = [&front[..withheld], bytes].concat();
        let report = |event: Event<'_>| match event {
            Event::MessageEnd { opcode, .. } => said.push_str(&format!("{opcode:?} ")),
            Event::Control { opcode, payload, .. } => said.push_str(&format!("{opcode:?}{payload:?} ")),
            _ => {}
        };
        let mut report = report;
        parser.feed(&chunk, &RULES, &mut report).is_ok()
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let first = prop::sample::select(vec![0x81, 0x01, 0x02, 0x80, 0x00, 0x89, 0x8a, 0x83]);
        let frame = (first, prop::collection::vec(any::<u8>(), 0..130)).prop_map(
            |(first, payload): (u8, Vec<u8>)| {
                let length = if payload.len() < 126 {
                    vec![payload.len() as u8]
                } else {
                    vec![126, 0, payload.len() as u8]
                };
                [vec![first], length, payload].concat()
            },
        );
        prop::collection::vec(frame, 0..12).prop_map(|frames| frames.concat())
    }

    proptest! {
        #[test]
        fn a_parser_continues_in_another_process_at_any_byte(bytes in stream(), at in 0_usize..600) {
            let at = at.min(bytes.len());
            let (mut whole, mut said) = (FrameParser::new(Sender::Server), String::new());
            let is_valid = feed(&mut whole, &bytes, &mut said);
            let (mut first, mut told) = (FrameParser::new(Sender::Server), String::new());
            if !feed(&mut first, &bytes[..at], &mut told) {
                return Ok(());
            }
            let Some(state) = first.state() else { return Ok(()) };
            let text = serde_json::to_string(&state).unwrap();
            let mut second = FrameParser::continue_from(Sender::Server, &serde_json::from_str(&text).unwrap()).unwrap();
            let continues = feed(&mut second, &bytes[at..], &mut told);
            prop_assert_eq!((continues, told), (is_valid, said));
        }

        #[test]
        fn any_state_is_refused_or_can_be_fed(
            left in any::<u64>(), message in prop::option::of(0_u8..4), current in any::<u8>(),
            held in prop::collection::vec(any::<u8>(), 0..140), bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let state = ParserState { left, message, current, held, ..ParserState::default() };
            if let Some(mut parser) = FrameParser::continue_from(Sender::Client, &state) {
                feed(&mut parser, &bytes, &mut String::new());
            }
        }
    }
}
