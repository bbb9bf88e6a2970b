//! Shared helpers of the frame parser's tests: frames byte by byte, and two callers of `feed`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod injection;
mod oracle;
mod rules;
mod splits;
mod whole;

use super::*;

pub(super) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
pub(super) const FIN: u8 = 0x80;

/// A frame on the wire. `length` is the 7-bit field with its extended form.
pub(super) fn frame(first: u8, payload: &[u8], sender: Sender) -> Vec<u8> {
    let size = payload.len();
    let mut bytes = vec![first];
    match size {
        0..=125 => bytes.push(size as u8),
        126..=0xffff => {
            bytes.push(126);
            bytes.extend((size as u16).to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend((size as u64).to_be_bytes());
        }
    }
    if sender == Sender::Client {
        bytes[1] |= 0x80;
        bytes.extend(KEY);
        bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// An event with offsets from the start of the stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Start { opcode: Opcode, fin: bool, masked: bool, length: u64, at: usize },
    Control { opcode: Opcode, payload: Vec<u8>, start: usize, at: usize },
    End { opcode: Opcode, fin: bool, at: usize },
    Message { opcode: Opcode, bytes: u64, frames: u32 },
}

impl Seen {
    pub(super) fn of(event: Event<'_>, base: usize) -> Self {
        match event {
            Event::FrameStart { opcode, fin, masked, length, at } => {
                Self::Start { opcode, fin, masked, length, at: base + at }
            }
            Event::Control { opcode, payload, start, at } => {
                Self::Control { opcode, payload: payload.to_vec(), start: base + start, at: base + at }
            }
            Event::FrameEnd { opcode, fin, at } => Self::End { opcode, fin, at: base + at },
            Event::MessageEnd { opcode, bytes, frames } => Self::Message { opcode, bytes, frames },
        }
    }

    /// The event without its frame's start, which is unknown to a feed that starts inside a header.
    pub(super) fn without_start(self) -> Self {
        match self {
            Self::Start { opcode, fin, masked, length, .. } => {
                Self::Start { opcode, fin, masked, length, at: 0 }
            }
            Self::Control { opcode, payload, at, .. } => Self::Control { opcode, payload, start: 0, at },
            other => other,
        }
    }
}

/// The result of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Heard {
    pub(super) events: Vec<Seen>,
    pub(super) violation: Option<Violation>,
}

impl Heard {
    pub(super) fn without_starts(self) -> Self {
        let events = self.events.into_iter().map(Seen::without_start).collect();
        Self { events, violation: self.violation.map(|violation| Violation { at: 0, ..violation }) }
    }
}

/// Feeds the pieces in order and forwards everything at once.
pub(super) fn follow<'a>(sender: Sender, rules: &Rules, pieces: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let mut follower = FrameParser::new(sender);
    let (mut events, mut base) = (Vec::new(), 0);
    for piece in pieces {
        let fed = follower.feed(piece, rules, &mut |event| events.push(Seen::of(event, base)));
        if let Err(violation) = fed {
            return Heard { events, violation: Some(Violation { at: base + violation.at, ..violation }) };
        }
        base += piece.len();
    }
    Heard { events, violation: None }
}

/// Feeds the pieces in order, withholds incomplete frames, and checks that the forwarded bytes are the
/// stream.
pub(super) fn follow_withholding<'a>(
    sender: Sender,
    rules: &Rules,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Heard {
    let mut follower = FrameParser::new(sender);
    let (mut passed, mut stream) = (Vec::<u8>::new(), Vec::<u8>::new());
    let mut events = Vec::new();
    for piece in pieces {
        stream.extend(piece);
        let mut front = [0; MAX_WITHHELD];
        let carried = follower.reclaim(&mut front);
        let bytes = [&front[..carried], piece].concat();
        let base = passed.len();
        let fed = follower.feed(&bytes, rules, &mut |event| events.push(Seen::of(event, base)));
        if let Err(violation) = fed {
            assert_eq!(follower.withheld(), 0, "the offending frame starts within the feed");
            assert!(follower.may_inject() && follower.at_boundary(), "a Close can replace the frame");
            return Heard { events, violation: Some(Violation { at: base + violation.at, ..violation }) };
        }
        passed.extend(&bytes[..bytes.len() - follower.withheld()]);
        assert_eq!(passed, stream[..stream.len() - follower.withheld()]);
    }
    Heard { events, violation: None }
}

/// `stream`, split at each of `cuts`.
pub(super) fn pieces<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts = cuts.to_vec();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}
