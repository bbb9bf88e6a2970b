//! Closing of a tunnel: the Close frame for each side, the awaited responses and the time limits.
//!
//! A side gets a Close frame at a frame boundary, or only the end of the stream within an incomplete frame.
//! Its Close frame is awaited for `close_timeout`. A backend gets the same time to close first, as RFC 6455
//! §7.1.1 demands of servers, so that sockets in TIME_WAIT are not the gateway's.

use super::direction::{PendingClose, Text};
use super::keepalive::Due;
use super::pings;
use super::{NextStep, Relay};
use crate::tunnel::close_frames::{self, CloseFrame};
use crate::tunnel::messages::PluginClose;
use crate::tunnel::{ABNORMAL, Cause, CloseOrder, Initiator, Reason, Side, TunnelIo};
use crate::websocket::frame::{FrameError, Violation};
use std::task::Context;
use tokio::time::Instant;

/// The initiator, reason and code of a tunnel's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) by: Initiator,
    pub(super) reason: Reason,
    pub(super) code: u16,
}

/// A closing tunnel.
#[derive(Debug)]
pub(super) struct CloseState {
    verdict: Verdict,
    /// When the wait ends; set at the next read of the clock.
    deadline: Option<Instant>,
    /// The time limit was extended once, for a side that got its Close frame only after the first one.
    extended: bool,
}

impl Relay {
    /// The Close for the side opposite to `lost`. How TCP reports a lost backend is chance, so it does not matter.
    pub(super) fn gone(&self, lost: Side, reason: Reason) -> PendingClose {
        PendingClose::of(match (lost, reason) {
            (Side::Client, _) => &close_frames::CLIENT_GONE,
            (Side::Backend, Reason::Invalid(..) | Reason::TooBig(..)) => &close_frames::BACKEND_FAILED,
            (Side::Backend, _) if self.member.is_endpoint_leaving() => &close_frames::BACKEND_DRAINING,
            (Side::Backend, _) => &close_frames::BACKEND_GONE,
        })
    }

    /// Records the initiator and the reason of the end; the first call wins.
    pub(super) fn begin_end(&mut self, by: Initiator, reason: Reason, code: u16) {
        let verdict = Verdict { by, reason, code };
        self.closing.get_or_insert(CloseState { verdict, deadline: None, extended: false });
    }

    /// The close code of the tunnel, once it is closing.
    pub(super) fn ending_code(&self) -> Option<u16> {
        self.closing.as_ref().map(|ending| ending.verdict.code)
    }

    /// `side` sends nothing more. Its bytes are delivered; unless it sent a Close frame, the other side gets
    /// one.
    pub(super) fn source_ended(&mut self, side: Side, reason: Reason) {
        if side == Side::Backend && self.start_failover(reason, ABNORMAL) {
            return;
        }
        self.directions[side as usize].end();
        if reason == Reason::Reset {
            self.close_transport(side);
        }
        if !self.directions[side as usize].has_closed() {
            self.begin_end(Initiator::Side(side), reason, ABNORMAL);
        }
        // No effect if a Close frame of the side has been forwarded.
        let pending = self.gone(side, reason);
        self.directions[side as usize].close(pending);
    }

    /// `side` reads nothing more. Bytes that it sent are still read up to its end.
    pub(super) fn sink_failed(&mut self, side: Side) {
        self.directions[side.other() as usize].out.give_up();
        self.begin_end(Initiator::Side(side), Reason::Reset, ABNORMAL);
    }

    /// `side` violated the protocol or a limit.
    pub(super) fn violated(&mut self, side: Side, violation: Violation) {
        let reason = match violation.what {
            FrameError::FrameTooBig | FrameError::MessageTooBig => Reason::TooBig(side, violation.what),
            error => Reason::Invalid(side, error),
        };
        self.begin_end(Initiator::Gateway, reason, violation.code);
        let pending = PendingClose { code: violation.code, text: Text::Wrong(violation.what) };
        let answers = &mut self.directions[side.other() as usize];
        if matches!(reason, Reason::Invalid(Side::Client, _)) {
            // Its previous frames were valid: it still receives the responses to them, as without the
            // gateway.
            answers.close_behind(pending);
        } else {
            answers.close(pending);
        }
        let pending = self.gone(side, reason);
        self.directions[side as usize].close(pending);
    }

    /// The inspector ends the tunnel for a message from `side`.
    pub(super) fn closed_by_plugin(&mut self, side: Side) {
        if let Some(plugin_close) = self.directions[side as usize].take_dismissal() {
            self.dismiss(&plugin_close);
        }
    }

    /// Ends the tunnel with this Close to both sides.
    pub(super) fn dismiss(&mut self, plugin_close: &PluginClose) {
        self.begin_end(Initiator::Gateway, plugin_close.reason, plugin_close.code);
        for direction in &mut self.directions {
            direction.close_with(plugin_close.code, &plugin_close.text);
        }
    }

    /// The client sent more than it may.
    pub(super) fn rate_exceeded(&mut self) {
        self.ask(Reason::Rate, &close_frames::TOO_MANY_MESSAGES);
        let pending = self.gone(Side::Client, Reason::Rate);
        self.directions[Side::Client as usize].close(pending);
    }

    /// Closes the client. Its Close frame is forwarded, so that the backend sees an orderly close.
    fn ask(&mut self, reason: Reason, frame: &'static CloseFrame) {
        self.begin_end(Initiator::Gateway, reason, frame.code);
        self.directions[Side::Backend as usize].close(PendingClose::of(frame));
    }

    /// Carries out an order of the registry.
    pub(super) fn obey(&mut self, order: CloseOrder) {
        match order {
            CloseOrder::Drain(cause) => self.drain(cause),
            CloseOrder::Operator => {
                let close = self.member.take_close();
                let (code, text) = close.map_or((1012, Box::default()), |close| (close.code, close.reason));
                self.begin_end(Initiator::Gateway, Reason::Operator, code);
                self.directions[Side::Backend as usize].close_with(code, &text);
            }
        }
    }

    /// Closes the client with 1012, for a drain.
    fn drain(&mut self, cause: Cause) {
        let frame = match cause {
            Cause::Shutdown => &close_frames::GATEWAY_RESTARTING,
            Cause::Endpoint | Cause::Unhealthy => &close_frames::BACKEND_DRAINING,
            Cause::Route => &close_frames::ROUTE_CHANGED,
            Cause::Listener => &close_frames::LISTENER_REMOVED,
            Cause::Operator | Cause::Rebalance | Cause::Keys => &close_frames::PLEASE_RECONNECT,
        };
        self.ask(Reason::Drain(cause), frame);
    }

    /// The keys of `side` have come to their end: nothing more can be read from it, and a little be written.
    pub(super) fn keys_ended(&mut self, side: Side) {
        if side == Side::Backend && self.start_failover(Reason::Drain(Cause::Keys), ABNORMAL) {
            return;
        }
        self.directions[side as usize].end();
        self.drain(Cause::Keys);
        let pending = self.gone(side, Reason::Drain(Cause::Keys));
        self.directions[side as usize].close(pending);
    }

    /// `side` is considered dead.
    fn dead(&mut self, side: Side, reason: Reason) {
        if side == Side::Backend && self.start_failover(reason, ABNORMAL) {
            return;
        }
        self.begin_end(Initiator::Side(side), reason, ABNORMAL);
        self.close_transport(side);
        let pending = self.gone(side, reason);
        self.directions[side as usize].close(pending);
    }

    /// Closes the transport of `side`.
    pub(super) fn close_transport(&mut self, side: Side) {
        self.transports[side as usize] = TunnelIo::Gone;
        self.directions[side as usize].end();
        self.directions[side.other() as usize].out.give_up();
    }

    /// Handles an expired deadline.
    pub(super) fn act(&mut self, due: Due, now: Instant) {
        match due {
            Due::Ping(side) => {
                let payload = pings::following(self.directions[side as usize].awaited);
                let left = self.directions[side.other() as usize].ping(payload);
                if left {
                    self.directions[side as usize].await_pong(payload);
                }
                self.clocks.pinged(side, left, now);
            }
            Due::Dead(side) => self.dead(side, Reason::PingTimeout),
            Due::Stuck(side) => self.dead(side, Reason::WriteTimeout),
            Due::Idle => self.ask(Reason::Idle, &close_frames::IDLE_TIMEOUT),
            Due::Aged => self.ask(Reason::MaxAge, &close_frames::PLEASE_RECONNECT),
        }
    }

    /// Drives a closing tunnel.
    pub(super) fn drive_close(&mut self, now: Instant, cx: &mut Context<'_>) -> NextStep {
        let limit = self.policy.close_timeout;
        let Some(ending) = &mut self.closing else { return NextStep::Wait };
        let verdict = ending.verdict;
        let deadline = *ending.deadline.get_or_insert(now + limit);
        if self.is_over() {
            return NextStep::Finish(verdict);
        }
        if self.end_streams() {
            return NextStep::Again;
        }
        if now < deadline {
            self.timer.wake_by(deadline, cx);
            return NextStep::Wait;
        }
        if self.tell_the_rest() { self.extend(now, verdict) } else { NextStep::Finish(verdict) }
    }

    /// Extends the time limit for a side that got its Close frame only now.
    fn extend(&mut self, now: Instant, verdict: Verdict) -> NextStep {
        let limit = self.policy.close_timeout;
        match &mut self.closing {
            Some(ending) if !ending.extended => {
                ending.extended = true;
                ending.deadline = Some(now + limit);
                NextStep::Again
            }
            _ => NextStep::Finish(verdict),
        }
    }

    /// Returns whether the client has closed, the backend has ended, and all bytes are delivered.
    fn is_over(&self) -> bool {
        let [client, backend] = &self.directions;
        (client.has_ended() || client.has_closed())
            && backend.has_ended()
            && client.out.is_idle()
            && backend.out.is_idle()
    }

    /// The client after the end, if both Close frames have passed and it has not ended its stream.
    pub(in crate::tunnel) fn take_lingering(&mut self) -> Option<TunnelIo> {
        let [client, backend] = &self.directions;
        let lingers =
            client.has_closed() && !client.has_ended() && backend.is_shut() && backend.out.is_idle();
        let transport = &mut self.transports[Side::Client as usize];
        (lingers && !matches!(transport, TunnelIo::Gone))
            .then(|| std::mem::replace(transport, TunnelIo::Gone))
    }

    /// Ends streams that carry nothing more while the tunnel waits for something else. A client's stream ends
    /// after both Close frames, since clients wait for it, and so does that of a side after a protocol error.
    /// Returns whether one was ended.
    fn end_streams(&mut self) -> bool {
        let [client, backend] = &mut self.directions;
        let parted = client.has_closed() && !client.has_ended();
        let to_client = backend.is_shut() && (parted || client.is_lost()) && backend.out.end();
        let to_backend = client.is_shut() && backend.is_lost() && client.out.end();
        to_client || to_backend
    }

    /// The time limit passed: closes the transport of a client that got its Close frame, and sends Close to
    /// the remaining sides. Returns whether one was sent.
    fn tell_the_rest(&mut self) -> bool {
        let is_closed = self.directions[Side::Backend as usize].is_shut();
        // A disconnected side gets no Close frame.
        let there = Side::BOTH.map(|side| !matches!(self.transports[side as usize], TunnelIo::Gone));
        let pending = Side::BOTH.map(|lost| self.gone(lost, Reason::Eof));
        let to_client = there[Side::Client as usize]
            && self.directions[Side::Backend as usize].close(pending[Side::Backend as usize]);
        let to_backend = there[Side::Backend as usize]
            && self.directions[Side::Client as usize].close(pending[Side::Client as usize]);
        if is_closed {
            self.close_transport(Side::Client);
        }
        to_client || to_backend
    }
}
