//! What following costs: nanoseconds a message, with the counters a tunnel keeps. A plain program, so that it builds in
//! the time of the library: `cargo bench --bench frames`. The best of many rounds is printed: what disturbs a round
//! only ever makes it slower.
#![allow(clippy::print_stdout, reason = "the figures are the output")]

use moongate::plugin::ChainVerdict;
use moongate::tunnel::messages::{Reassembler, rules};
use moongate::tunnel::{Inspector, Outcome, Side};
use moongate::websocket::frame::{ControlFrame, Event, FrameParser, Mask, Opcode, Rules, Sender};
use moongate_sdk::Message;
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 60;
const ROUND: Duration = Duration::from_millis(5);
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a tunnel counts of one direction.
#[derive(Default)]
struct Counts {
    messages: [u64; 2],
    bytes: u64,
    control: u64,
}

impl Counts {
    fn count(&mut self, event: Event<'_>) {
        match event {
            Event::MessageEnd { opcode, bytes, .. } => {
                self.messages[usize::from(opcode == Opcode::Binary)] += 1;
                self.bytes += bytes;
            }
            Event::Control { payload, .. } => self.control += 1 + payload.len() as u64,
            Event::FrameStart { .. } | Event::FrameEnd { .. } => {}
        }
    }
}

fn main() {
    for sender in [Sender::Client, Sender::Server] {
        let small = message(sender, 128);
        measure(sender, "128 B, one a read", 1, &[&small]);
        measure(sender, "128 B, 64 a read", 64, &[&small.repeat(64)]);
        let large = message(sender, 16 << 10);
        measure(sender, "16 KiB, one a read", 1, &[&large]);
        let pieces: Vec<_> = large.chunks(1448).collect();
        measure(sender, "16 KiB, in 12 reads", 1, &pieces);
        measure(sender, "128 B, cut inside the head", 1, &[&small[..1], &small[1..]]);
        let mask = if sender == Sender::Client { Mask::With(KEY) } else { Mask::Off };
        let ping = ControlFrame::ping(b"12345678", mask);
        measure(sender, "ping of 8 B", 1, &[ping.as_bytes()]);
        measure(sender, "ping of 8 B, cut in two", 1, &[&ping.as_bytes()[..7], &ping.as_bytes()[7..]]);
        inspect(sender, "128 B, shown and written", 1, &small);
        inspect(sender, "128 B, 64 a read, shown", 64, &small.repeat(64));
        inspect(sender, "16 KiB, shown and written", 1, &large);
    }
}

/// Lets every message pass.
struct Watcher;

impl Inspector for Watcher {
    fn inspects(&self, _: Side) -> bool {
        true
    }

    fn message(&mut self, message: &mut Message) -> ChainVerdict {
        black_box(&message.payload);
        ChainVerdict::Forward
    }

    fn ended(&mut self, _: &Outcome) {}

    fn state(&mut self) -> Option<serde_json::Value> {
        None
    }
}

/// What it costs to take messages apart, show them to somebody and write them again.
fn inspect(sender: Sender, what: &str, messages: u32, chunk: &[u8]) {
    let from = if sender == Sender::Client { Side::Client } else { Side::Backend };
    let mut stage = Reassembler::new(from, rules(&Rules::default()));
    let mut out = Vec::new();
    let best = best_of(messages, || {
        out.clear();
        stage.feed(black_box(chunk), &mut Watcher, &mut out);
        assert!(stage.stopped().is_none() && !out.is_empty());
    });
    println!("{sender:?}: {what:<28} {best:>7.1} ns a message");
}

/// Nanoseconds a message of the best round; `work` has to do with so many.
fn best_of(messages: u32, mut work: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let (start, mut done) = (Instant::now(), 0u32);
        while start.elapsed() < ROUND {
            (0..256).for_each(|_| work());
            done += 256 * messages;
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(done));
    }
    best
}

/// One unfragmented binary message.
fn message(sender: Sender, size: usize) -> Vec<u8> {
    let masked = if sender == Sender::Client { 0x80 } else { 0 };
    let mut bytes = vec![0x82];
    match u8::try_from(size) {
        Ok(short @ 0..=125) => bytes.push(masked | short),
        _ => {
            bytes.push(masked | 126);
            bytes.extend((size as u16).to_be_bytes());
        }
    }
    if sender == Sender::Client {
        bytes.extend(KEY);
    }
    bytes.resize(bytes.len() + size, 0x55);
    bytes
}

/// Feeds `pieces`, which together hold `messages` messages, over and over.
fn measure(sender: Sender, what: &str, messages: u32, pieces: &[&[u8]]) {
    let rules = Rules::default();
    let mut follower = FrameParser::new(sender);
    let mut counts = Counts::default();
    let best = best_of(messages, || {
        for piece in pieces {
            let fed = follower.feed(black_box(piece), &rules, &mut |event| counts.count(event));
            assert!(fed.is_ok());
        }
    });
    black_box(&counts.messages);
    black_box(counts.bytes + counts.control);
    println!("{sender:?}: {what:<28} {best:>7.1} ns a message");
}
