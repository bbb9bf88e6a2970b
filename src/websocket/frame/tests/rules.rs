//! One test for each rule of RFC 6455 §5 and §7.4, and for the limits.

use super::*;
use Sender::{Client, Server};

fn wrong(sender: Sender, rules: Rules, stream: &[u8]) -> Option<(usize, FrameError)> {
    let heard = follow(sender, &rules, [stream]);
    heard.violation.map(|violation| {
        assert_eq!(violation.code, violation.what.close_code());
        (violation.at, violation.what)
    })
}

fn strictly(sender: Sender, stream: &[u8]) -> Option<(usize, FrameError)> {
    wrong(sender, Rules::default(), stream)
}

#[test]
fn a_parser_is_small() {
    assert_eq!(size_of::<FrameParser>(), 32);
}

#[test]
fn every_event_of_a_fragmented_message_with_a_ping_inside_comes_in_order() {
    let stream = [
        frame(1, b"hel", Server),
        frame(FIN | 9, b"there?", Server),
        frame(0, b"", Server),
        frame(FIN, b"lo", Server),
    ]
    .concat();
    let heard = follow(Server, &Rules::default(), [&stream[..]]);
    assert_eq!(heard.violation, None);
    let start = |opcode, fin, length, at| Seen::Start { opcode, fin, masked: false, length, at };
    assert_eq!(
        heard.events,
        [
            start(Opcode::Text, false, 3, 0),
            Seen::End { opcode: Opcode::Text, fin: false, at: 5 },
            start(Opcode::Ping, true, 6, 5),
            Seen::Control { opcode: Opcode::Ping, payload: b"there?".to_vec(), start: 5, at: 13 },
            Seen::End { opcode: Opcode::Ping, fin: true, at: 13 },
            start(Opcode::Continuation, false, 0, 13),
            Seen::End { opcode: Opcode::Continuation, fin: false, at: 15 },
            start(Opcode::Continuation, true, 2, 15),
            Seen::End { opcode: Opcode::Continuation, fin: true, at: 19 },
            Seen::Message { opcode: Opcode::Text, bytes: 5, frames: 3 },
        ]
    );
}

#[test]
fn the_examples_of_the_rfc_are_parsed() {
    // §5.7, in its order; pings and pongs are tested in `encode`.
    let hello: &[u8] = b"\x81\x05\x48\x65\x6c\x6c\x6f";
    let masked: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let fragments: &[u8] = b"\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f";
    let medium = [&b"\x82\x7e\x01\x00"[..], &[0; 256]].concat();
    let large = [&b"\x82\x7f\0\0\0\0\0\x01\0\0"[..], &[0; 65_536]].concat();
    let examples = [
        (Server, hello, Opcode::Text, 5, 1),
        (Client, masked, Opcode::Text, 5, 1),
        (Server, fragments, Opcode::Text, 5, 2),
        (Server, &medium, Opcode::Binary, 256, 1),
        (Server, &large, Opcode::Binary, 65_536, 1),
    ];
    for (sender, stream, opcode, bytes, frames) in examples {
        let heard = follow(sender, &Rules::default(), [stream]);
        assert_eq!(heard.violation, None);
        assert_eq!(heard.events.last(), Some(&Seen::Message { opcode, bytes, frames }));
    }
}

#[test]
fn a_clients_control_payload_is_unmasked() {
    let heard = follow(Client, &Rules::default(), [&frame(FIN | 10, b"me again", Client)[..]]);
    let payload = b"me again".to_vec();
    assert_eq!(heard.events[1], Seen::Control { opcode: Opcode::Pong, payload, start: 0, at: 14 });
}

#[test]
fn a_client_masks_and_a_server_does_not() {
    assert_eq!(strictly(Client, &frame(FIN | 2, b"x", Server)), Some((0, FrameError::Unmasked)));
    assert_eq!(strictly(Server, &frame(FIN | 2, b"x", Client)), Some((0, FrameError::Masked)));
    assert_eq!(strictly(Client, &frame(FIN | 8, b"", Server)), Some((0, FrameError::Unmasked)));
}

#[test]
fn reserved_opcodes_are_refused() {
    for opcode in (3..=7).chain(11..=15) {
        let stream = [frame(FIN | 1, b"ok", Server), frame(FIN | opcode, b"", Server)].concat();
        assert_eq!(strictly(Server, &stream), Some((4, FrameError::ReservedOpcode(opcode))));
    }
}

#[test]
fn reserved_bits_are_refused_on_every_opcode() {
    for bits in 1..=7 {
        for opcode in [1, 2, 8, 9, 10] {
            let stream = frame(FIN | bits << 4 | opcode, b"", Server);
            assert_eq!(strictly(Server, &stream), Some((0, FrameError::ReservedBits)), "{bits} {opcode}");
        }
    }
}

#[test]
fn deflate_gives_rsv1_a_meaning_on_the_first_frame_of_a_message_only() {
    let rules = Rules { deflate: true, ..Rules::default() };
    let rsv1 = 0x40;
    for opcode in [1, 2] {
        assert_eq!(wrong(Server, rules, &frame(FIN | rsv1 | opcode, b"x", Server)), None);
        assert_eq!(
            wrong(Server, rules, &frame(FIN | 0x60 | opcode, b"x", Server)),
            Some((0, FrameError::ReservedBits))
        );
    }
    let later = [frame(rsv1 | 1, b"x", Server), frame(FIN | rsv1, b"x", Server)].concat();
    assert_eq!(wrong(Server, rules, &later), Some((3, FrameError::ReservedBits)));
    for opcode in [8, 9, 10] {
        let stream = frame(FIN | rsv1 | opcode, b"", Server);
        assert_eq!(wrong(Server, rules, &stream), Some((0, FrameError::ReservedBits)));
    }
}

#[test]
fn control_frames_are_whole_and_short() {
    for opcode in [8, 9, 10] {
        assert_eq!(strictly(Server, &frame(opcode, b"", Server)), Some((0, FrameError::FragmentedControl)));
        assert_eq!(
            strictly(Server, &frame(FIN | opcode, &[0; 126], Server)),
            Some((0, FrameError::LongControl))
        );
        let head = [FIN | opcode, 126, 0, 126];
        assert_eq!(
            strictly(Server, &head),
            Some((0, FrameError::LongControl)),
            "by its header, before its payload"
        );
    }
    assert_eq!(strictly(Server, &frame(FIN | 9, &[0; 125], Server)), None);
}

#[test]
fn a_length_has_one_form() {
    for head in [&[FIN | 2, 126, 0, 125][..], &[FIN | 2, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]] {
        assert_eq!(strictly(Server, head), Some((0, FrameError::LengthNotMinimal)));
    }
    for head in [&[FIN | 2, 126, 0, 126][..], &[FIN | 2, 127, 0, 0, 0, 0, 0, 1, 0, 0]] {
        assert_eq!(strictly(Server, head), None);
    }
    let longest = [FIN | 2, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255];
    assert_eq!(strictly(Server, &longest), None);
    let beyond = [FIN | 2, 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(strictly(Server, &beyond), Some((0, FrameError::LengthTopBit)));
    let padded_ping = [FIN | 9, 126, 0, 1, b'x'];
    assert_eq!(strictly(Server, &padded_ping), Some((0, FrameError::LengthNotMinimal)));
}

#[test]
fn a_continuation_needs_a_message_and_a_message_needs_its_end() {
    assert_eq!(strictly(Server, &frame(FIN, b"x", Server)), Some((0, FrameError::LoneContinuation)));
    let twice = [frame(FIN | 1, b"a", Server), frame(FIN, b"b", Server)].concat();
    assert_eq!(strictly(Server, &twice), Some((3, FrameError::LoneContinuation)));
    let inside = [frame(1, b"a", Server), frame(FIN | 2, b"b", Server)].concat();
    assert_eq!(strictly(Server, &inside), Some((3, FrameError::InterleavedMessage)));
}

#[test]
fn a_close_body_is_empty_or_a_valid_code_and_utf8() {
    let close = |body: &[u8]| strictly(Client, &frame(FIN | 8, body, Client));
    assert_eq!(close(b""), None);
    assert_eq!(close(b"\x03\xe8"), None);
    assert_eq!(close("\u{3}\u{0}".as_bytes()), Some((0, FrameError::CloseCode(0x300))));
    assert_eq!(close(b"\x03"), Some((0, FrameError::CloseBody)));
    assert_eq!(close(b"\x03\xf7"), Some((0, FrameError::CloseCode(1015))));
    assert_eq!(close(b"\x03\xe8caf\xc3"), Some((0, FrameError::CloseReason)));
    let heard = follow(Client, &Rules::default(), [&frame(FIN | 8, b"\x03\xe8\xff", Client)[..]]);
    assert_eq!(heard.violation.map(|violation| violation.code), Some(1007));
    assert_eq!(heard.events, [], "a Close that may not pass is not reported");
}

#[test]
fn bytes_after_a_close_are_ignored() {
    let mut follower = FrameParser::new(Server);
    let stream = [frame(FIN | 8, b"", Server), frame(FIN | 7, b"junk", Server)].concat();
    let mut ends = Vec::new();
    for piece in [&stream[..], b"\xff\xff", b""] {
        follower
            .feed(piece, &Rules::default(), &mut |event| {
                if let Event::FrameEnd { at, .. } = event {
                    ends.push(at);
                }
            })
            .unwrap();
    }
    assert_eq!(ends, [2]);
    assert!(follower.closed() && follower.at_boundary() && !follower.may_inject());
}

#[test]
fn a_frame_or_message_beyond_its_limit_is_refused_by_its_header() {
    let rules = Rules { max_frame: 10, max_message: 15, ..Rules::default() };
    assert_eq!(wrong(Server, rules, &frame(FIN | 2, &[0; 10], Server)), None);
    assert_eq!(wrong(Server, rules, &[FIN | 2, 11]), Some((0, FrameError::FrameTooBig)));
    let message = [frame(2, &[0; 10], Server), frame(0, &[0; 5], Server)].concat();
    assert_eq!(wrong(Server, rules, &message), None);
    let beyond = [message, vec![FIN, 1]].concat();
    assert_eq!(wrong(Server, rules, &beyond), Some((19, FrameError::MessageTooBig)));
    assert_eq!(wrong(Server, rules, &frame(FIN | 9, &[0; 125], Server)), None, "control frames are free");
    assert_eq!(FrameError::MessageTooBig.close_code(), 1009);
}

#[test]
fn the_counts_of_a_message_start_at_zero() {
    let rules = Rules { max_message: 6, ..Rules::default() };
    let message = [frame(1, b"abc", Server), frame(FIN, b"def", Server)].concat();
    assert_eq!(wrong(Server, rules, &message.repeat(3)), None);
}

#[test]
fn violations_pass_if_configured_and_their_frames_are_parsed() {
    let rules = Rules { strict: false, max_frame: 1000, max_message: 1000, ..Rules::default() };
    let opaque = [
        frame(FIN, b"continues nothing", Client),
        frame(FIN | 0x75, b"reserved", Client),
        frame(FIN | 9, &[b'p'; 200], Client),
    ]
    .concat();
    let pong = opaque.len();
    let stream = [
        opaque,
        frame(10, b"cut", Server),
        vec![FIN | 2, 126, 0, 1, b'x'],
        frame(1, b"begun", Client),
        frame(FIN | 2, b"begun anew", Client),
        frame(FIN | 8, b"\x01", Client),
    ]
    .concat();
    let heard = follow(Client, &rules, [&stream[..]]);
    assert_eq!(heard.violation, None);
    let told: Vec<_> =
        heard.events.iter().filter(|seen| !matches!(seen, Seen::Start { .. } | Seen::End { .. })).collect();
    let (close, at) = (stream.len() - 7, stream.len());
    assert_eq!(
        told,
        [
            &Seen::Control { opcode: Opcode::Pong, payload: b"cut".to_vec(), start: pong, at: pong + 5 },
            &Seen::Message { opcode: Opcode::Binary, bytes: 1, frames: 1 },
            &Seen::Message { opcode: Opcode::Binary, bytes: 10, frames: 1 },
            &Seen::Control { opcode: Opcode::Close, payload: vec![1], start: close, at },
        ]
    );
    let big = [FIN | 2, 126, 3, 233];
    assert_eq!(wrong(Client, rules, &big), Some((0, FrameError::FrameTooBig)), "limits hold either way");
}

/// Its receiver ends the connection in any case, and the sender waits for that.
#[test]
fn a_close_that_is_too_long_is_a_close_if_violations_pass() {
    let rules = Rules { strict: false, ..Rules::default() };
    let mut follower = FrameParser::new(Client);
    let close = frame(FIN | 8, &[b'c'; 126], Client);
    let (last, rest) = close.split_last().unwrap();
    follower.feed(rest, &rules, &mut |_| {}).unwrap();
    assert!(!follower.closed());
    follower.feed(&[*last], &rules, &mut |_| {}).unwrap();
    assert!(follower.closed());
}

#[test]
fn lone_continuations_do_not_add_to_a_message() {
    let rules = Rules { strict: false, max_message: 6, ..Rules::default() };
    let lone = frame(FIN, b"alone", Server).repeat(3);
    let stream = [&frame(FIN | 1, b"before", Server)[..], &lone].concat();
    assert_eq!(wrong(Server, rules, &stream), None);
}

#[test]
fn a_bad_frame_from_an_earlier_feed_is_at_offset_zero() {
    let mut follower = FrameParser::new(Server);
    let rules = Rules::default();
    assert_eq!(follower.feed(&[FIN | 1, 0, FIN | 3], &rules, &mut |_| {}), Ok(()));
    let violation = follower.feed(&[0, FIN | 1, 0], &rules, &mut |_| panic!("nothing is good")).unwrap_err();
    assert_eq!((violation.at, violation.what), (0, FrameError::ReservedOpcode(3)));
    assert!(!follower.at_boundary(), "one byte of it was passed on");
    assert_eq!(follower.withheld(), 1);
}
