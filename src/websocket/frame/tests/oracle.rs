//! Comparison of the parser with tungstenite: the same messages in the same order, and the same verdict.
//!
//! tungstenite deviates from the RFC and IANA's registry: it accepts padded lengths and does not know close
//! code 1014. Such streams are not generated here, and `rules` has the tests. Text is ASCII, because the
//! parser does not validate UTF-8.

use super::*;
use Sender::{Client, Server};
use proptest::prelude::*;
use std::io::{self, Read, Write};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// A receiver's view of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    Message(Opcode, u64),
    Control(Opcode, Vec<u8>),
}

/// A stream of bytes to read, which discards writes.
struct Tape<'a>(&'a [u8]);

impl Read for Tape<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Tape<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All messages from tungstenite, and the close code of its error.
pub(super) fn tungstenite(sender: Sender, rules: &Rules, stream: &[u8]) -> (Vec<Message>, Option<u16>) {
    let role = if sender == Client { Role::Server } else { Role::Client };
    let config = WebSocketConfig::default()
        .max_frame_size(usize::try_from(rules.max_frame).ok())
        .max_message_size(usize::try_from(rules.max_message).ok());
    let mut socket = WebSocket::from_raw_socket(Tape(stream), role, Some(config));
    let mut messages = Vec::new();
    let objection = loop {
        match socket.read() {
            Ok(Message::Close(Some(CloseFrame { reason, .. }))) if reason == "Protocol violation" => {
                break Some(1002);
            }
            Ok(message) => {
                let closed = message.is_close();
                messages.push(message);
                if closed {
                    break None;
                }
            }
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                break None;
            }
            Err(Error::Capacity(_)) => break Some(1009),
            Err(Error::Utf8(_)) => break Some(1007),
            Err(_) => break Some(1002),
        }
    };
    (messages, objection)
}

fn view_of_tungstenite(messages: Vec<Message>) -> Vec<Told> {
    let told = |message| match message {
        Message::Text(text) => Told::Message(Opcode::Text, text.len() as u64),
        Message::Binary(bytes) => Told::Message(Opcode::Binary, bytes.len() as u64),
        Message::Ping(payload) => Told::Control(Opcode::Ping, payload.to_vec()),
        Message::Pong(payload) => Told::Control(Opcode::Pong, payload.to_vec()),
        Message::Close(None) => Told::Control(Opcode::Close, Vec::new()),
        Message::Close(Some(CloseFrame { code, reason })) => {
            let code = u16::from(code).to_be_bytes();
            Told::Control(Opcode::Close, [&code[..], reason.as_bytes()].concat())
        }
        Message::Frame(_) => unreachable!("never read"),
    };
    messages.into_iter().map(told).collect()
}

fn view_of_parser(heard: Heard) -> (Vec<Told>, Option<u16>) {
    let told = |seen| match seen {
        Seen::Message { opcode, bytes, .. } => Some(Told::Message(opcode, bytes)),
        Seen::Control { opcode, payload, .. } => Some(Told::Control(opcode, payload)),
        Seen::Start { .. } | Seen::End { .. } => None,
    };
    let events = heard.events.into_iter().filter_map(told).collect();
    (events, heard.violation.map(|violation| violation.code))
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => proptest::collection::vec(32u8..127, 0..20),
        2 => (120usize..135).prop_map(|size| vec![b'm'; size]),
        1 => (65_530usize..65_545).prop_map(|size| vec![b'l'; size]),
    ]
}

fn control(sender: Sender) -> impl Strategy<Value = Vec<u8>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..=125);
    (9u8..=10, payload).prop_map(move |(opcode, payload)| frame(FIN | opcode, &payload, sender))
}

/// A message in fragments, each after control frames.
fn message(sender: Sender) -> impl Strategy<Value = Vec<u8>> {
    let fragment = (proptest::collection::vec(control(sender), 0..2), payload());
    (1u8..=2, proptest::collection::vec(fragment, 1..5)).prop_map(move |(opcode, fragments)| {
        let last = fragments.len() - 1;
        let mut stream = Vec::new();
        for (index, (controls, payload)) in fragments.into_iter().enumerate() {
            let fin = if index == last { FIN } else { 0 };
            let opcode = if index == 0 { opcode } else { 0 };
            stream.extend(controls.concat());
            stream.extend(frame(fin | opcode, &payload, sender));
        }
        stream
    })
}

/// Any frame: mostly valid, sometimes with another first byte or with the wrong masking.
fn any_frame(sender: Sender) -> impl Strategy<Value = Vec<u8>> {
    let other = if sender == Client { Server } else { Client };
    let first = prop_oneof![
        12 => proptest::sample::select(vec![FIN | 1, FIN | 2, 1, 2, 0, FIN, FIN | 9, FIN | 10]),
        1 => any::<u8>(),
    ];
    let sender = prop_oneof![30 => Just(sender), 1 => Just(other)];
    (first, payload(), sender).prop_map(|(first, payload, sender)| frame(first, &payload, sender))
}

fn close(sender: Sender) -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![
        Just(1000u16),
        // tungstenite does not know 1014.
        (990u16..1020).prop_filter("unknown to the oracle", |code| *code != 1014),
        any::<u16>().prop_filter("unknown to the oracle", |code| *code != 1014),
    ];
    let reason = prop_oneof![
        4 => "[a-zé€😀]{0,20}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let body = prop_oneof![
        6 => (code, reason).prop_map(|(code, reason)| [&code.to_be_bytes()[..], &reason].concat()),
        1 => proptest::collection::vec(any::<u8>(), 0..2),
    ];
    body.prop_map(move |body| frame(FIN | 8, &body, sender))
}

/// Data and control frames, possibly a Close, possibly frames after it.
fn stream() -> impl Strategy<Value = (Sender, Vec<u8>)> {
    proptest::sample::select(vec![Client, Server]).prop_flat_map(|sender| {
        let part = prop_oneof![6 => message(sender), 6 => any_frame(sender), 1 => close(sender)];
        let parts = proptest::collection::vec(part, 0..8);
        parts.prop_map(move |parts| (sender, parts.concat()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn the_verdict_and_the_messages_are_tungstenites(
        (sender, stream) in stream(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        limits in proptest::option::of((0u64..200, 0u64..300)),
    ) {
        let (max_frame, max_message) = limits.unwrap_or((u64::MAX, u64::MAX));
        // tungstenite limits control frames too; the parser must let every Close pass.
        let max_frame = max_frame.max(125);
        let rules = Rules { max_frame, max_message, ..Rules::default() };
        let (messages, objection) = tungstenite(sender, &rules, &stream);
        let cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        let heard = follow_withholding(sender, &rules, pieces(&stream, &cuts));
        let (told, code) = view_of_parser(heard);
        // With two faults, each side may report another one; codes are compared if only one fault is
        // possible.
        prop_assert_eq!(code.is_some(), objection.is_some(), "{:?} {:?}", code, objection);
        if limits.is_none() && objection != Some(1007) {
            prop_assert_eq!(code, objection);
        }
        prop_assert_eq!(told, view_of_tungstenite(messages));
    }
}
