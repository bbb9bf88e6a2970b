//! Encoding of the gateway's own frames: control frames (§5.5) on the stack, and messages as single frames.
//! `FrameParser::may_inject` finds where control frames may be inserted.

use super::header::{MAX_CONTROL, Opcode};
use super::mask::{Mask, apply_mask};
use super::may_be_sent;

const FIN: u8 = 0x80;
const TEXT: u8 = FIN | 1;
const BINARY: u8 = FIN | 2;
const CLOSE: u8 = FIN | 8;
const PING: u8 = FIN | 9;
const MASKED: u8 = 0x80;

/// Appends a message of one frame to `out`; any opcode but [`Opcode::Text`] makes it a binary one.
pub fn write_message(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Mask) {
    out.reserve(14 + payload.len());
    out.push(if opcode == Opcode::Text { TEXT } else { BINARY });
    let bit = if mask == Mask::Off { 0 } else { MASKED };
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => out.push(bit | short),
        (_, Ok(middle)) => {
            out.push(bit | 126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(bit | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    match mask {
        Mask::Off => out.extend_from_slice(payload),
        Mask::With(key) => {
            out.extend_from_slice(&key);
            let start = out.len();
            out.extend_from_slice(payload);
            apply_mask(&mut out[start..], key);
        }
    }
}

/// An encoded control frame.
#[derive(Clone, Copy)]
pub struct ControlFrame {
    bytes: [u8; 6 + MAX_CONTROL],
    length: u8,
}

impl ControlFrame {
    /// A Close with a code and a reason. The reason is cut to 123 bytes at a character boundary. A code that
    /// must not be sent, such as 1005 for "no status" (§7.4.1), gives a Close with an empty body.
    #[must_use]
    pub fn close(code: u16, reason: &str, mask: Mask) -> Self {
        if !may_be_sent(code) {
            return Self::write(CLOSE, &[], mask);
        }
        let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL - 2)];
        let mut body = [0; MAX_CONTROL];
        body[..2].copy_from_slice(&code.to_be_bytes());
        body[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
        Self::write(CLOSE, &body[..2 + reason.len()], mask)
    }

    /// A Ping. The payload is cut to [`MAX_CONTROL`].
    #[must_use]
    pub fn ping(payload: &[u8], mask: Mask) -> Self {
        Self::write(PING, payload, mask)
    }

    /// The frame, head and payload.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn write(first: u8, payload: &[u8], mask: Mask) -> Self {
        let payload = &payload[..payload.len().min(MAX_CONTROL)];
        let mut bytes = [0; 6 + MAX_CONTROL];
        // At most 125 after the line above, so it fits the 7-bit length.
        let short = payload.len() as u8;
        let head = match mask {
            Mask::Off => {
                bytes[..2].copy_from_slice(&[first, short]);
                2
            }
            Mask::With([a, b, c, d]) => {
                bytes[..6].copy_from_slice(&[first, MASKED | short, a, b, c, d]);
                6
            }
        };
        let body = &mut bytes[head..head + payload.len()];
        body.copy_from_slice(payload);
        if let Mask::With(key) = mask {
            apply_mask(body, key);
        }
        Self { bytes, length: head as u8 + short }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::frame::{Close, Event, FrameParser, Rules, Sender, payload_of};

    /// The payload that the parser finds in `frame`.
    fn payload(sender: Sender, frame: &ControlFrame) -> Vec<u8> {
        let mut payload = None;
        let fed = FrameParser::new(sender).feed(frame.as_bytes(), &Rules::default(), &mut |event| {
            if let Event::Control { payload: found, .. } = event {
                payload = Some(found.to_vec());
            }
        });
        assert_eq!(fed, Ok(()));
        payload.into_iter().flatten().collect()
    }

    #[test]
    fn a_frame_is_the_bytes_of_the_rfc() {
        // §5.7: a ping with "Hello", and the same with the mask of the pong to it.
        assert_eq!(ControlFrame::ping(b"Hello", Mask::Off).as_bytes(), b"\x89\x05Hello");
        let masked = ControlFrame::ping(b"Hello", Mask::With([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(masked.as_bytes(), b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    }

    #[test]
    fn a_message_is_one_frame_that_the_parser_accepts() {
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<_> = (0..size).map(|byte| byte as u8).collect();
            for (sender, mask) in [(Sender::Client, Mask::fresh()), (Sender::Server, Mask::Off)] {
                let (mut out, mut seen) = (Vec::new(), Vec::new());
                write_message(&mut out, Opcode::Binary, &payload, mask);
                let fed = FrameParser::new(sender).feed(&out, &Rules::default(), &mut |event| {
                    if let Event::MessageEnd { opcode, bytes, frames } = event {
                        seen.push((opcode, bytes, frames));
                    }
                });
                assert_eq!((fed, &seen[..]), (Ok(()), &[(Opcode::Binary, size, 1)][..]));
                let (start, key) = payload_of(&out).unwrap_or_default();
                let body = &mut out[start..];
                apply_mask(body, key);
                assert!(*body == *payload, "{size}");
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        let close = ControlFrame::close(1012, &"é".repeat(100), Mask::With([1, 2, 3, 4]));
        let payload = payload(Sender::Client, &close);
        assert_eq!(Close::read(&payload), Ok(Close { code: 1012, reason: &"é".repeat(61) }));
        let close = ControlFrame::close(1012, &"e".repeat(200), Mask::Off);
        assert_eq!(close.as_bytes().len(), 2 + MAX_CONTROL);
    }

    #[test]
    fn a_code_that_must_not_be_sent_gives_an_empty_body() {
        assert_eq!(ControlFrame::close(1005, "none", Mask::Off).as_bytes(), [0x88, 0]);
        assert_eq!(ControlFrame::close(1006, "gone", Mask::Off).as_bytes(), [0x88, 0]);
    }

    #[test]
    fn a_long_ping_is_cut_to_the_size_of_a_control_frame() {
        let ping = ControlFrame::ping(&[7; 200], Mask::With([1, 2, 3, 4]));
        assert_eq!(payload(Sender::Client, &ping), [7; MAX_CONTROL]);
    }
}
