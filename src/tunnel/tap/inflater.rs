//! Inflation of permessage-deflate (RFC 7692 §7.2.2) for a tap, bounded in memory and in work.

use flate2::{Decompress, FlushDecompress, Status};

/// What a sender removes from the end of a message (§7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Inflated bytes per step.
const STEP: usize = 4096;

/// Inflated bytes of one message after which a tap gives up: a small message can inflate to a thousand times its size.
const MOST: u64 = 16 << 20;

/// The compression context of one direction.
#[derive(Debug)]
pub(super) struct Inflater {
    context: Decompress,
    /// Whether the context begins anew with every message.
    resets: bool,
    /// Inflated bytes of the current message.
    size: u64,
}

/// The context cannot be continued: the data is invalid, or inflates to too much.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InflateError;

impl Inflater {
    pub(super) fn new(resets: bool) -> Self {
        Self { context: Decompress::new(false), resets, size: 0 }
    }

    /// The inflater after a message that could not be inflated: a new context, if every message begins one.
    pub(super) fn after_failure(self) -> Option<Self> {
        self.resets.then(|| Self::new(true))
    }

    /// Inflates a part of a message, and keeps the first bytes in `excerpt`, which grows to `most`.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        excerpt: &mut Vec<u8>,
        most: usize,
    ) -> Result<(), InflateError> {
        let mut input = bytes;
        let mut step = [0; STEP];
        loop {
            let (read, written) = (self.context.total_in(), self.context.total_out());
            let status = self.context.decompress(input, &mut step, FlushDecompress::None);
            let status = status.map_err(|_| InflateError)?;
            let read = usize::try_from(self.context.total_in() - read).unwrap_or(input.len());
            let written = usize::try_from(self.context.total_out() - written).unwrap_or(0);
            input = input.get(read..).unwrap_or_default();
            self.size += written as u64;
            let room = most.saturating_sub(excerpt.len());
            excerpt.extend_from_slice(&step[..written.min(room).min(STEP)]);
            if self.size > MOST {
                return Err(InflateError);
            }
            match status {
                // A final block (§7.2.3.4) may be followed by others. Without the window of before, a later message
                // that refers to it is unreadable.
                Status::StreamEnd => {
                    self.context.reset(false);
                    if input.is_empty() {
                        return Ok(());
                    }
                }
                _ if written == STEP => {}
                _ if input.is_empty() => return Ok(()),
                _ if read == 0 && written == 0 => return Err(InflateError),
                _ => {}
            }
        }
    }

    /// Ends a message, and returns its inflated size.
    pub(super) fn finish(&mut self, excerpt: &mut Vec<u8>, most: usize) -> Result<u64, InflateError> {
        self.push(&TAIL, excerpt, most)?;
        if self.resets {
            self.context.reset(false);
        }
        Ok(std::mem::take(&mut self.size))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    /// Compresses messages with one context.
    fn compressed(messages: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut context = Compress::new(Compression::fast(), false);
        let compress = |message: &&[u8]| {
            let mut out = Vec::with_capacity(message.len() + 1024);
            context.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
            assert!(out.ends_with(&TAIL));
            out.truncate(out.len() - TAIL.len());
            out
        };
        messages.iter().map(compress).collect()
    }

    #[test]
    fn messages_of_one_context_are_inflated_in_pieces() {
        let text = b"the same words again and again and again";
        let mut inflater = Inflater::new(false);
        for message in compressed(&[text, text, text]) {
            let mut excerpt = Vec::new();
            message.chunks(3).for_each(|piece| inflater.push(piece, &mut excerpt, 10).unwrap());
            assert_eq!(inflater.finish(&mut excerpt, 10), Ok(text.len() as u64));
            assert_eq!(excerpt, b"the same w");
        }
    }

    #[test]
    fn a_message_with_a_final_block_does_not_end_the_context() {
        // The example of RFC 7692 §7.2.3.4.
        let hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        let mut inflater = Inflater::new(false);
        for _ in 0..2 {
            let mut excerpt = Vec::new();
            inflater.push(&hello, &mut excerpt, 10).unwrap();
            assert_eq!((inflater.finish(&mut excerpt, 10), &*excerpt), (Ok(5), &b"Hello"[..]));
        }
    }

    #[test]
    fn a_bomb_and_garbage_end_the_context() {
        let bomb = vec![0; 32 << 20];
        let packed = compressed(&[&bomb]);
        assert!(packed[0].len() < 1 << 20);
        assert_eq!(Inflater::new(false).push(&packed[0], &mut Vec::new(), 10), Err(InflateError));
        assert_eq!(Inflater::new(false).push(&[0xff; 64], &mut Vec::new(), 10), Err(InflateError));
    }
}
