//! Any bytes in any split: the frame parser never panics and reports the same events for every split. Its output is
//! the stream itself, split where a control frame may be inserted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moongate::websocket::frame::{Event, FrameParser, MAX_WITHHELD, Rules, Sender, Violation};

/// The number of events of each kind, and a checksum of their contents.
type Summary = ([u64; 4], u64);

fuzz_target!(|data: &[u8]| {
    let [options, step, stream @ ..] = data else { return };
    let sender = if options & 1 == 0 { Sender::Client } else { Sender::Server };
    let limit = if options & 2 == 0 { u64::MAX } else { 512 };
    let rules = Rules {
        max_frame: limit,
        max_message: limit.saturating_mul(2),
        deflate: options & 4 != 0,
        strict: options & 8 == 0,
    };
    let whole = follow(sender, &rules, stream, stream.len().max(1));
    let pieces = follow(sender, &rules, stream, usize::from(*step).max(1));
    assert_eq!(whole, pieces);
});

fn follow(sender: Sender, rules: &Rules, stream: &[u8], step: usize) -> (Summary, Option<Violation>) {
    let mut follower = FrameParser::new(sender);
    let (mut summary, mut passed) = (Summary::default(), 0);
    for piece in stream.chunks(step) {
        let mut front = [0; MAX_WITHHELD];
        let carried = follower.reclaim(&mut front);
        let bytes = [&front[..carried], piece].concat();
        let mut last = 0;
        let fed = follower.feed(&bytes, rules, &mut |event| {
            if let Some(at) = note(&mut summary, event) {
                assert!(last <= at && at <= bytes.len());
                last = at;
            }
        });
        if let Err(violation) = fed {
            assert!(follower.may_inject());
            return (summary, Some(Violation { at: passed + violation.at, ..violation }));
        }
        passed += bytes.len() - follower.withheld();
    }
    (summary, None)
}

/// Adds one event. Returns its offset, if it has one: offsets never decrease.
fn note((counts, sum): &mut Summary, event: Event<'_>) -> Option<usize> {
    let (kind, value, at) = match event {
        Event::FrameStart { opcode, fin, masked, length, at } => {
            (0, length ^ opcode as u64 ^ u64::from(fin) << 8 ^ u64::from(masked) << 9, Some(at))
        }
        Event::Control { payload, at, .. } => {
            (1, payload.iter().map(|byte| u64::from(*byte)).sum(), Some(at))
        }
        Event::FrameEnd { opcode, at, .. } => (2, opcode as u64, Some(at)),
        Event::MessageEnd { bytes, frames, .. } => (3, bytes ^ u64::from(frames), None),
    };
    counts[kind] += 1;
    *sum = sum.rotate_left(7).wrapping_add(value);
    at
}
