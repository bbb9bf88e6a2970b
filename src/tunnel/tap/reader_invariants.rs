//! Invariants of the message reader for any bytes: for a property test and a fuzz target.

use super::message_reader::{CompressionContext, MessageReader};
use super::{LARGEST_EXCERPT, TappedMessage};
use crate::tunnel::Side;
use crate::websocket::frame::{FrameParser, Sender};

/// Checks that the bytes are the same messages in pieces of any size, and that no excerpt exceeds its limit.
///
/// # Panics
/// If they are not.
pub fn check(bytes: &[u8], step: usize) {
    for context in [
        CompressionContext::Seen { resets: false },
        CompressionContext::Seen { resets: true },
        CompressionContext::Missed,
    ] {
        let whole = messages(context, std::iter::once(bytes));
        let pieces = messages(context, bytes.chunks(step.max(1)));
        assert!(whole == pieces, "pieces of {step} bytes change the messages");
        assert!(whole.iter().all(|message| message.excerpt.len() <= LARGEST_EXCERPT), "a long excerpt");
    }
}

/// The messages of bytes that arrive in these pieces.
fn messages<'a>(context: CompressionContext, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<TappedMessage> {
    let mut reader = MessageReader::new(1, Side::Client, &FrameParser::new(Sender::Client), context);
    let mut all = Vec::new();
    pieces.for_each(|piece| reader.read(piece, &mut |message| all.push(message.clone())));
    all
}
