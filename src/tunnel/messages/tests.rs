//! Tests of reassembly, with tungstenite as sender and receiver.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use super::*;
use crate::websocket::frame::{FrameError, MAX_WITHHELD};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::io::{self, Read, Write};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message as Told, WebSocket};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Changes messages depending on their first byte, and records all of them.
#[derive(Default)]
struct Editor {
    saw: Vec<(bool, Vec<u8>)>,
}

impl Editor {
    /// The expected result for a message.
    fn made_of(binary: bool, payload: &[u8]) -> Option<(bool, Vec<u8>)> {
        match payload.first() {
            Some(b'D') => None,
            Some(b'R') => Some((binary, [payload, payload].concat())),
            Some(b'B') => Some((true, payload.to_vec())),
            Some(b'E') => Some((binary, Vec::new())),
            _ => Some((binary, payload.to_vec())),
        }
    }
}

impl Inspector for Editor {
    fn inspects(&self, _: Side) -> bool {
        true
    }

    fn message(&mut self, message: &mut Message) -> ChainVerdict {
        self.saw.push((message.binary, message.payload.to_vec()));
        match &message.payload[..] {
            [b'X', ..] => return ChainVerdict::Close { code: 4000, reason: "X".into() },
            [b'Z', ..] => message.payload[0] = 0xff,
            _ => {}
        }
        match Self::made_of(message.binary, &message.payload) {
            None => ChainVerdict::Drop,
            Some((binary, made)) => {
                message.binary = binary;
                message.payload.clear();
                message.payload.extend_from_slice(&made);
                ChainVerdict::Forward
            }
        }
    }

    fn ended(&mut self, _: &Outcome) {}

    fn state(&mut self) -> Option<serde_json::Value> {
        None
    }
}

/// A connection to tungstenite: its input and its output.
#[derive(Default)]
struct Tape {
    read: io::Cursor<Vec<u8>>,
    written: Vec<u8>,
}

impl Read for Tape {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read.read(into)
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn roles(from: Side) -> (Role, Role) {
    match from {
        Side::Client => (Role::Client, Role::Server),
        Side::Backend => (Role::Server, Role::Client),
    }
}

/// The bytes that tungstenite writes for these messages, split into frames of at most `size`, with a ping
/// between them.
fn sent(from: Side, messages: &[(bool, Vec<u8>)], size: usize) -> Vec<u8> {
    let mut socket = WebSocket::from_raw_socket(Tape::default(), roles(from).0, None);
    for (binary, payload) in messages {
        let first = OpCode::Data(if *binary { Data::Binary } else { Data::Text });
        let mut pieces: Vec<_> = payload.chunks(size).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        let last = pieces.len() - 1;
        for (at, piece) in pieces.into_iter().enumerate() {
            let opcode = if at == 0 { first } else { OpCode::Data(Data::Continue) };
            socket.send(Told::Frame(Frame::message(piece.to_vec(), opcode, at == last))).unwrap();
            socket.send(Told::Ping(vec![at as u8; at.min(125)].into())).unwrap();
        }
    }
    std::mem::take(&mut socket.get_mut().written)
}

/// The data messages and the lengths of pings that tungstenite reads.
fn heard(from: Side, bytes: Vec<u8>) -> (Vec<(bool, Vec<u8>)>, Vec<usize>) {
    let tape = Tape { read: io::Cursor::new(bytes), written: Vec::new() };
    let mut socket = WebSocket::from_raw_socket(tape, roles(from).1, None);
    let (mut data, mut pings) = (Vec::new(), Vec::new());
    loop {
        match socket.read() {
            Ok(Told::Text(text)) => data.push((false, text.as_bytes().to_vec())),
            Ok(Told::Binary(bytes)) => data.push((true, bytes.to_vec())),
            Ok(Told::Ping(payload)) => pings.push(payload.len()),
            Ok(other) => panic!("{other:?}"),
            Err(tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return (data, pings),
            Err(error) => panic!("what a stage wrote is broken: {error}"),
        }
    }
}

/// Feeds the pieces of `stream` as a direction does.
fn feed(
    stage: &mut Reassembler,
    editor: &mut Editor,
    stream: &[u8],
    cuts: &[Index],
) -> (Vec<u8>, Option<Stop>) {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    let mut out = Vec::new();
    for pair in cuts.windows(2) {
        let mut front = [0; MAX_WITHHELD];
        let carried = stage.reclaim(&mut front);
        stage.feed(&[&front[..carried], &stream[pair[0]..pair[1]]].concat(), editor, &mut out);
        if let Some(stop) = stage.stopped() {
            return (out, Some(stop));
        }
    }
    (out, None)
}

fn message() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let text = "[DRBEa-zé€😀]{0,40}".prop_map(|text| (false, text.into_bytes()));
    let long = "[DRBEé]{1,3}".prop_map(|text| (false, text.repeat(30_000).into_bytes()));
    let binary = vec(any::<u8>(), 0..300)
        .prop_filter("they mean something else", |bytes| !matches!(bytes.first(), Some(b'X' | b'Z')))
        .prop_map(|bytes| (true, bytes));
    prop_oneof![6 => text, 1 => long, 6 => binary]
}

fn stage(from: Side) -> Reassembler {
    Reassembler::new(from, rules(&Rules::default()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn messages_are_seen_as_sent_and_arrive_as_made(
        client in any::<bool>(),
        messages in vec(message(), 0..6),
        size in prop_oneof![1usize..8, 8usize..200, 10_000usize..200_000],
        cuts in vec(any::<Index>(), 0..40),
    ) {
        // Single-byte frames only for short messages, to save time.
        let size = if messages.iter().any(|(_, payload)| payload.len() > 1000) { size.max(997) } else { size };
        let from = if client { Side::Client } else { Side::Backend };
        let stream = sent(from, &messages, size);
        let (mut stage, mut editor) = (stage(from), Editor::default());
        let (out, stop) = feed(&mut stage, &mut editor, &stream, &cuts);
        prop_assert_eq!(stop, None);
        prop_assert_eq!(&editor.saw, &messages);
        let expected: Vec<_> =
            messages.iter().filter_map(|(binary, payload)| Editor::made_of(*binary, payload)).collect();
        let pings: Vec<_> = messages
            .iter()
            .flat_map(|(_, payload)| (0..payload.len().div_ceil(size).max(1)).map(|at| at.min(125)))
            .collect();
        prop_assert_eq!(heard(from, out), (expected, pings));
        prop_assert_eq!(stage.held(), 0, "nothing is kept between two messages");
    }

    #[test]
    fn a_message_continues_in_another_process_wherever_it_is(
        client in any::<bool>(),
        messages in vec(message(), 1..3),
        size in prop_oneof![8usize..200, 10_000usize..200_000],
        at in any::<Index>(),
    ) {
        let size = if messages.iter().any(|(_, payload)| payload.len() > 1000) { size.max(997) } else { size };
        let from = if client { Side::Client } else { Side::Backend };
        let stream = sent(from, &messages, size);
        let (start, rest) = stream.split_at(at.index(stream.len() + 1));
        let mut editor = Editor::default();
        let mut old = stage(from);
        let (mut out, _) = feed(&mut old, &mut editor, start, &[]);
        let state = serde_json::to_string(&old.state().unwrap()).unwrap();
        let mut new = stage(from);
        prop_assert_eq!(new.resume(serde_json::from_str(&state).unwrap()), Some(()));
        let (later, stop) = feed(&mut new, &mut editor, rest, &[]);
        out.extend(later);
        prop_assert_eq!((stop, &editor.saw), (None, &messages));
        let expected: Vec<_> =
            messages.iter().filter_map(|(binary, payload)| Editor::made_of(*binary, payload)).collect();
        prop_assert_eq!(heard(from, out).0, expected);
    }

    #[test]
    fn noise_never_panics_and_cuts_never_matter(
        client in any::<bool>(),
        good in vec(message(), 0..2),
        noise in vec(any::<u8>(), 0..200),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let from = if client { Side::Client } else { Side::Backend };
        let stream = [sent(from, &good, 50_000), noise].concat();
        let (mut whole, mut pieces) = (Editor::default(), Editor::default());
        let one = feed(&mut stage(from), &mut whole, &stream, &[]);
        let many = feed(&mut stage(from), &mut pieces, &stream, &cuts);
        prop_assert_eq!(whole.saw, pieces.saw);
        // Masking keys are random, so frames to a backend are compared by payload; offsets count from the
        // feed.
        let code = |stop: Option<Stop>| stop.map(|stop| match stop {
            Stop::Violation(violation) => (violation.code, Some(violation.what)),
            Stop::Dismissed(plugin_close) => (plugin_close.code, None),
        });
        prop_assert_eq!((one.0.len(), code(one.1)), (many.0.len(), code(many.1)));
    }
}

/// A client frame in one piece.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { mask: Some(KEY), ..FrameHeader::default() };
    let mut bytes = Vec::new();
    Frame::from_payload(header, payload.to_vec().into()).format(&mut bytes).unwrap();
    bytes[0] = first;
    bytes
}

fn stop(stream: &[u8]) -> (Editor, Vec<u8>, Option<Stop>) {
    let mut editor = Editor::default();
    let (out, stop) = feed(&mut stage(Side::Client), &mut editor, stream, &[]);
    (editor, out, stop)
}

#[test]
fn text_that_is_none_is_1007_as_soon_as_that_is_certain() {
    let broken = |stop| match stop {
        Some(Stop::Violation(violation)) => (violation.code, violation.what),
        other => panic!("{other:?}"),
    };
    let whole = frame(0x81, b"\xce\xba\xff");
    assert_eq!(broken(stop(&whole).2), (1007, FrameError::Text));
    assert_eq!(broken(stop(&frame(0x81, b"cut \xe2\x82")).2), (1007, FrameError::Text));
    // The first fragment is enough, and the start of its frame.
    assert_eq!(broken(stop(&frame(0x01, b"\xf4\x90")).2), (1007, FrameError::Text));
    assert_eq!(broken(stop(&whole[..9]).2), (1007, FrameError::Text));
    let split = [frame(0x01, b"\xe2"), frame(0x89, b"?"), frame(0x80, b"\x82\xac")].concat();
    assert_eq!(stop(&split).0.saw, [(false, "€".into())]);
    assert!(stop(&frame(0x82, b"\xff")).2.is_none(), "binary may say anything");
}

#[test]
fn a_plugins_close_lets_nothing_pass_that_comes_behind_it() {
    let stream = [frame(0x81, b"one"), frame(0x81, b"X"), frame(0x81, b"two"), frame(0x89, b"?")].concat();
    let mut editor = Editor::default();
    let mut stage = stage(Side::Client);
    let (out, stop) = feed(&mut stage, &mut editor, &stream, &[]);
    let plugin_close = PluginClose { reason: Reason::Plugin, code: 4000, text: "X".into() };
    assert_eq!(stop, Some(Stop::Dismissed(plugin_close)));
    assert_eq!(heard(Side::Client, out).0, [(false, b"one".to_vec())]);
    // The source is parsed up to its Close frame.
    let rest = [frame(0x81, b"three"), frame(0x88, b"\x03\xe8")].concat();
    let (out, stop) = feed(&mut stage, &mut editor, &rest, &[]);
    assert_eq!((out, stop, editor.saw.len()), (Vec::new(), None, 2));
    assert!(stage.has_closed());
}

#[test]
fn text_that_a_plugin_breaks_goes_nowhere() {
    let (_, out, stop) = stop(&frame(0x81, b"Z"));
    assert!(out.is_empty());
    assert!(matches!(
        stop,
        Some(Stop::Dismissed(PluginClose { reason: Reason::PluginFailed, code: 1007, .. }))
    ));
}

#[test]
fn a_message_without_a_bound_has_one() {
    let start = frame(0x02, &vec![0; DEFAULT_MAX_MESSAGE as usize]);
    let (editor, _, none) = stop(&[start.clone(), frame(0x80, b"")].concat());
    assert_eq!((editor.saw.len(), none), (1, None));
    let (editor, _, stop) = stop(&[start, frame(0x80, b"!")].concat());
    assert!(editor.saw.is_empty());
    assert!(matches!(stop, Some(Stop::Violation(violation)) if violation.code == 1009));
    let set = Rules { max_message: 5 << 20, strict: false, ..Rules::default() };
    assert_eq!(rules(&set), Rules { max_message: 5 << 20, ..Rules::default() });
}

#[test]
fn a_close_passes_as_it_came() {
    let mut socket = WebSocket::from_raw_socket(Tape::default(), Role::Client, None);
    socket.close(Some(CloseFrame { code: CloseCode::Library(4321), reason: "bye".into() })).unwrap();
    let bytes = std::mem::take(&mut socket.get_mut().written);
    for cut in 0..bytes.len() {
        let mut stage = stage(Side::Client);
        let mut out = Vec::new();
        let mut editor = Editor::default();
        stage.feed(&bytes[..cut], &mut editor, &mut out);
        let mut front = [0; MAX_WITHHELD];
        let carried = stage.reclaim(&mut front);
        stage.feed(&[&front[..carried], &bytes[cut..]].concat(), &mut editor, &mut out);
        assert!(out == bytes && stage.has_closed(), "{cut}");
    }
}
