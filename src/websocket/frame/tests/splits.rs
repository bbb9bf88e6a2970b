//! Tests that the parser's events do not depend on how a stream is split.

use super::*;
use Sender::{Client, Server};
use proptest::prelude::*;

/// Streams with every type of frame, header and violation, short enough to be split everywhere.
fn streams(sender: Sender) -> Vec<Vec<u8>> {
    let good = [
        frame(FIN | 1, b"", sender),
        frame(FIN | 2, b"abc", sender),
        frame(1, b"frag", sender),
        frame(FIN | 9, b"ping inside", sender),
        frame(0, b"", sender),
        frame(FIN, b"ment", sender),
        frame(FIN | 10, b"", sender),
        frame(FIN | 2, &[7; 130], sender),
        frame(FIN | 8, b"\x03\xe8bye", sender),
        b"ignored".to_vec(),
    ]
    .concat();
    let full_ping = [frame(FIN | 9, &[b'p'; 125], sender), frame(FIN | 1, b"on", sender)].concat();
    let mut streams = vec![good, full_ping];
    let bad: [&[u8]; 6] = [
        &frame(FIN | 3, b"", sender),
        &frame(FIN | 8, b"\x03\xedno", sender),
        &frame(FIN | 8, b"\x03\xe8\xff", sender),
        &[FIN | 2, 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
        &[FIN | 2, 126 | if sender == Client { 0x80 } else { 0 }, 0, 3, 1, 2, 3, 4, 5, 6, 7],
        &frame(FIN, b"alone", sender),
    ];
    for bad in bad {
        streams.push([&frame(FIN | 1, b"fine", sender), bad, b"rest"].concat());
    }
    streams
}

#[test]
fn two_splits_anywhere_give_the_same_events() {
    for sender in [Client, Server] {
        for rules in [Rules::default(), Rules { strict: false, ..Rules::default() }] {
            for stream in streams(sender) {
                let whole = follow(sender, &rules, [&stream[..]]);
                for first in 0..=stream.len() {
                    for second in first..=stream.len() {
                        let cut = pieces(&stream, &[first, second]);
                        let heard = follow(sender, &rules, cut.iter().copied());
                        assert_eq!(heard.without_starts(), whole.clone().without_starts());
                        let heard = follow_withholding(sender, &rules, cut);
                        assert_eq!(heard, whole, "cut at {first} and {second}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_byte_at_a_time_gives_the_same_events() {
    for sender in [Client, Server] {
        for stream in streams(sender) {
            let whole = follow(sender, &Rules::default(), [&stream[..]]);
            assert_eq!(follow_withholding(sender, &Rules::default(), stream.chunks(1)), whole);
            let heard = follow(sender, &Rules::default(), stream.chunks(1));
            assert_eq!(heard.without_starts(), whole.without_starts());
        }
    }
}

#[test]
fn withheld_bytes_are_bounded() {
    let stream = frame(FIN | 9, &[b'p'; 125], Client);
    let mut follower = FrameParser::new(Client);
    for (fed, byte) in stream[..MAX_WITHHELD].iter().enumerate() {
        follower.feed(&[*byte], &Rules::default(), &mut |_| panic!("nothing is whole")).unwrap();
        assert_eq!(follower.withheld(), fed + 1);
        assert!(!follower.at_boundary() && follower.may_inject());
    }
    follower.feed(&stream[MAX_WITHHELD..], &Rules::default(), &mut |_| {}).unwrap();
    assert_eq!(follower.withheld(), 0);
    assert!(follower.at_boundary());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn noise_does_not_panic_and_splits_do_not_matter(
        stream in proptest::collection::vec(any::<u8>(), 0..300),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        client in any::<bool>(), strict in any::<bool>(), deflate in any::<bool>(),
        max_frame in 0u64..70_000, max_message in 0u64..70_000,
    ) {
        let sender = if client { Client } else { Server };
        let rules = Rules { max_frame, max_message, deflate, strict };
        let cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        let whole = follow(sender, &rules, [&stream[..]]);
        let heard = follow_withholding(sender, &rules, pieces(&stream, &cuts));
        prop_assert_eq!(&heard, &whole);
        let heard = follow(sender, &rules, pieces(&stream, &cuts));
        prop_assert_eq!(heard.without_starts(), whole.without_starts());
    }
}
