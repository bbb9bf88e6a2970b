//! How many frames a client may send that bring no request forward. Each of them is cheap to send and costs
//! its receiver work, an answer or both, and HTTP/2 itself sets no bound (RFC 9113 §10.5): floods of PING,
//! SETTINGS, PRIORITY and the like, and requests that are cancelled as soon as they are made (CVE-2023-44487).
//!
//! A client has [`FULL`] points. Frames that carry nothing cost some; every request, every piece of a body in
//! either direction and time give some back. So pings that keep a connection alive, or measure it beside each
//! message, go on for ever, and a flood ends after some hundred frames.

use super::frames::{DATA, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
use tokio::time::Instant;

/// What a client begins with and never has more of.
const FULL: u32 = 2_000;
/// What comes back each second.
const A_SECOND: u128 = 100;
/// A frame that must be answered.
const ANSWERED: u32 = 4;
/// What a request, or a piece of a body, gives back: a ping and a window update for each are in it.
const PROGRESS: u32 = 5;
/// So many cancelled requests are never too many; beyond, when they are more than half of all.
const CANCELLED: u64 = 500;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;

/// A client sent too much that brings nothing forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flood;

/// The points of one connection.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    /// Until when time has been given back.
    given: Instant,
    requests: u64,
    cancelled: u64,
}

impl Budget {
    /// All of it.
    pub(super) fn full() -> Self {
        Self { left: FULL, given: Instant::now(), requests: 0, cancelled: 0 }
    }

    /// A frame came.
    ///
    /// # Errors
    /// When it was one too many.
    pub(super) fn came(&mut self, frame: Frame) -> Result<(), Flood> {
        let ends = frame.flags & END_STREAM != 0;
        match frame.kind {
            HEADERS => {
                self.requests += 1;
                self.give(PROGRESS);
                Ok(())
            }
            DATA if frame.length > 0 => {
                self.give(PROGRESS);
                Ok(())
            }
            DATA if ends => Ok(()),
            RST_STREAM => {
                self.cancelled += 1;
                let many = self.cancelled > CANCELLED && self.cancelled * 2 > self.requests;
                if many { Err(Flood) } else { self.take(1) }
            }
            SETTINGS | PING if frame.flags & ACK != 0 => self.take(1),
            SETTINGS | PING | GOAWAY | DATA => self.take(ANSWERED),
            _ => self.take(1),
        }
    }

    /// A frame of ours went out.
    pub(super) fn went(&mut self, frame: Frame) {
        if frame.kind == HEADERS || (frame.kind == DATA && frame.length > 0) {
            self.give(PROGRESS);
        }
    }

    fn give(&mut self, points: u32) {
        self.left = (self.left + points).min(FULL);
    }

    fn take(&mut self, points: u32) -> Result<(), Flood> {
        if self.left < points {
            // The clock is read only now: an ordinary connection never asks for it.
            let passed = self.given.elapsed();
            self.given = Instant::now();
            self.give(u32::try_from(passed.as_millis() * A_SECOND / 1_000).unwrap_or(FULL).min(FULL));
        }
        self.left = self.left.checked_sub(points).ok_or(Flood)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, length: u32) -> Frame {
        Frame { kind, flags, length }
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
        let pair = |budget: &mut Budget| {
            budget.came(frame(HEADERS, 5, 10)).and_then(|()| budget.came(frame(RST_STREAM, 0, 4)))
        };
        assert!((0..501).any(|_| pair(&mut budget).is_err()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_third_of_the_requests_may_be_cancelled() {
        let mut budget = Budget::full();
        for _ in 0..10_000 {
            for _ in 0..3 {
                assert_eq!(budget.came(frame(HEADERS, 5, 10)), Ok(()));
            }
            assert_eq!(budget.came(frame(RST_STREAM, 0, 4)), Ok(()));
        }
    }
}
