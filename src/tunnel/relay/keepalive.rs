//! Clocks of a tunnel: when each side last sent a frame, was pinged and was writable, and the next deadline.
//! Traffic only records times; deadlines are recomputed when the earliest one has passed.

use super::frame_stats::FrameSummary;
use crate::runtime::clock;
use crate::tunnel::state::{ClocksState, SideClockState};
use crate::tunnel::{Policy, Side};
use std::num::NonZeroU64;
use std::time::Duration;
use tokio::time::Instant;

/// The activity of one poll.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    heard: [bool; 2],
    /// The side accepted bytes that had waited.
    drained: [bool; 2],
    ponged: [bool; 2],
    /// The side was sent a ping that had waited for a boundary.
    pinged: [Option<NonZeroU64>; 2],
    /// A data frame was relayed, or a part of one.
    pub(super) data: bool,
    /// Bytes were added to a write buffer after the turn that would have sent them.
    pub(super) consequences: bool,
}

impl Activity {
    /// Records a turn of the direction from `side`.
    pub(super) fn note(&mut self, side: Side, seen: &FrameSummary, drained: bool) {
        self.heard[side as usize] = true;
        self.ponged[side as usize] |= seen.ponged;
        self.data |= seen.data;
        if seen.pinged.is_some() {
            self.pinged[side.other() as usize] = seen.pinged;
        }
        if drained {
            self.drained(side.other());
        }
    }

    /// `side` accepted bytes that had waited.
    pub(super) fn drained(&mut self, side: Side) {
        self.drained[side as usize] = true;
    }

    /// The ping that was sent to `side`.
    pub(super) fn pinged(&self, side: Side) -> Option<NonZeroU64> {
        self.pinged[side as usize]
    }

    /// Returns whether a ping was sent or a pong received, which need the exact time.
    pub(super) fn is_timed(&self) -> bool {
        self.ponged != [false; 2] || self.pinged != [None; 2]
    }
}

/// An expired deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The side was silent: ping it.
    Ping(Side),
    /// The side is dead.
    Dead(Side),
    /// The side reads nothing.
    Stuck(Side),
    /// No data frame for `idle_timeout`.
    Idle,
    /// `max_age` has passed.
    Aged,
}

/// The clocks of a tunnel.
#[derive(Debug)]
pub(super) struct Clocks {
    began: Instant,
    data: Instant,
    expires: Option<Instant>,
    sides: [SideClock; 2],
    /// No deadline expires before this time.
    pub(super) quiet_until: Instant,
}

#[derive(Debug)]
struct SideClock {
    /// The last sign of life.
    heard: Instant,
    /// When the unacknowledged ping was sent.
    pinged: Option<Instant>,
    /// A ping waits for a frame boundary.
    asked: bool,
    /// Since when bytes wait without progress.
    stuck: Option<Instant>,
}

impl Clocks {
    pub(super) fn new(now: Instant, policy: &Policy) -> Self {
        let side_clock = || SideClock { heard: now, pinged: None, asked: false, stuck: None };
        let life = |age: Duration| age.saturating_sub(policy.jitter.mul_f64(fastrand::f64()));
        Self {
            began: now,
            data: now,
            expires: policy.max_age.map(|age| now + life(age)),
            sides: [side_clock(), side_clock()],
            quiet_until: now,
        }
    }

    /// The clocks for another process.
    pub(super) fn state(&self, now: Instant) -> ClocksState {
        let before = |time: Instant| now.saturating_duration_since(time);
        ClocksState {
            age: before(self.began),
            data: before(self.data),
            expires_in: self.expires.map(|expires| expires.saturating_duration_since(now)),
            sides: [0, 1].map(|side: usize| {
                let SideClock { heard, pinged, asked, stuck } = &self.sides[side];
                SideClockState {
                    heard: before(*heard),
                    pinged: pinged.map(before),
                    asked: *asked,
                    stuck: stuck.map(before),
                }
            }),
        }
    }

    /// Continues the clocks of another process.
    pub(super) fn resume(now: Instant, policy: &Policy, state: &ClocksState) -> Self {
        // No time is before the start of the machine, which every clock counts from.
        let at = |before: Duration| now.checked_sub(before).unwrap_or(now);
        let mut clocks = Self::new(now, policy);
        clocks.began = at(state.age);
        clocks.data = at(state.data);
        // A limit that the route has only now counts from the opening too.
        clocks.expires = match (state.expires_in, policy.max_age) {
            (Some(left), Some(_)) => Some(now + left),
            (None, Some(_)) => clocks.expires.map(|expires| expires.checked_sub(state.age).unwrap_or(now)),
            (_, None) => None,
        };
        for (clock, side) in clocks.sides.iter_mut().zip(&state.sides) {
            *clock = SideClock {
                heard: at(side.heard),
                pinged: side.pinged.map(at),
                asked: side.asked,
                stuck: side.stuck.map(at),
            };
        }
        clocks
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Records signs of life.
    #[inline]
    pub(super) fn hear(&mut self, activity: &Activity, now: Instant) {
        if activity.data {
            self.data = now;
        }
        for side in Side::BOTH {
            let side_clock = &mut self.sides[side as usize];
            // Bytes that the kernel accepted at once, such as the ping, are no sign of the peer's life.
            let took = activity.drained[side as usize] && side_clock.stuck.is_some();
            if activity.heard[side as usize] || took {
                side_clock.heard = now;
                if side_clock.pinged.is_some() {
                    // After the ping, whatever the lag of `now`.
                    side_clock.heard = clock::read();
                    // Its next deadline is that of the next ping, which may be earlier.
                    self.quiet_until = now;
                }
            }
        }
    }

    /// Records sent pings and received pongs; returns the round-trip times.
    pub(super) fn note_pings(&mut self, activity: &Activity, now: Instant) -> [Option<Duration>; 2] {
        Side::BOTH.map(|side| {
            let side_clock = &mut self.sides[side as usize];
            if activity.pinged(side).is_some() {
                self.quiet_until = now;
                side_clock.ping_left(now);
            }
            if !activity.ponged[side as usize] {
                return None;
            }
            Some(now - side_clock.pinged.take()?)
        })
    }

    /// Returns whether bytes waited for a side at the last check.
    #[inline]
    pub(super) fn are_stuck(&self) -> bool {
        self.sides.iter().any(|side_clock| side_clock.stuck.is_some())
    }

    /// Records whether bytes wait for `side`, and whether some were sent.
    pub(super) fn waits(&mut self, side: Side, waits: bool, activity: &Activity, now: Instant) {
        let stuck = &mut self.sides[side as usize].stuck;
        if !waits {
            if stuck.take().is_some() {
                self.quiet_until = now;
            }
        } else if stuck.is_none() || activity.drained[side as usize] {
            if stuck.is_none() {
                self.quiet_until = now;
            }
            *stuck = Some(now);
        }
    }

    /// The gateway does not read `side` now, so that its silence does not count.
    pub(super) fn pause_idle_clock(&mut self, side: Side, now: Instant) {
        self.sides[side as usize].heard = now;
    }

    /// `side` was replaced by another peer.
    pub(super) fn renew(&mut self, side: Side, now: Instant) {
        self.sides[side as usize] = SideClock { heard: now, pinged: None, asked: false, stuck: None };
        self.quiet_until = now;
    }

    /// A ping to `side` was sent, or waits for a boundary.
    pub(super) fn pinged(&mut self, side: Side, left: bool, now: Instant) {
        let side_clock = &mut self.sides[side as usize];
        if left {
            side_clock.ping_left(now);
        } else {
            side_clock.asked = true;
        }
    }

    /// The expired deadline, or the time of the next one.
    pub(super) fn due(&self, policy: &Policy, now: Instant) -> Result<Due, Option<Instant>> {
        let mut next = EarliestDeadline { now, at: None };
        for side in Side::BOTH {
            let side_clock = &self.sides[side as usize];
            if let (Some(since), Some(limit)) = (side_clock.stuck, policy.write_timeout)
                && next.has_come(since + limit)
            {
                return Ok(Due::Stuck(side));
            }
            if let Some(due) = side_clock.due(side, policy, &mut next) {
                return Ok(due);
            }
        }
        if policy.idle_timeout.is_some_and(|limit| next.has_come(self.data + limit)) {
            return Ok(Due::Idle);
        }
        if self.expires.is_some_and(|expires| next.has_come(expires)) {
            return Ok(Due::Aged);
        }
        Err(next.at)
    }
}

impl SideClock {
    fn ping_left(&mut self, now: Instant) {
        self.asked = false;
        self.pinged = Some(now);
    }

    fn due(&self, side: Side, policy: &Policy, next: &mut EarliestDeadline) -> Option<Due> {
        let interval = policy.ping_interval?;
        // Any frame since the ping is a sign of life: the pong may follow a long upload.
        if let Some(sent) = self.pinged.filter(|sent| self.heard <= *sent) {
            return next.has_come(sent + policy.ping_timeout).then_some(Due::Dead(side));
        }
        // A side that reads nothing would not get the ping either; `write_timeout` applies to it.
        if self.asked || self.stuck.is_some() {
            return None;
        }
        next.has_come(self.heard + interval).then_some(Due::Ping(side))
    }
}

/// The earliest of the future deadlines.
struct EarliestDeadline {
    now: Instant,
    at: Option<Instant>,
}

impl EarliestDeadline {
    fn has_come(&mut self, moment: Instant) -> bool {
        if moment > self.now {
            self.at = Some(self.at.map_or(moment, |at| at.min(moment)));
        }
        moment <= self.now
    }
}
