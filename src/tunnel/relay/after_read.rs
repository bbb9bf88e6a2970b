//! Processing after a read: counters, rate limits and consequences.

use super::Relay;
use super::frame_stats::FrameSummary;
use super::keepalive::Activity;
use super::pump::{ReadLimits, ReadOutcome};
use crate::config::Exceed;
use crate::tunnel::{Initiator, Reason, Side};
use tokio::time::Instant;

impl Relay {
    /// Accepts the bytes that were received before the relay began. They are sent with the first poll.
    pub(super) fn early(&mut self, side: Side, bytes: &[u8], news: &mut Activity) {
        if bytes.is_empty() {
            return;
        }
        let mut seen = FrameSummary::default();
        let rules = self.policy.rules(self.extensions);
        let mut terms = ReadLimits { rules, reads: 0, window: 0, inspector: self.inspector.as_mut() };
        let turn = self.lanes[side as usize].early(bytes, &mut terms, &mut seen);
        self.digest(side, turn, &seen, news);
    }

    /// Counts the frames of a turn and acts on its outcome.
    pub(super) fn digest(&mut self, side: Side, turn: ReadOutcome, seen: &FrameSummary, news: &mut Activity) {
        if seen.bytes > 0 {
            self.counters.add(side, &seen.messages, seen.bytes);
            self.messages[side as usize] += seen.data_messages();
            self.bytes[side as usize] += seen.bytes;
            news.note(side, seen, self.lanes[side as usize].out.take_drained());
            if side == Side::Client {
                news.consequences |= self.pace(seen);
            }
            if let Some(code) = seen.closed {
                self.begin_end(Initiator::Side(side), Reason::Closed, code);
            }
        } else if self.lanes[side as usize].out.take_drained() {
            news.drained(side.other());
        }
        // Frames written in consequence are sent before the task sleeps.
        news.consequences |= !matches!(turn, ReadOutcome::Waiting | ReadOutcome::Yield);
        match turn {
            ReadOutcome::Waiting if side == Side::Backend && self.failover.is_some() => {
                news.consequences |= self.heard_out();
            }
            ReadOutcome::Waiting | ReadOutcome::Yield => {}
            ReadOutcome::Ended => self.source_ended(side, Reason::Eof),
            ReadOutcome::Failed => self.source_ended(side, Reason::Reset),
            ReadOutcome::SinkFailed if side == Side::Client && self.hears_out() => {}
            ReadOutcome::SinkFailed => self.sink_failed(side.other()),
            ReadOutcome::Leaves(code) => self.leaves(code),
            ReadOutcome::Violation(violation) => self.violated(side, violation),
            ReadOutcome::Dismissed => self.dismissed(side),
        }
    }

    /// Charges the client's rate limits. Returns whether they are exceeded and the tunnel ends.
    fn pace(&mut self, seen: &FrameSummary) -> bool {
        let Some(throttle) = self.throttle.as_mut().filter(|_| self.ending.is_none()) else { return false };
        let within = throttle.take(seen.rated(), seen.bytes, Instant::now());
        let end = !within && throttle.exceed == Exceed::Close;
        if end {
            self.rate_exceeded();
        }
        end
    }
}
