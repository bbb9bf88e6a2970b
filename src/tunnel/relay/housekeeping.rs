//! Deadlines of a relay, checked between turns. Most polls only relay a message and find no deadline expired,
//! so this path is short.

use super::keepalive::Activity;
use super::{Next, Relay};
use crate::runtime::clock;
use crate::tunnel::Side;
use std::task::Context;
use tokio::time::Instant;

impl Relay {
    /// Checks the clocks. `now` may lag a little, as `clock::now` does.
    pub(super) fn next(&mut self, now: Instant, news: &Activity, cx: &mut Context<'_>) -> Next {
        self.note(now, news);
        if news.consequences {
            return Next::Again;
        }
        if self.closing.is_none()
            && let Some(cause) = self.member.as_ref().and_then(|member| member.order())
        {
            self.drain(cause);
            return Next::Again;
        }
        if self.closing.is_some() {
            return self.drive_close(clock::read(), cx);
        }
        let paused = self.throttle.as_ref().and_then(|throttle| throttle.until());
        if self.timer.is_running() && now < self.clocks.quiet_until && paused.is_none() {
            return Next::Wait;
        }
        let now = clock::read();
        match self.clocks.due(&self.policy, now) {
            Ok(due) => {
                self.act(due, now);
                Next::Again
            }
            Err(next) => {
                let asked = self.rechecks.as_ref().and_then(|rechecks| rechecks.next());
                if let Some(next) = next.into_iter().chain(paused).chain(asked).min() {
                    self.clocks.quiet_until = next;
                    self.timer.wake_by(next, now, cx);
                }
                Next::Wait
            }
        }
    }

    fn note(&mut self, now: Instant, news: &Activity) {
        self.clocks.hear(news, now);
        if news.is_timed() {
            self.note_pings(clock::read(), news);
        }
        let blocked = Side::BOTH.map(|side| self.directions[side.other() as usize].out.is_blocked());
        if blocked != [false; 2] || self.clocks.are_stuck() {
            self.note_blocked(blocked, now, news);
        }
        if self.throttle.is_some() || self.failover.is_some() {
            self.pause_idle_clocks(now);
        }
    }

    #[cold]
    fn note_pings(&mut self, now: Instant, news: &Activity) {
        let round_trips = self.clocks.note_pings(news, now);
        for side in Side::BOTH {
            if let Some(round_trip) = round_trips[side as usize] {
                self.counters.round_trip(side, round_trip);
            }
            if let Some(payload) = news.pinged(side) {
                self.directions[side as usize].await_pong(payload);
            }
        }
    }

    fn note_blocked(&mut self, blocked: [bool; 2], now: Instant, news: &Activity) {
        for side in Side::BOTH {
            let waits = blocked[side as usize];
            self.clocks.waits(side, waits, news, now);
            if waits {
                self.clocks.pause_idle_clock(side.other(), now);
            }
        }
    }

    /// A side that is paused by the gateway, or absent during a failover, does not count as silent.
    fn pause_idle_clocks(&mut self, now: Instant) {
        let paused = self.throttle.as_ref().is_some_and(|throttle| throttle.until().is_some());
        if paused || self.directions[Side::Client as usize].out.room() == Some(0) {
            self.clocks.pause_idle_clock(Side::Client, now);
        }
        if self.is_away() {
            self.clocks.pause_idle_clock(Side::Backend, now);
        }
    }
}
