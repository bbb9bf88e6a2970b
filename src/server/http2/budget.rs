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
use super::frames::{DATA, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
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
    pub(super) fn came(&mut self, frame: Frame) -> Result<(), Empty> {
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
    pub(super) fn went(&mut self, frame: Frame) {
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
mod tests {
    use super::*;
    use std::time::Duration;

    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, length: u32) -> Frame {
        Frame { kind, flags, length, stream: 1 }
    }

    fn head(stream: u32, flags: u8) -> Frame {
        Frame { kind: HEADERS, flags, length: 10, stream }
    }

    fn cancel(stream: u32) -> Frame {
        Frame { kind: RST_STREAM, flags: 0, length: 4, stream }
    }

    /// How many of so many requests, each as `make` has it, come through before one too many.
    fn requests(budget: &mut Budget, most: u32, make: impl Fn(&mut Budget, u32) -> Result<(), Empty>) -> u32 {
        let first = budget.newest | 1;
        let made = (0..most).take_while(|at| make(budget, first + 2 + 2 * at).is_ok()).count();
        u32::try_from(made).unwrap_or(u32::MAX)
    }

    /// A request that is cancelled at once.
    fn rapid(budget: &mut Budget, stream: u32) -> Result<(), Empty> {
        budget.came(head(stream, 5))?;
        budget.came(cancel(stream))
    }

    /// How many of these come through in one moment, at most so many.
    fn passed(budget: &mut Budget, frame: Frame, most: usize) -> usize {
        (0..most).take_while(|_| budget.came(frame).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn every_flood_ends() {
        for (kind, flags, length) in [(PING, 0, 8), (SETTINGS, 0, 0), (2, 0, 5), (WINDOW_UPDATE, 0, 4)] {
            let mut budget = Budget::full();
            assert!(passed(&mut budget, frame(kind, flags, length), 10_000) <= 2_000, "type {kind}");
        }
        let mut budget = Budget::full();
        assert!(passed(&mut budget, frame(DATA, 0, 0), 10_000) <= 500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_now_and_then_goes_on_for_ever() {
        let mut budget = Budget::full();
        for _ in 0..10_000 {
            tokio::time::advance(Duration::from_millis(100)).await;
            assert_eq!(budget.came(frame(PING, 0, 8)), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_beside_every_message_goes_on_for_ever() {
        let mut budget = Budget::full();
        for _ in 0..100_000 {
            budget.went(frame(DATA, 0, 20));
            assert_eq!(budget.came(frame(PING, 0, 8)), Ok(()));
            assert_eq!(budget.came(frame(WINDOW_UPDATE, 0, 4)), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_all_cancelled_end_it() {
        let mut budget = Budget::full();
        // However long it was quiet before.
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert!((400..=500).contains(&requests(&mut budget, 10_000, rapid)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(requests(&mut budget, 10_000, rapid) < 30);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_and_trailers_pay_for_no_cancelled_request() {
        let mut budget = Budget::full();
        let made = requests(&mut budget, 10_000, |budget, stream| {
            budget.came(head(stream, 4))?;
            for _ in 0..5 {
                budget.came(Frame { kind: DATA, flags: 0, length: 1, stream })?;
            }
            budget.came(head(stream, 5))?;
            budget.came(cancel(stream))
        });
        assert!(made <= 500, "{made}");
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_the_requests_may_be_cancelled() {
        let mut budget = Budget::full();
        let made = requests(&mut budget, 10_000, |budget, stream| {
            budget.came(head(stream, 5))?;
            if stream % 4 == 1 { Ok(()) } else { budget.came(cancel(stream)) }
        });
        assert_eq!(made, 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_request_now_and_then_goes_on_for_ever() {
        let mut budget = Budget::full();
        for _ in 0..10_000 {
            tokio::time::advance(Duration::from_millis(100)).await;
            assert_eq!(requests(&mut budget, 1, rapid), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_have_begun_may_all_be_cancelled() {
        let mut budget = Budget::full();
        let made = requests(&mut budget, 10_000, |budget, stream| {
            budget.came(head(stream, 5))?;
            budget.went(head(stream, 4));
            budget.came(cancel(stream))
        });
        assert_eq!(made, 10_000);
    }
}
