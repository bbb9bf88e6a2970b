//! Clocks of a raw relay: its age, its last byte, and since when bytes wait for a side.

use crate::tunnel::raw_state::RawClocksState;
use crate::tunnel::{RawLimits, Side};
use std::time::Duration;
use tokio::time::Instant;

/// An expired deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The side reads nothing.
    Stuck(Side),
    /// No byte for `idle_timeout`.
    Idle,
    /// `max_age` has passed.
    Aged,
}

/// The clocks of a relay.
#[derive(Debug)]
pub(super) struct Clocks {
    began: Instant,
    /// The last byte.
    data: Instant,
    expires: Option<Instant>,
    /// By side: since when bytes wait without progress.
    stuck: [Option<Instant>; 2],
    /// No deadline expires before this time.
    pub(super) quiet_until: Instant,
}

impl Clocks {
    pub(super) fn new(now: Instant, limits: &RawLimits) -> Self {
        let life = |age: Duration| age.saturating_sub(limits.jitter.mul_f64(fastrand::f64()));
        Self {
            began: now,
            data: now,
            expires: limits.max_age.map(|age| now + life(age)),
            stuck: [None; 2],
            quiet_until: now,
        }
    }

    /// The clocks for another process.
    pub(super) fn state(&self, now: Instant) -> RawClocksState {
        let before = |time: Instant| now.saturating_duration_since(time);
        RawClocksState {
            age: before(self.began),
            data: before(self.data),
            expires_in: self.expires.map(|expires| expires.saturating_duration_since(now)),
            stuck: self.stuck.map(|since| since.map(before)),
        }
    }

    /// Continues the clocks of another process.
    pub(super) fn resume(now: Instant, limits: &RawLimits, state: &RawClocksState) -> Self {
        // No time is before the start of the machine, which every clock counts from.
        let at = |before: Duration| now.checked_sub(before).unwrap_or(now);
        let clocks = Self::new(now, limits);
        // A limit that the route has only now counts from the opening too.
        let expires = match (state.expires_in, clocks.expires) {
            (Some(left), Some(_)) => Some(now + left),
            (None, Some(expires)) => Some(expires.checked_sub(state.age).unwrap_or(now)),
            (_, None) => None,
        };
        Self {
            began: at(state.age),
            data: at(state.data),
            expires,
            stuck: state.stuck.map(|since| since.map(at)),
            ..clocks
        }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The deadlines are checked anew: one may be earlier than the known ones.
    pub(super) fn check_again(&mut self) {
        self.quiet_until = self.began;
    }

    /// Bytes were relayed.
    pub(super) fn hear(&mut self, now: Instant) {
        self.data = now;
    }

    /// Records whether bytes wait for `side`, and whether some were sent.
    pub(super) fn waits(&mut self, side: Side, waits: bool, progressed: bool, now: Instant) {
        let stuck = &mut self.stuck[side as usize];
        if waits && (stuck.is_none() || progressed) {
            *stuck = Some(now);
            self.check_again();
        } else if !waits {
            *stuck = None;
        }
    }

    /// The expired deadline, or the time of the next one.
    pub(super) fn due(&self, limits: &RawLimits, now: Instant) -> Result<Due, Option<Instant>> {
        let stuck = |side: Side| Some((self.stuck[side as usize]? + limits.write_timeout?, Due::Stuck(side)));
        let deadlines = [
            stuck(Side::Client),
            stuck(Side::Backend),
            limits.idle_timeout.map(|limit| (self.data + limit, Due::Idle)),
            self.expires.map(|expires| (expires, Due::Aged)),
        ];
        match deadlines.into_iter().flatten().min_by_key(|(at, _)| *at) {
            Some((at, due)) if at <= now => Ok(due),
            next => Err(next.map(|(at, _)| at)),
        }
    }
}
