//! Flood limit: frames that a client may send without making progress. Each is cheap to send and costs the
//! receiver work, a response or both, and HTTP/2 has no limit (RFC 9113 §10.5). Examples are floods of PING,
//! SETTINGS or PRIORITY, and requests cancelled at once (CVE-2023-44487).
//!
//! A client has [`FULL`] tokens. Empty frames cost tokens; requests, body chunks in either direction, and
//! time refill them. So keep-alive pings, or one per message, are never limited, and a flood ends after some
//! hundred frames.
//!
//! Cancelled requests have tokens of their own, which body chunks do not refill. A request that is cancelled
//! after its response header has earned its cost: gRPC watches always end that way.

use super::bucket::{Bucket, Empty};
use super::frame_scan::{DATA, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
use std::time::Duration;

/// The initial and maximum number of tokens.
const FULL: u32 = 2_000;
/// The refill time of a token: 100 per second.
const EACH: Duration = Duration::from_millis(10);
/// The cost of a frame that needs a response.
const ANSWERED: u32 = 4;
/// The refill by a request or a body chunk, which covers a ping and a window update each.
const PROGRESS: u32 = 5;

/// The tokens of cancelled requests: half as many may be cancelled at once without a response.
const CANCELS: u32 = 500;
/// 20 per second.
const CANCELS_EACH: Duration = Duration::from_millis(50);
/// The cost of a cancelled request; a request refills 1, and its response header 1 more.
const CANCEL: u32 = 2;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;

/// The tokens of one connection.
#[derive(Debug)]
pub(super) struct Budget {
    frames: Bucket,
    cancels: Bucket,
    /// The last stream that the client has opened: HEADERS on an older one are trailers.
    newest: u32,
}

impl Budget {
    /// Creates a full budget.
    pub(super) fn full() -> Self {
        Self { frames: Bucket::full(FULL, EACH), cancels: Bucket::full(CANCELS, CANCELS_EACH), newest: 0 }
    }

    /// Handles a received frame.
    ///
    /// # Errors
    /// When the limit is exceeded.
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

    /// Handles a sent frame.
    pub(super) fn on_frame_sent(&mut self, frame: Frame) {
        if frame.kind == HEADERS || (frame.kind == DATA && frame.length > 0) {
            self.frames.give(PROGRESS);
        }
        // With END_STREAM it is a complete response, or trailers: nothing can be cancelled any more.
        if frame.kind == HEADERS && frame.flags & END_STREAM == 0 {
            self.cancels.give(1);
        }
    }
}

#[cfg(test)]
mod tests;
