//! How a tunnel is seen to its end: who is told with which Close, what is waited for, and for how long.
//!
//! A side is told with a Close at a boundary, or by a bare end when it is in the middle of a frame that
//! nobody will finish. Its answer is awaited for `close_timeout`. A backend is given the same time to
//! close first, as RFC 6455 §7.1.1 wants a server to, so that the waiting sockets are not ours.

use super::direction::{PendingClose, Text};
use super::keepalive::Due;
use super::{Next, Relay};
use crate::tunnel::messages::PluginClose;
use crate::tunnel::{ABNORMAL, Cause, Initiator, Reason, Side, TunnelIo};
use crate::websocket::frame::{FrameError, Violation};
use crate::websocket::random_nonzero;
use std::task::Context;
use tokio::time::Instant;

/// How a tunnel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) by: Initiator,
    pub(super) reason: Reason,
    pub(super) code: u16,
}

/// A tunnel that has begun to end.
#[derive(Debug)]
pub(super) struct CloseState {
    verdict: Verdict,
    /// When waiting is over; set at the next look at the clock.
    deadline: Option<Instant>,
    /// The time limit was given a second time, to a side that was told only after the first.
    extended: bool,
}

pub(super) const fn pending_close(code: u16, text: &'static &'static str) -> PendingClose {
    PendingClose { code, text: Text::Plain(text) }
}

/// What `side` is told when the other one is gone. 1011 rather than 1014 for a backend that failed: many
/// clients, tungstenite among them, take a code above 1013 for an error of their own.
pub(super) const fn gone(lost: Side, reason: Reason) -> PendingClose {
    match (lost, reason) {
        (Side::Client, _) => pending_close(1001, &"client gone"),
        (Side::Backend, Reason::Eof | Reason::PingTimeout | Reason::WriteTimeout) => {
            pending_close(1001, &"backend gone")
        }
        (Side::Backend, _) => pending_close(1011, &"backend failed"),
    }
}

impl Relay {
    /// Notes who ends the tunnel and why; the first one counts.
    pub(super) fn begin_end(&mut self, by: Initiator, reason: Reason, code: u16) {
        let verdict = Verdict { by, reason, code };
        self.ending.get_or_insert(CloseState { verdict, deadline: None, extended: false });
    }

    /// The code with which the tunnel ends, once it does.
    pub(super) fn ending_code(&self) -> Option<u16> {
        self.ending.as_ref().map(|ending| ending.verdict.code)
    }

    /// `side` sends nothing more. What it sent is delivered; unless it took its leave, the other side is told.
    pub(super) fn source_ended(&mut self, side: Side, reason: Reason) {
        if side == Side::Backend && self.start_failover(reason, ABNORMAL) {
            return;
        }
        self.lanes[side as usize].end();
        if reason == Reason::Reset {
            self.close_transport(side);
        }
        if !self.lanes[side as usize].has_closed() {
            self.begin_end(Initiator::Side(side), reason, ABNORMAL);
        }
        // Nothing happens when a Close of its own has passed.
        self.lanes[side as usize].close(gone(side, reason));
    }

    /// `side` takes nothing more. It may still have said something: it is read until it ends.
    pub(super) fn sink_failed(&mut self, side: Side) {
        self.lanes[side.other() as usize].out.give_up();
        self.begin_end(Initiator::Side(side), Reason::Reset, ABNORMAL);
    }

    /// `side` broke the protocol or a limit of it.
    pub(super) fn violated(&mut self, side: Side, violation: Violation) {
        let reason = match violation.what {
            FrameError::FrameTooBig | FrameError::MessageTooBig => Reason::TooBig(side, violation.what),
            wrong => Reason::Invalid(side, wrong),
        };
        self.begin_end(Initiator::Gateway, reason, violation.code);
        let told = PendingClose { code: violation.code, text: Text::Wrong(violation.what) };
        let answers = &mut self.lanes[side.other() as usize];
        if matches!(reason, Reason::Invalid(Side::Client, _)) {
            // What it sent before was valid: the answers to that are its, as they would be without us.
            answers.close_behind(told);
        } else {
            answers.close(told);
        }
        self.lanes[side as usize].close(gone(side, reason));
    }

    /// The inspector ends the tunnel for a message from `side`.
    pub(super) fn dismissed(&mut self, side: Side) {
        if let Some(dismissal) = self.lanes[side as usize].take_dismissal() {
            self.dismiss(&dismissal);
        }
    }

    /// Ends the tunnel with this Close to both sides.
    pub(super) fn dismiss(&mut self, dismissal: &PluginClose) {
        self.begin_end(Initiator::Gateway, dismissal.reason, dismissal.code);
        for lane in &mut self.lanes {
            lane.close_with(dismissal.code, &dismissal.text);
        }
    }

    /// The client sent more than it may.
    pub(super) fn rate_exceeded(&mut self) {
        self.begin_end(Initiator::Gateway, Reason::Rate, 1008);
        self.lanes[Side::Backend as usize].close(pending_close(1008, &"too many messages"));
        self.lanes[Side::Client as usize].close(gone(Side::Client, Reason::Rate));
    }

    /// Asks the client to leave. Its answer goes on to the backend, which so learns of it in order.
    fn ask(&mut self, reason: Reason, told: PendingClose) {
        self.begin_end(Initiator::Gateway, reason, told.code);
        self.lanes[Side::Backend as usize].close(told);
    }

    /// Asks the client to come again, at the word of a drain.
    pub(super) fn drain(&mut self, cause: Cause) {
        let text = match cause {
            Cause::Shutdown => &"gateway restarts",
            Cause::Endpoint | Cause::Unhealthy => &"backend leaves",
            Cause::Route => &"route changed",
            Cause::Operator | Cause::Rebalance => &"please reconnect",
        };
        self.ask(Reason::Drain(cause), pending_close(1012, text));
    }

    /// `side` is as good as gone.
    fn dead(&mut self, side: Side, reason: Reason) {
        if side == Side::Backend && self.start_failover(reason, ABNORMAL) {
            return;
        }
        self.begin_end(Initiator::Side(side), reason, ABNORMAL);
        self.close_transport(side);
        self.lanes[side as usize].close(gone(side, reason));
    }

    /// Closes the transport of `side`.
    pub(super) fn close_transport(&mut self, side: Side) {
        self.legs[side as usize] = TunnelIo::Gone;
        self.lanes[side as usize].end();
        self.lanes[side.other() as usize].out.give_up();
    }

    /// Does what is due.
    pub(super) fn act(&mut self, due: Due, now: Instant) {
        match due {
            Due::Ping(side) => {
                let payload = random_nonzero();
                let left = self.lanes[side.other() as usize].ping(payload);
                if left {
                    self.lanes[side as usize].await_pong(payload);
                }
                self.clocks.pinged(side, left, now);
            }
            Due::Dead(side) => self.dead(side, Reason::PingTimeout),
            Due::Stuck(side) => self.dead(side, Reason::WriteTimeout),
            Due::Idle => self.ask(Reason::Idle, pending_close(1001, &"idle timeout")),
            Due::Aged => self.ask(Reason::MaxAge, pending_close(1012, &"please reconnect")),
        }
    }

    /// Looks after a tunnel that has begun to end.
    pub(super) fn drive_close(&mut self, now: Instant, cx: &mut Context<'_>) -> Next {
        let limit = self.policy.close_timeout;
        let Some(ending) = &mut self.ending else { return Next::Wait };
        let verdict = ending.verdict;
        let deadline = *ending.deadline.get_or_insert(now + limit);
        if self.is_over() {
            return Next::Finish(verdict);
        }
        if self.end_streams() {
            return Next::Again;
        }
        if now < deadline {
            self.timer.wake_by(deadline, now, cx);
            return Next::Wait;
        }
        if self.tell_the_rest() { self.extend(now, verdict) } else { Next::Finish(verdict) }
    }

    /// Gives those who were told only now their own time.
    fn extend(&mut self, now: Instant, verdict: Verdict) -> Next {
        let limit = self.policy.close_timeout;
        match &mut self.ending {
            Some(ending) if !ending.extended => {
                ending.extended = true;
                ending.deadline = Some(now + limit);
                Next::Again
            }
            _ => Next::Finish(verdict),
        }
    }

    /// The client has taken its leave, the backend has ended, and everything was delivered.
    fn is_over(&self) -> bool {
        let [client, backend] = &self.lanes;
        (client.has_ended() || client.has_closed())
            && backend.has_ended()
            && client.out.is_idle()
            && backend.out.is_idle()
    }

    /// Ends the streams in which nothing more can come while something else is still waited for: a
    /// client's when both Closes have passed, since its program waits for our end, and that of a side
    /// which cannot be understood any more. Whether one was ended just now.
    fn end_streams(&mut self) -> bool {
        let [client, backend] = &mut self.lanes;
        let parted = client.has_closed() && !client.has_ended();
        let to_client = backend.is_shut() && (parted || client.is_lost()) && backend.out.end();
        let to_backend = client.is_shut() && backend.is_lost() && client.out.end();
        to_client || to_backend
    }

    /// The time limit is over: a client that was told is let go, and whoever was not told is told now.
    /// Whether somebody was.
    fn tell_the_rest(&mut self) -> bool {
        let told = self.lanes[Side::Backend as usize].is_shut();
        // Who is gone need not be told.
        let there = Side::BOTH.map(|side| !matches!(self.legs[side as usize], TunnelIo::Gone));
        let to_client = there[Side::Client as usize]
            && self.lanes[Side::Backend as usize].close(gone(Side::Backend, Reason::Eof));
        let to_backend = there[Side::Backend as usize]
            && self.lanes[Side::Client as usize].close(gone(Side::Client, Reason::Eof));
        if told {
            self.close_transport(Side::Client);
        }
        to_client || to_backend
    }
}
