//! How many frames a client may send that bring no request forward. Each of them is cheap to send and costs
//! its receiver work, an answer or both, and HTTP/2 itself sets no bound (RFC 9113 §10.5): floods of PING,
//! SETTINGS, PRIORITY and the like, and requests that are cancelled as soon as they are made (CVE-2023-44487).
//!
//! A client has [`FULL`] points. Frames that carry nothing cost some; every request, every piece of a body in
//! either direction and time give some back. So pings that keep a connection alive, or measure it beside each
//! message, go on for ever, and a flood ends after some hundred frames.
//!
//! Cancelled requests have points of their own, which no piece of a body earns. A request that is cancelled
//! behind the head of its answer has earned what that costs: so end all watches of gRPC.

use super::bucket::{Bucket, Empty};
use super::frame_scan::{DATA, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
use std::time::Duration;

/// What a client begins with and never has more of.
const FULL: u32 = 2_000;
/// In which time a point comes back: 100 a second.
const EACH: Duration = Duration::from_millis(10);
/// A frame that must be answered.
const ANSWERED: u32 = 4;
/// What a request, or a piece of a body, gives back: a ping and a window update for each are in it.
const PROGRESS: u32 = 5;

/// The same for requests that are cancelled: so many more than half of all at once, beside those that were being
/// answered.
const CANCELS: u32 = 500;
/// 20 a second.
const CANCELS_EACH: Duration = Duration::from_millis(50);
/// What one costs; a request gives back 1, and 1 more when the head of its answer is out.
const CANCEL: u32 = 2;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;

/// The points of one connection.
#[derive(Debug)]
pub(super) struct Budget {
    frames: Bucket,
    cancels: Bucket,
    /// The last stream that the client has opened: HEADERS on an older one are trailers, and no request.
    newest: u32,
}

impl Budget {
    /// All of it.
    pub(super) fn full() -> Self {
        Self { frames: Bucket::full(FULL, EACH), cancels: Bucket::full(CANCELS, CANCELS_EACH), newest: 0 }
    }

    /// A frame came.
    ///
    /// # Errors
    /// When it was one too many.
    pub(super) fn on_frame_received(&mut self, frame: Frame) -> Result<(), Empty> {
        let ends = frame.flags & END_STREAM != 0;
        match frame.kind {
            HEADERS => {
                if frame.stream > self.newest {
                    self.newest = frame.stream;
                    self.cancels.give(1);
                }
                self.frames.give(PROGRESS);
                Ok(())
            }
            DATA if frame.length > 0 => {
                self.frames.give(PROGRESS);
                Ok(())
            }
            DATA if ends => Ok(()),
            RST_STREAM => {
                self.cancels.take(CANCEL)?;
                self.frames.take_often(1)
            }
            SETTINGS | PING if frame.flags & ACK != 0 => self.frames.take_often(1),
            SETTINGS | PING | GOAWAY | DATA => self.frames.take_often(ANSWERED),
            _ => self.frames.take_often(1),
        }
    }

    /// A frame of ours went out.
    pub(super) fn on_frame_sent(&mut self, frame: Frame) {
        if frame.kind == HEADERS || (frame.kind == DATA && frame.length > 0) {
            self.frames.give(PROGRESS);
        }
        // With the end of the stream it is all of an answer, or trailers: nothing is left to be cancelled.
        if frame.kind == HEADERS && frame.flags & END_STREAM == 0 {
            self.cancels.give(1);
        }
    }
}

#[cfg(test)]
mod tests;
