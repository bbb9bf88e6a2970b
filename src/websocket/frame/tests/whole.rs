//! Tests that the fast path for whole messages agrees with the parser.

use super::super::Sender::{Client, Server};
use super::*;
use proptest::prelude::*;

/// The parser's observable state between two feeds.
fn state(follower: &FrameParser) -> (bool, bool, bool, usize) {
    (follower.at_boundary(), follower.between_messages(), follower.closed(), follower.withheld())
}

#[test]
fn a_message_in_one_frame_takes_the_fast_path() {
    for (first, opcode) in [(0x81, Opcode::Text), (0x82, Opcode::Binary)] {
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let bytes = frame(first, &vec![7; size], Server);
            assert_eq!(FrameParser::new(Server).whole_message(&bytes, &Rules::default()), Some(opcode));
            assert_eq!(
                FrameParser::new(Server).whole_message(&bytes[..bytes.len() - 1], &Rules::default()),
                None
            );
            assert_eq!(FrameParser::new(Client).whole_message(&bytes, &Rules::default()), None, "unmasked");
            let small = Rules { max_frame: size as u64, ..Rules::default() };
            assert_eq!(FrameParser::new(Server).whole_message(&bytes, &small), Some(opcode));
            let smaller = Rules { max_message: (size as u64).saturating_sub(1), ..small };
            assert_eq!(FrameParser::new(Server).whole_message(&bytes, &smaller).is_some(), size == 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_fast_path_agrees_with_the_parser(
        // Mostly whole messages, with other frames between them, and reads that end anywhere.
        frames in proptest::collection::vec(
            (prop_oneof![4 => 0x81u8..=0x82, 1 => any::<u8>()], proptest::collection::vec(any::<u8>(), 0..140)),
            1..12,
        ),
        joins in proptest::collection::vec(0u8..6, 12),
        client in any::<bool>(), strict in any::<bool>(), deflate in any::<bool>(),
        max_frame in 60u64..200, max_message in 60u64..200,
    ) {
        let sender = if client { Client } else { Server };
        let rules = Rules { max_frame, max_message, deflate, strict };
        let mut follower = FrameParser::new(sender);
        let mut rest = Vec::new();
        for ((first, payload), join) in frames.iter().zip(joins) {
            rest.extend(frame(*first, payload, sender));
            let end = match join { 0 => rest.len() / 2, 1 => continue, _ => rest.len() };
            let piece: Vec<u8> = rest.drain(..end).collect();
            let (at_once, before) = (follower.whole_message(&piece, &rules), state(&follower));
            let mut events = Vec::new();
            let fed = follower.feed(&piece, &rules, &mut |event| events.push(Seen::of(event, 0)));
            if let Some(opcode) = at_once {
                let at = piece.len();
                let told = matches!(&events[..], [
                    Seen::Start { opcode: start, fin: true, at: 0, .. },
                    Seen::End { opcode: end, fin: true, at: behind },
                    Seen::Message { opcode: message, frames: 1, .. },
                ] if [*start, *end, *message] == [opcode; 3] && *behind == at);
                prop_assert!(told && fed.is_ok(), "{events:?}");
                prop_assert_eq!(state(&follower), before);
                prop_assert_eq!(before, (true, true, false, 0));
            }
            if fed.is_err() {
                break;
            }
        }
    }
}
