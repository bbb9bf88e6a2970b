//! End of a raw relay.
//!
//! A side that ends its direction is passed on, and the other direction continues. A relay that the gateway ends delivers
//! what was read, ends both directions, and waits up to `close_timeout` for the ends of the sides: a socket that is closed
//! with unread bytes is reset, and its peer may lose what was sent before. A side whose connection fails ends the relay too;
//! the other side gets what was read, and learns over TLS that it is incomplete.

use super::clocks::Due;
use super::direction::{Direction, SourceState};
use super::{NextStep, RawRelay};
use crate::tunnel::{Cause, CloseOrder, Initiator, Reason, Side, TunnelIo};
use std::task::Context;
use tokio::time::Instant;

/// The initiator and the reason of a relay's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) by: Initiator,
    pub(super) reason: Reason,
}

/// A relay that ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    verdict: Verdict,
    /// When the wait ends; set at the next read of the clock.
    deadline: Option<Instant>,
}

impl RawRelay {
    /// Records the initiator and the reason of the end; the first call wins.
    fn begin_end(&mut self, by: Initiator, reason: Reason) {
        self.ending.get_or_insert(Ending { verdict: Verdict { by, reason }, deadline: None });
    }

    /// `side` has ended its direction, which is passed on.
    pub(super) fn source_ended(&mut self, side: Side) {
        self.first_end.get_or_insert(side);
        let direction = &mut self.directions[side as usize];
        direction.source = SourceState::Ended;
        direction.out.end();
    }

    /// The connection of `side` failed. The other side gets what was read.
    pub(super) fn side_failed(&mut self, side: Side, reason: Reason) {
        self.begin_end(Initiator::Side(side), reason);
        self.transports[side as usize] = TunnelIo::Gone;
        let direction = &mut self.directions[side as usize];
        if direction.source == SourceState::Open {
            direction.out.end_incomplete();
        }
        direction.source = SourceState::Ended;
        let opposite = &mut self.directions[side.other() as usize];
        opposite.out.give_up();
        opposite.discard();
    }

    /// `side` reads nothing more. What it sent is still read up to its end.
    pub(super) fn sink_failed(&mut self, side: Side) {
        self.begin_end(Initiator::Side(side), Reason::Reset);
        let direction = &mut self.directions[side.other() as usize];
        direction.out.give_up();
        direction.discard();
    }

    /// Ends the relay by a decision of the gateway.
    pub(super) fn end(&mut self, reason: Reason) {
        self.begin_end(Initiator::Gateway, reason);
        for direction in &mut self.directions {
            direction.discard();
            direction.out.end();
        }
    }

    /// The TLS keys of `side` have come to their end: nothing more can be read from it.
    pub(super) fn keys_ended(&mut self, side: Side) {
        self.directions[side as usize].source = SourceState::Ended;
        self.end(Reason::Drain(Cause::Keys));
    }

    /// Carries out an order of the registry. A raw relay has no Close frame for the code of an operator.
    pub(super) fn obey(&mut self, order: CloseOrder) {
        self.end(match order {
            CloseOrder::Drain(cause) => Reason::Drain(cause),
            CloseOrder::Operator => Reason::Operator,
        });
    }

    /// Handles an expired deadline.
    pub(super) fn act(&mut self, due: Due) {
        match due {
            Due::Stuck(side) => self.side_failed(side, Reason::WriteTimeout),
            Due::Idle => self.end(Reason::Idle),
            Due::Aged => self.end(Reason::MaxAge),
        }
    }

    /// The verdict of a relay whose directions are complete.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        if !self.directions.iter().all(Direction::is_complete) {
            return None;
        }
        let by = self.first_end.map_or(Initiator::Gateway, Initiator::Side);
        Some(self.ending.map_or(Verdict { by, reason: Reason::Eof }, |ending| ending.verdict))
    }

    /// Waits for the ends of both sides, up to the time limit.
    pub(super) fn await_ends(&mut self, now: Instant, cx: &mut Context<'_>) -> NextStep {
        let Some(ending) = &mut self.ending else { return NextStep::Wait };
        let deadline = *ending.deadline.get_or_insert(now + self.limits.close_timeout);
        if now < deadline {
            self.timer.wake_by(deadline, cx);
            return NextStep::Wait;
        }
        let verdict = ending.verdict;
        for (direction, sink) in self.directions.iter().zip(self.transports.iter_mut().rev()) {
            if direction.source == SourceState::Open || !direction.out.is_idle() {
                // What the sink has is incomplete. It is not awaited.
                let _ = sink.poll_shutdown_incomplete(cx);
            }
        }
        NextStep::Finish(verdict)
    }
}
