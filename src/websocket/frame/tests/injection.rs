//! Tests of control frames inserted by the gateway: the receiver reads them as part of the stream.

use super::oracle::tungstenite;
use super::*;
use Sender::{Client, Server};
use tungstenite::Message;

const OURS: &[u8] = b"from the gateway";

fn our_ping(sender: Sender) -> ControlFrame {
    ControlFrame::ping(OURS, if sender == Client { Mask::With([9, 8, 7, 6]) } else { Mask::Off })
}

/// A small message, a message of three long fragments with a Ping between them, and another small message.
fn stream(sender: Sender, fragment: usize) -> Vec<u8> {
    [
        frame(FIN | 1, b"before", sender),
        frame(2, &vec![b'a'; fragment], sender),
        frame(FIN | 9, b"theirs", sender),
        frame(0, &vec![b'b'; fragment], sender),
        frame(FIN, &vec![b'c'; fragment], sender),
        frame(FIN | 1, b"", sender),
        frame(FIN | 1, b"after", sender),
    ]
    .concat()
}

/// Forwards `stream`, and inserts a frame once `wanted` bytes have arrived.
fn inject(sender: Sender, stream: &[u8], wanted: usize, withholding: bool) -> Vec<u8> {
    let rules = Rules::default();
    let mut follower = FrameParser::new(sender);
    let (head, mut rest) = stream.split_at(wanted);
    follower.feed(head, &rules, &mut |_| {}).unwrap();
    let mut front = [0; MAX_WITHHELD];
    let carried = if withholding { follower.reclaim(&mut front) } else { 0 };
    let mut out = head[..head.len() - carried].to_vec();
    let again = [&front[..carried], rest].concat();
    rest = &again;
    let now = if withholding { follower.may_inject() } else { follower.at_boundary() };
    let mut ends = Vec::new();
    let mut note = |event: Event<'_>| {
        if let Event::FrameEnd { at, .. } = event {
            ends.push(at);
        }
    };
    follower.feed(rest, &rules, &mut note).unwrap();
    let more = if now { 0 } else { ends[0] };
    out.extend(&rest[..more]);
    out.extend(our_ping(sender).as_bytes());
    out.extend(&rest[more..]);
    out
}

fn reads_as_the_original_and_ours(sender: Sender, original: &[u8], with_ours: &[u8]) {
    let (expected, objection) = tungstenite(sender, &Rules::default(), original);
    assert_eq!(objection, None);
    let (mut messages, objection) = tungstenite(sender, &Rules::default(), with_ours);
    assert_eq!(objection, None);
    let ours = messages.iter().position(|message| *message == Message::Ping(OURS.into())).unwrap();
    messages.remove(ours);
    assert_eq!(messages, expected);
}

#[test]
fn a_ping_is_inserted_at_any_byte_of_a_stream() {
    for sender in [Client, Server] {
        let original = stream(sender, 130);
        for wanted in 0..=original.len() {
            for withholding in [true, false] {
                let with_ours = inject(sender, &original, wanted, withholding);
                reads_as_the_original_and_ours(sender, &original, &with_ours);
            }
        }
    }
}

#[test]
fn a_ping_is_inserted_into_a_message_with_64_bit_lengths() {
    for sender in [Client, Server] {
        let original = stream(sender, 65_536);
        let heads = (0..40).chain(65_545..65_580).chain(131_085..131_130);
        for wanted in heads.chain((0..original.len()).step_by(9973)) {
            let with_ours = inject(sender, &original, wanted, true);
            reads_as_the_original_and_ours(sender, &original, &with_ours);
        }
    }
}

#[test]
fn a_close_replaces_a_bad_frame() {
    for sender in [Client, Server] {
        let good = stream(sender, 130);
        let bad = [&good[..], &frame(FIN | 5, b"bad", sender)].concat();
        for cut in 0..bad.len() {
            let heard = follow_withholding(sender, &Rules::default(), pieces(&bad, &[cut]));
            let violation = heard.violation.unwrap();
            assert_eq!(violation.at, good.len());
            let mask = if sender == Client { Mask::With(KEY) } else { Mask::Off };
            let close = ControlFrame::close(violation.code, &violation.to_string(), mask);
            let out = [&bad[..violation.at], close.as_bytes()].concat();
            let (messages, objection) = tungstenite(sender, &Rules::default(), &out);
            assert_eq!(objection, None);
            let Some(Message::Close(Some(close))) = messages.last() else { panic!("closed") };
            assert_eq!((u16::from(close.code), close.reason.as_str()), (1002, "reserved opcode 5"));
        }
    }
}

#[test]
fn nothing_enters_a_payload_and_what_is_withheld_does_not_count() {
    let mut follower = FrameParser::new(Server);
    let stream = frame(FIN | 2, &[0; 300], Server);
    follower.feed(&stream[..100], &Rules::default(), &mut |_| {}).unwrap();
    assert!(!follower.may_inject());

    let mut follower = FrameParser::new(Server);
    follower.feed(&stream[..3], &Rules::default(), &mut |_| {}).unwrap();
    assert!(follower.may_inject() && !follower.at_boundary());
}
