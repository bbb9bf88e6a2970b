//! Failover: keeps the client when its backend is lost. Client messages wait, [`Redial`] finds another
//! backend, and incomplete messages are sent again from their start.
//!
//! Client messages reach backends whole and in order. A message that was completely written to the lost
//! backend is not sent again, so no two backends get it; an incomplete one is sent again to the next. Whether
//! the lost backend read the last written messages is unknown: an application that needs certainty
//! acknowledges them. A backend message that the client received in part cannot be completed by another
//! backend, so that client is closed.

use super::Relay;
use super::direction::{PendingClose, Text};
use super::keepalive::Activity;
use crate::telemetry::metrics::Reconnected;
use crate::tunnel::close_frames::{self, CloseFrame};
use crate::tunnel::redial::{Found, Loss, Redial, Search};
use crate::tunnel::{ABNORMAL, Initiator, Reason, Side, TunnelIo};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// The failover state of a tunnel.
pub(super) struct Failover {
    state: FailoverState,
    limit: Duration,
    /// The backend reads nothing more; its earlier bytes are still relayed.
    sink_closed: bool,
}

enum FailoverState {
    /// A backend is connected, and this redialer finds another one.
    Ready(Box<dyn Redial>),
    /// No backend is connected.
    Away { search: Search, reason: Reason, code: u16 },
    /// Transitional, never observable from outside.
    Between,
}

impl Failover {
    pub(super) fn new(redial: Box<dyn Redial>, limit: Duration) -> Box<Self> {
        Box::new(Self { state: FailoverState::Ready(redial), limit, sink_closed: false })
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, FailoverState::Ready(_))
    }

    /// The redialer's state while a backend is connected that reads, for another process.
    pub(super) fn redialer_state(&self) -> Option<serde_json::Value> {
        match &self.state {
            FailoverState::Ready(redial) if !self.sink_closed => redial.state(),
            _ => None,
        }
    }

    /// Starts a search.
    fn leave(&mut self, reason: Reason, code: u16) {
        self.sink_closed = false;
        let loss = Loss { reason, limit: self.limit };
        self.state = match std::mem::replace(&mut self.state, FailoverState::Between) {
            FailoverState::Ready(redial) => FailoverState::Away { search: redial.redial(loss), reason, code },
            other => other,
        };
    }
}

impl Relay {
    /// Returns whether no backend is connected.
    pub(super) fn is_away(&self) -> bool {
        self.failover.as_ref().is_some_and(|failover| matches!(failover.state, FailoverState::Away { .. }))
    }

    /// Without a backend, only the client is read, up to the capacity of the replay buffer.
    pub(super) fn restrict(&mut self, side: Side, (reads, window): &mut (u32, usize)) {
        match side {
            Side::Client => {
                if let Some(room) = self.directions[Side::Client as usize].out.room() {
                    (*reads, *window) = ((*reads).min(1), (*window).min(room));
                }
            }
            Side::Backend => {
                self.directions[Side::Backend as usize].replaceable = self.may_move();
                if self.is_away() {
                    *reads = 0;
                }
            }
        }
    }

    /// Returns whether a failover is possible.
    pub(super) fn may_move(&self) -> bool {
        self.closing.is_none() && self.failover.as_ref().is_some_and(|failover| failover.is_ready())
    }

    /// The backend is lost. Returns whether this is handled; otherwise the tunnel ends as one without
    /// failover.
    pub(super) fn start_failover(&mut self, reason: Reason, code: u16) -> bool {
        if !self.may_move() {
            return false;
        }
        let [client, backend] = &mut self.directions;
        if !backend.may_be_taken_over() {
            client.out.attach();
            self.counters.reconnected(Reconnected::Impossible);
            return false;
        }
        if reason == Reason::Closed {
            self.part(code);
        }
        let [client, backend] = &mut self.directions;
        if !client.out.rewind() {
            self.counters.reconnected(Reconnected::Impossible);
            self.fail_search(reason, code, &close_frames::MESSAGE_INCOMPLETE);
            return true;
        }
        client.ping = None;
        backend.take_over();
        self.transports[Side::Backend as usize] = TunnelIo::Gone;
        // The endpoint's count is released before the search.
        self.guard = Box::new(());
        self.member.moved(0);
        self.clocks.renew(Side::Backend, Instant::now());
        if let Some(failover) = &mut self.failover {
            failover.leave(reason, code);
        }
        true
    }

    /// The backend left with a Close frame that was not forwarded.
    pub(super) fn backend_leaves(&mut self, code: u16) {
        if !self.start_failover(Reason::Closed, code) {
            self.begin_end(Initiator::Side(Side::Backend), Reason::Closed, code);
            self.directions[Side::Backend as usize].close(PendingClose::bare(code));
            self.directions[Side::Backend as usize].end();
        }
    }

    /// Responds to the Close frame of a backend that leaves, without waiting.
    fn part(&mut self, code: u16) {
        let direction = &self.directions[Side::Client as usize];
        let close = direction.close_frame(PendingClose::bare(code));
        let at_boundary = !direction.out.waits() && direction.follower.may_inject();
        // The caller drops the connection next, so that no wake-up is needed.
        let mut cx = Context::from_waker(Waker::noop());
        let mut tunnel_io = Pin::new(&mut self.transports[Side::Backend as usize]);
        if at_boundary && tunnel_io.as_mut().poll_write(&mut cx, close.as_bytes()).is_ready() {
            let _ = tunnel_io.poll_shutdown(&mut cx);
        }
    }

    /// The backend reads nothing more. Returns whether its remaining bytes are relayed, because a failover is
    /// possible.
    pub(super) fn keep_reading_backend(&mut self) -> bool {
        let keeps = self.may_move();
        if keeps && let Some(failover) = &mut self.failover {
            failover.sink_closed = true;
            self.directions[Side::Client as usize].out.hold();
        }
        keeps
    }

    /// The backend has nothing readable: if it reads nothing either, it is lost. Returns whether it was.
    pub(super) fn finish_reading_backend(&mut self) -> bool {
        let Some(failover) = self.failover.as_deref_mut().filter(|failover| failover.sink_closed) else {
            return false;
        };
        // A slow client keeps the rest unread.
        if self.directions[Side::Backend as usize].out.is_blocked() {
            return false;
        }
        failover.sink_closed = false;
        if !self.start_failover(Reason::Reset, ABNORMAL) {
            self.begin_end(Initiator::Side(Side::Backend), Reason::Reset, ABNORMAL);
            self.close_transport(Side::Backend);
            let pending = self.gone(Side::Backend, Reason::Reset);
            self.directions[Side::Backend as usize].close(pending);
        }
        true
    }

    /// Polls the search, if any.
    pub(super) fn seek(&mut self, cx: &mut Context<'_>, activity: &mut Activity) {
        let Some(failover) = &mut self.failover else { return };
        let FailoverState::Away { search, reason, code } = &mut failover.state else { return };
        let (reason, code) = (*reason, *code);
        let Poll::Ready((redial, found)) = search.as_mut().poll(cx) else { return };
        failover.state = FailoverState::Ready(redial);
        match found {
            Some(found) => self.arrive(found, activity),
            None => {
                self.counters.reconnected(Reconnected::Failed);
                self.fail_search(reason, code, &close_frames::NO_BACKEND_AVAILABLE);
            }
        }
    }

    /// Continues with another backend.
    fn arrive(&mut self, found: Found, activity: &mut Activity) {
        self.transports[Side::Backend as usize] = found.backend;
        self.guard = found.guard;
        self.counters = found.counters;
        self.counters.reconnected(Reconnected::Moved);
        self.member.moved(found.endpoint);
        if let Some(tap) = &mut self.tap {
            tap.replace_backend(self.extensions);
        }
        self.directions[Side::Client as usize].out.attach();
        self.clocks.renew(Side::Backend, Instant::now());
        let direction = &mut self.directions[Side::Backend as usize];
        direction.replaceable = self.closing.is_none();
        self.early(Side::Backend, &found.early, activity);
    }

    /// No other backend was found: the client is closed with 1012, or gets a response to its Close frame.
    fn fail_search(&mut self, reason: Reason, code: u16, frame: &'static CloseFrame) {
        let answered = self.directions[Side::Client as usize].has_closed();
        let close_code = self.ending_code().filter(|_| answered).unwrap_or(frame.code);
        self.begin_end(Initiator::Side(Side::Backend), reason, code);
        self.close_transport(Side::Backend);
        self.directions[Side::Backend as usize]
            .close(PendingClose { code: close_code, text: Text::Fixed(frame) });
    }
}
