//! Any bytes in any split: the reassembler never panics and shows the same messages for every split. Its output is
//! whole frames that a frame parser accepts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moongate::plugin::ChainVerdict;
use moongate::tunnel::messages::{Reassembler, Stop, rules};
use moongate::tunnel::{Inspector, Outcome, Side};
use moongate::websocket::frame::{FrameParser, MAX_WITHHELD, Rules, Sender};
use moongate_sdk::Message;

/// Changes messages by their last byte.
#[derive(Default)]
struct Editor(Vec<(bool, Vec<u8>)>);

impl Inspector for Editor {
    fn inspects(&self, _: Side) -> bool {
        true
    }

    fn message(&mut self, message: &mut Message) -> ChainVerdict {
        self.0.push((message.binary, message.payload.to_vec()));
        match message.payload.last() {
            Some(0) => return ChainVerdict::Drop,
            Some(1) => return ChainVerdict::Close { code: 4000, reason: "no".into() },
            Some(2) => message.payload.extend_from_slice(b"more"),
            Some(3) => message.binary = !message.binary,
            Some(4) => return ChainVerdict::Failed,
            _ => {}
        }
        ChainVerdict::Forward
    }

    fn ended(&mut self, _: &Outcome) {}

    fn state(&mut self) -> Option<serde_json::Value> {
        None
    }
}

fuzz_target!(|data: &[u8]| {
    let [options, step, stream @ ..] = data else { return };
    let from = if options & 1 == 0 { Side::Client } else { Side::Backend };
    let limit = if options & 2 == 0 { u64::MAX } else { 64 };
    let policy = Rules { max_frame: limit, max_message: limit.saturating_mul(2), ..Rules::default() };
    let whole = show(from, &policy, stream, stream.len().max(1));
    let pieces = show(from, &policy, stream, usize::from(*step).max(1));
    assert_eq!(whole, pieces);
});

/// Messages, binary or not, the number of bytes written, and the close code.
type Shown = (Vec<(bool, Vec<u8>)>, usize, Option<u16>);

/// The messages shown, the number of bytes written, and the close code.
fn show(from: Side, policy: &Rules, stream: &[u8], step: usize) -> Shown {
    let (mut stage, mut editor) = (Reassembler::new(from, rules(policy)), Editor::default());
    let (mut out, mut code) = (Vec::new(), None);
    for piece in stream.chunks(step) {
        let mut front = [0; MAX_WITHHELD];
        let carried = stage.reclaim(&mut front);
        stage.feed(&[&front[..carried], piece].concat(), &mut editor, &mut out);
        code = stage.stopped().map(|stop| match stop {
            Stop::Violation(violation) => violation.code,
            Stop::Dismissed(dismissal) => dismissal.code,
        });
        if code.is_some() {
            break;
        }
    }
    let sender = if from == Side::Client { Sender::Client } else { Sender::Server };
    let mut follower = FrameParser::new(sender);
    assert!(follower.feed(&out, &Rules::default(), &mut |_| {}).is_ok());
    assert!(follower.between_messages());
    (editor.0, out.len(), code)
}
