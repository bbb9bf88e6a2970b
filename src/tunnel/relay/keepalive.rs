//! The clocks of a tunnel: when each side was last heard, pinged and able to take something, and what
//! is due. Traffic only notes the time; what is due is reckoned when the earliest moment has come.

use super::frame_stats::FrameSummary;
use crate::runtime::clock;
use crate::tunnel::{Policy, Side};
use std::num::NonZeroU64;
use std::time::Duration;
use tokio::time::Instant;

/// What the turns of one poll saw.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    heard: [bool; 2],
    /// The side took something that had waited.
    drained: [bool; 2],
    ponged: [bool; 2],
    /// The side was sent a ping that had waited for a boundary.
    pinged: [Option<NonZeroU64>; 2],
    /// A data frame passed, or a part of one.
    pub(super) data: bool,
    /// Something was put into an outbox behind the turn that would have delivered it.
    pub(super) consequences: bool,
}

impl Activity {
    /// Notes what a turn of the lane from `side` saw.
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

    /// `side` took something that had waited.
    pub(super) fn drained(&mut self, side: Side) {
        self.drained[side as usize] = true;
    }

    /// The ping that `side` was sent.
    pub(super) fn pinged(&self, side: Side) -> Option<NonZeroU64> {
        self.pinged[side as usize]
    }

    /// A ping left or a pong came: the exact time matters.
    pub(super) fn is_timed(&self) -> bool {
        self.ponged != [false; 2] || self.pinged != [None; 2]
    }
}

/// Something whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The side was silent: ping it.
    Ping(Side),
    /// The side is dead.
    Dead(Side),
    /// The side takes nothing.
    Stuck(Side),
    /// No data for too long.
    Idle,
    /// The connection is old.
    Aged,
}

/// The clocks of a tunnel.
#[derive(Debug)]
pub(super) struct Clocks {
    began: Instant,
    data: Instant,
    expires: Option<Instant>,
    sides: [Vital; 2],
    /// Before this moment nothing is due.
    pub(super) quiet_until: Instant,
}

#[derive(Debug)]
struct Vital {
    /// Last sign of life.
    heard: Instant,
    /// When it was sent the ping that was not answered yet.
    pinged: Option<Instant>,
    /// A ping waits for the boundary of a frame.
    asked: bool,
    /// Since when bytes wait for it without a bit of progress.
    stuck: Option<Instant>,
    /// In microseconds; `None` as `u32::MAX`, for every idle tunnel holds two of them.
    round_trip: u32,
}

/// No ping was answered yet.
const NEVER: u32 = u32::MAX;

impl Clocks {
    pub(super) fn new(now: Instant, policy: &Policy) -> Self {
        let vital = || Vital { heard: now, pinged: None, asked: false, stuck: None, round_trip: NEVER };
        let life = |age: Duration| age.saturating_sub(policy.jitter.mul_f64(fastrand::f64()));
        Self {
            began: now,
            data: now,
            expires: policy.max_age.map(|age| now + life(age)),
            sides: [vital(), vital()],
            quiet_until: now,
        }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn round_trips(&self) -> [Option<Duration>; 2] {
        Side::BOTH.map(|side| match self.sides[side as usize].round_trip {
            NEVER => None,
            micros => Some(Duration::from_micros(micros.into())),
        })
    }

    /// Notes who was heard.
    #[inline]
    pub(super) fn hear(&mut self, news: &Activity, now: Instant) {
        if news.data {
            self.data = now;
        }
        for side in Side::BOTH {
            let vital = &mut self.sides[side as usize];
            // What a kernel took at once is no sign of a peer's life: the ping itself is such.
            let took = news.drained[side as usize] && vital.stuck.is_some();
            if news.heard[side as usize] || took {
                vital.heard = now;
                if vital.pinged.is_some() {
                    // Behind the ping, whatever the age of `now`.
                    vital.heard = clock::read();
                    // Its next moment is that of the next ping, which may be the earlier one.
                    self.quiet_until = now;
                }
            }
        }
    }

    /// Notes pings that left and pongs that came, of which the round trips are returned.
    pub(super) fn note_pings(&mut self, news: &Activity, now: Instant) -> [Option<Duration>; 2] {
        Side::BOTH.map(|side| {
            let vital = &mut self.sides[side as usize];
            if news.pinged(side).is_some() {
                self.quiet_until = now;
                vital.ping_left(now);
            }
            if !news.ponged[side as usize] {
                return None;
            }
            let round_trip = now - vital.pinged.take()?;
            vital.round_trip = u32::try_from(round_trip.as_micros()).unwrap_or(NEVER - 1);
            Some(round_trip)
        })
    }

    /// Whether bytes waited for a side when that was last looked at.
    #[inline]
    pub(super) fn are_stuck(&self) -> bool {
        self.sides.iter().any(|vital| vital.stuck.is_some())
    }

    /// Notes whether bytes wait for `side`, and whether some went out.
    pub(super) fn waits(&mut self, side: Side, waits: bool, news: &Activity, now: Instant) {
        let stuck = &mut self.sides[side as usize].stuck;
        if !waits {
            if stuck.take().is_some() {
                self.quiet_until = now;
            }
        } else if stuck.is_none() || news.drained[side as usize] {
            if stuck.is_none() {
                self.quiet_until = now;
            }
            *stuck = Some(now);
        }
    }

    /// `side` is not read for now: its silence is ours.
    pub(super) fn pause_idle_clock(&mut self, side: Side, now: Instant) {
        self.sides[side as usize].heard = now;
    }

    /// `side` is somebody else from now on.
    pub(super) fn renew(&mut self, side: Side, now: Instant) {
        let vital = &mut self.sides[side as usize];
        let round_trip = vital.round_trip;
        *vital = Vital { heard: now, pinged: None, asked: false, stuck: None, round_trip };
        self.quiet_until = now;
    }

    /// A ping to `side` went out, or waits for a boundary.
    pub(super) fn pinged(&mut self, side: Side, left: bool, now: Instant) {
        let vital = &mut self.sides[side as usize];
        if left {
            vital.ping_left(now);
        } else {
            vital.asked = true;
        }
    }

    /// What is due now; otherwise when the next thing is.
    pub(super) fn due(&self, policy: &Policy, now: Instant) -> Result<Due, Option<Instant>> {
        let mut next = Earliest { now, at: None };
        for side in Side::BOTH {
            let vital = &self.sides[side as usize];
            if let (Some(since), Some(limit)) = (vital.stuck, policy.write_timeout)
                && next.has_come(since + limit)
            {
                return Ok(Due::Stuck(side));
            }
            if let Some(due) = vital.due(side, policy, &mut next) {
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

impl Vital {
    fn ping_left(&mut self, now: Instant) {
        self.asked = false;
        self.pinged = Some(now);
    }

    fn due(&self, side: Side, policy: &Policy, next: &mut Earliest) -> Option<Due> {
        let interval = policy.ping_interval?;
        // Anything that came since the ping is life enough: its pong may stand behind a long upload.
        if let Some(sent) = self.pinged.filter(|sent| self.heard <= *sent) {
            return next.has_come(sent + policy.ping_timeout).then_some(Due::Dead(side));
        }
        // A side that takes nothing would not get the ping either; that is the write timeout's case.
        if self.asked || self.stuck.is_some() {
            return None;
        }
        next.has_come(self.heard + interval).then_some(Due::Ping(side))
    }
}

/// The earliest of the moments that are still to come.
struct Earliest {
    now: Instant,
    at: Option<Instant>,
}

impl Earliest {
    fn has_come(&mut self, moment: Instant) -> bool {
        if moment > self.now {
            self.at = Some(self.at.map_or(moment, |at| at.min(moment)));
        }
        moment <= self.now
    }
}
