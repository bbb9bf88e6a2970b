//! A backend is lost and the client is kept: its messages wait, another backend is looked for, and what
//! was cut is said again from its start. Where backends come from is [`Redial`]'s.
//!
//! What holds for the client's messages: they reach backends whole and in order. One that was wholly
//! written to the lost backend is not said again, so no two backends get it; one that was not is said
//! again to the next. Whether the lost backend read the last of what was written to it, nobody knows:
//! an application that has to know acknowledges. A message of the backend of which the client has seen a
//! part cannot be finished by another backend, so that client is told to go.

use super::Relay;
use super::close::{gone, pending_close};
use super::keepalive::Activity;
use crate::telemetry::metrics::Reconnected;
use crate::tunnel::redial::{Found, Loss, Redial, Search};
use crate::tunnel::{ABNORMAL, Initiator, Reason, Side, TunnelIo};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// What a tunnel has that may outlive its backend.
pub(super) struct Failover {
    state: FailoverState,
    limit: Duration,
    /// The backend takes nothing more; what it said before is still read.
    deaf: bool,
}

enum FailoverState {
    /// There is a backend, and who would look for another one.
    Ready(Box<dyn Redial>),
    /// There is none.
    Away { search: Search, reason: Reason, code: u16 },
    /// Never seen from outside: on the way from one to the other.
    Between,
}

impl Failover {
    pub(super) fn new(redial: Box<dyn Redial>, limit: Duration) -> Box<Self> {
        Box::new(Self { state: FailoverState::Ready(redial), limit, deaf: false })
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, FailoverState::Ready(_))
    }

    /// Begins a search.
    fn leave(&mut self, reason: Reason, code: u16) {
        self.deaf = false;
        let loss = Loss { reason, limit: self.limit };
        self.state = match std::mem::replace(&mut self.state, FailoverState::Between) {
            FailoverState::Ready(redial) => FailoverState::Away { search: redial.redial(loss), reason, code },
            other => other,
        };
    }
}

impl Relay {
    /// Whether there is no backend.
    pub(super) fn is_away(&self) -> bool {
        self.failover.as_ref().is_some_and(|failover| matches!(failover.state, FailoverState::Away { .. }))
    }

    /// While there is no backend, none is read, and the client only as far as its messages are held.
    pub(super) fn restrict(&mut self, side: Side, (reads, window): &mut (u32, usize)) {
        match side {
            Side::Client => {
                if let Some(room) = self.lanes[Side::Client as usize].out.room() {
                    (*reads, *window) = ((*reads).min(1), (*window).min(room));
                }
            }
            Side::Backend => {
                self.lanes[Side::Backend as usize].replaceable = self.may_move();
                if self.is_away() {
                    *reads = 0;
                }
            }
        }
    }

    /// Whether another backend would be looked for.
    pub(super) fn may_move(&self) -> bool {
        self.ending.is_none() && self.failover.as_ref().is_some_and(|failover| failover.is_ready())
    }

    /// The backend is lost. Whether that is seen to, one way or the other; if not, the tunnel ends as
    /// one does that keeps nobody.
    pub(super) fn start_failover(&mut self, reason: Reason, code: u16) -> bool {
        if !self.may_move() {
            return false;
        }
        let [client, backend] = &mut self.lanes;
        if !backend.may_be_taken_over() {
            client.out.attach();
            self.counters.reconnected(Reconnected::Impossible);
            return false;
        }
        if reason == Reason::Closed {
            self.part(code);
        }
        let [client, backend] = &mut self.lanes;
        if !client.out.rewind() {
            self.counters.reconnected(Reconnected::Impossible);
            self.forsake(reason, code, &"message cut");
            return true;
        }
        client.ping = None;
        backend.take_over();
        self.legs[Side::Backend as usize] = TunnelIo::Gone;
        // The endpoint's count does not wait for the next one.
        self.guard = Box::new(());
        if let Some(member) = &self.member {
            member.moved(0);
        }
        self.clocks.renew(Side::Backend, Instant::now());
        if let Some(failover) = &mut self.failover {
            failover.leave(reason, code);
        }
        true
    }

    /// The backend left with a Close that the client has not seen.
    pub(super) fn leaves(&mut self, code: u16) {
        if !self.start_failover(Reason::Closed, code) {
            self.begin_end(Initiator::Side(Side::Backend), Reason::Closed, code);
            self.lanes[Side::Backend as usize].close(pending_close(code, &""));
            self.lanes[Side::Backend as usize].end();
        }
    }

    /// Answers the Close of a backend that leaves, as far as that can be done at once.
    fn part(&mut self, code: u16) {
        let lane = &self.lanes[Side::Client as usize];
        let close = lane.close_frame(pending_close(code, &""));
        let at_boundary = !lane.out.waits() && lane.follower.may_inject();
        // The leg is dropped with the next lines of the caller; nobody waits for it.
        let mut cx = Context::from_waker(Waker::noop());
        let mut leg = Pin::new(&mut self.legs[Side::Backend as usize]);
        if at_boundary && leg.as_mut().poll_write(&mut cx, close.as_bytes()).is_ready() {
            let _ = leg.poll_shutdown(&mut cx);
        }
    }

    /// The backend takes nothing more. Whether it is heard out, because it may be lost.
    pub(super) fn hears_out(&mut self) -> bool {
        let keeps = self.may_move();
        if keeps && let Some(failover) = &mut self.failover {
            failover.deaf = true;
            self.lanes[Side::Client as usize].out.hold();
        }
        keeps
    }

    /// The backend has nothing more to say for now: if it takes nothing either, it is lost. Whether it was.
    pub(super) fn heard_out(&mut self) -> bool {
        let Some(failover) = self.failover.as_deref_mut().filter(|failover| failover.deaf) else {
            return false;
        };
        // What waits for a client that is slow keeps the rest unread.
        if self.lanes[Side::Backend as usize].out.is_blocked() {
            return false;
        }
        failover.deaf = false;
        if !self.start_failover(Reason::Reset, ABNORMAL) {
            self.begin_end(Initiator::Side(Side::Backend), Reason::Reset, ABNORMAL);
            self.close_transport(Side::Backend);
            self.lanes[Side::Backend as usize].close(gone(Side::Backend, Reason::Reset));
        }
        true
    }

    /// Asks the search, when there is one.
    pub(super) fn seek(&mut self, cx: &mut Context<'_>, news: &mut Activity) {
        let Some(failover) = &mut self.failover else { return };
        let FailoverState::Away { search, reason, code } = &mut failover.state else { return };
        let (reason, code) = (*reason, *code);
        let Poll::Ready((redial, found)) = search.as_mut().poll(cx) else { return };
        failover.state = FailoverState::Ready(redial);
        match found {
            Some(found) => self.arrive(found, news),
            None => {
                self.counters.reconnected(Reconnected::Failed);
                self.forsake(reason, code, &"no backend left");
            }
        }
    }

    /// Goes on with another backend.
    fn arrive(&mut self, found: Found, news: &mut Activity) {
        self.legs[Side::Backend as usize] = found.backend;
        self.guard = found.guard;
        self.counters = found.counters;
        self.counters.reconnected(Reconnected::Moved);
        if let Some(member) = &self.member {
            member.moved(found.endpoint);
        }
        self.lanes[Side::Client as usize].out.attach();
        self.clocks.renew(Side::Backend, Instant::now());
        let lane = &mut self.lanes[Side::Backend as usize];
        lane.replaceable = self.ending.is_none();
        self.early(Side::Backend, &found.early, news);
    }

    /// No backend will take what the client says: it is asked to come again, or its Close is answered.
    fn forsake(&mut self, reason: Reason, code: u16, why: &'static &'static str) {
        let answered = self.lanes[Side::Client as usize].has_closed();
        let told = self.ending_code().filter(|_| answered).unwrap_or(1012);
        self.begin_end(Initiator::Side(Side::Backend), reason, code);
        self.close_transport(Side::Backend);
        self.lanes[Side::Backend as usize].close(pending_close(told, why));
    }
}
