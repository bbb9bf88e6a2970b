//! Relay of an open WebSocket: one task per tunnel, from the 101 to the end of both sides.
//!
//! The future is polled when a connection, the timer or a drain wakes it. It relays available bytes in both
//! directions and sleeps without a buffer. `pump` moves the bytes, `keepalive` and `timer` keep the clocks,
//! `close` ends a tunnel.

mod close;
mod departure;
mod direction;
mod failover;
mod frame_stats;
mod inspect_state;
mod keepalive;
mod pings;
mod pump;

#[cfg(test)]
mod tests;

use super::departure_confirmation::{DepartureConfirmation, DepartureResult};
use super::drain::Membership;
use super::messages::{Inspector, Recheck};
use super::rechecks::Rechecks;
use super::redial::Redial;
use super::relay_io::{self, ReplayBuffer, Timer};
use super::tap::{TapStart, TunnelTap};
use super::{ABNORMAL, Counters, Initiator, Outcome, Policy, Reason, Side, TunnelGuard, TunnelIo};
use crate::config::Exceed;
use crate::limit::Throttle;
use crate::runtime::clock;
use crate::websocket::handshake::Extensions;
use bytes::Bytes;
use close::{CloseState, Verdict};
pub(super) use departure::resume;
use direction::Direction;
use failover::Failover;
use frame_stats::FrameSummary;
use keepalive::{Activity, Clocks};
use pump::{ReadLimits, ReadOutcome};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

/// Reads per turn of a direction: a busy tunnel yields to other tunnels of its thread after a megabyte.
const READS: u32 = 16;

const BACKEND_FIRST: [Side; 2] = [Side::Backend, Side::Client];

/// The parts of a tunnel. The 101 has been sent to the client.
pub struct Tunnel {
    /// The client's connection.
    pub client: TunnelIo,
    /// The endpoint's connection.
    pub backend: TunnelIo,
    /// The bytes that the client sent after its request header.
    pub client_early: Bytes,
    /// The bytes that the backend sent after its 101.
    pub backend_early: Bytes,
    /// The negotiated extensions.
    pub extensions: Extensions,
    /// The route's policy.
    pub policy: Arc<Policy>,
    /// The key of the client in limits that a fleet shares.
    pub client_key: Option<u128>,
    /// Counters of route, upstream and endpoint.
    pub counters: Counters,
    /// The entry in the registry.
    pub member: Membership,
    /// Dropped when the tunnel ends: the lease of the endpoint, permits, gauges.
    pub guard: Box<dyn TunnelGuard>,
    /// Finds another backend when this one is lost, if the policy enables failover.
    pub redial: Option<Box<dyn Redial>>,
    /// Inspects the messages.
    pub inspector: Option<Box<dyn Inspector>>,
    /// Rechecks the open tunnel.
    pub recheck: Option<Arc<dyn Recheck>>,
}

/// Relays until both sides have ended. The future is the tunnel's whole memory apart from its sockets: spawn
/// it as a task of its own.
///
/// # Panics
/// Outside a tokio runtime with time enabled.
pub(super) fn run(tunnel: Tunnel) -> Relay {
    let now = clock::now();
    let policy = tunnel.policy;
    let mut relay = Relay {
        transports: [tunnel.client, tunnel.backend],
        directions: Side::BOTH.map(Direction::new),
        clocks: Clocks::new(now, &policy),
        timer: Timer::default(),
        closing: None,
        throttle: policy
            .rates()
            .map(|rates| Box::new(Throttle::new(rates, policy.message_tokens(tunnel.client_key), now))),
        extensions: tunnel.extensions,
        counters: tunnel.counters,
        member: tunnel.member,
        waker: None,
        tap: None,
        tap_version: 0,
        alone: false,
        failover: None,
        inspector: tunnel.inspector,
        rechecks: tunnel.recheck.and_then(|rechecker| Rechecks::new(rechecker, now)),
        policy,
        guard: tunnel.guard,
        departing: None,
    };
    relay.begin_inspection();
    if let (Some(redial), Some(terms)) = (tunnel.redial, relay.policy.reconnect) {
        relay.failover = Some(Failover::new(redial, terms.timeout));
        let [client, backend] = &mut relay.directions;
        client.out.keep(ReplayBuffer::new(terms.buffer));
        backend.replaceable = true;
    }
    relay.follow_taps(TapStart::WithTunnel);
    let mut activity = Activity::default();
    relay.early(Side::Client, &tunnel.client_early, &mut activity);
    relay.early(Side::Backend, &tunnel.backend_early, &mut activity);
    relay
}

/// A running tunnel.
pub(super) struct Relay {
    transports: [TunnelIo; 2],
    /// By source side.
    directions: [Direction; 2],
    clocks: Clocks,
    timer: Timer,
    closing: Option<CloseState>,
    throttle: Option<Box<Throttle>>,
    extensions: Extensions,
    policy: Arc<Policy>,
    counters: Counters,
    member: Membership,
    /// The waker that the timer and the registry hold.
    waker: Option<Waker>,
    tap: Option<Box<TunnelTap>>,
    /// The version of the taps that `tap` has.
    tap_version: u32,
    /// Whether its thread is the only one of its runtime.
    alone: bool,
    guard: Box<dyn TunnelGuard>,
    /// The failover state, if enabled.
    failover: Option<Box<Failover>>,
    inspector: Option<Box<dyn Inspector>>,
    rechecks: Option<Box<Rechecks>>,
    /// The tunnel has stopped, and waits whether another process continues it.
    departing: Option<Box<DepartureConfirmation>>,
}

/// The relay's next step after checking the clocks.
enum NextStep {
    /// Bytes were added to a write buffer: send them.
    Again,
    /// Wait for a connection, the timer or a drain.
    Wait,
    /// Both sides have ended.
    Finish(Verdict),
    /// Stop for a departure.
    Stop,
}

impl Future for Relay {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let relay = self.get_mut();
        // A direction limits its own reads. tokio's budget would return `Pending` without registering a
        // waker, and the relay would wait for a connection or timer that does not wake it.
        pin!(unconstrained(poll_fn(|cx| relay.work(cx)))).poll(cx)
    }
}

impl Relay {
    /// Takes the directions apart that the inspector looks at.
    fn begin_inspection(&mut self) {
        let Some(inspector) = &self.inspector else { return };
        let rules = self.policy.rules(self.extensions);
        for side in Side::BOTH {
            if inspector.inspects(side) {
                self.directions[side as usize].take_apart(&rules);
            }
        }
    }

    /// Does what there is to do.
    fn work(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        if self.departing.is_some() {
            match DepartureConfirmation::poll(&mut self.departing, &mut self.transports, cx) {
                DepartureResult::Pending => return Poll::Pending,
                DepartureResult::Moved => return Poll::Ready(self.moved()),
                DepartureResult::Stays => {
                    // What became readable or writable meanwhile has woken this task already.
                    self.directions.iter_mut().for_each(|direction| direction.listening = false);
                    self.member.stay();
                    // The order has taken the registry's waker.
                    self.waker = None;
                }
            }
        }
        self.listen(cx);
        self.follow_taps(TapStart::Within);
        loop {
            let mut activity = Activity::default();
            self.seek(cx, &mut activity);
            self.recheck(cx, &mut activity);
            // A backend that may be lost is read first: nothing more is written to one that has ended.
            let order = if self.failover.is_some() { BACKEND_FIRST } else { Side::BOTH };
            relay_io::lend(|scratch| {
                for side in order {
                    if !self.rests(side) {
                        self.pump_direction(side, cx, scratch, &mut activity);
                    }
                }
            });
            // The clock is read after the bytes were relayed, so that they do not wait for it.
            let now = clock::now();
            match self.next(now, &activity, cx) {
                NextStep::Again => {}
                NextStep::Wait => return Poll::Pending,
                NextStep::Finish(verdict) => {
                    return Poll::Ready(self.ended(verdict));
                }
                NextStep::Stop => {
                    self.depart();
                    // Polled at once: for the confirmation, or to continue.
                    cx.waker().wake_by_ref();
                    if self.departing.is_none() {
                        self.member.stay();
                        self.waker = None;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Starts the due recheck and handles a verdict.
    fn recheck(&mut self, cx: &mut Context<'_>, activity: &mut Activity) {
        let Some(rechecks) = &mut self.rechecks else { return };
        if self.closing.is_some() {
            self.rechecks = None;
            return;
        }
        let Poll::Ready(refusal) = rechecks.poll(cx) else { return };
        // The clock of this poll may lag a little.
        self.clocks.quiet_until = self.clocks.began();
        if let Some(plugin_close) = refusal {
            self.dismiss(&plugin_close);
            activity.consequences = true;
        }
    }

    /// Begins, changes or ends the taps of the tunnel, if they changed.
    #[inline]
    fn follow_taps(&mut self, start: TapStart) {
        let version = self.member.tap_version();
        if version != self.tap_version {
            self.tap_version = version;
            self.change_taps(start);
        }
    }

    #[cold]
    fn change_taps(&mut self, start: TapStart) {
        let sessions = self.member.taps();
        match &mut self.tap {
            _ if sessions.is_empty() => self.tap = None,
            Some(tap) => tap.replace_sessions(sessions),
            None => {
                let parsers = [0, 1].map(|side: usize| self.directions[side].source_parser());
                self.tap = Some(TunnelTap::new(self.member.id(), sessions, parsers, self.extensions, start));
            }
        }
    }

    /// Registers the task's waker with the timer and the registry. A no-op after the first call.
    fn listen(&mut self, cx: &Context<'_>) {
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return;
        }
        self.waker = Some(cx.waker().clone());
        self.timer.disarm();
        self.directions.iter_mut().for_each(|direction| direction.listening = false);
        self.alone = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        self.member.listen(cx.waker());
    }

    /// Returns whether a turn from `side` would find nothing to do: most messages wake one direction only.
    #[inline]
    fn rests(&self, side: Side) -> bool {
        // On a multi-threaded runtime, another thread may be about to take the waker that a socket holds, so
        // it is registered again.
        self.alone
            && self.throttle.is_none()
            && self.failover.is_none()
            && self.directions[side as usize].rests(&self.transports[side as usize])
    }

    /// Relays available bytes from `side` to the other side.
    fn pump_direction(
        &mut self,
        side: Side,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        activity: &mut Activity,
    ) {
        let mut window = match &mut self.throttle {
            Some(throttle) if side == Side::Client && self.closing.is_none() => {
                // A rate limit's window applies to one read; the next read has another one.
                throttle.window(Instant::now()).map_or((0, 0), |window| (1, window))
            }
            _ => (READS, usize::MAX),
        };
        if self.failover.is_some() {
            self.restrict(side, &mut window);
        }
        let mut terms = ReadLimits {
            rules: self.policy.rules(self.extensions),
            reads: window.0,
            window: window.1,
            inspector: self.inspector.as_mut(),
            tap: self.tap.as_mut(),
        };
        let [client, backend] = &mut self.transports;
        let tunnel_ios = match side {
            Side::Client => (client, backend),
            Side::Backend => (backend, client),
        };
        let mut seen = FrameSummary::default();
        let turn = self.directions[side as usize].pump(tunnel_ios, cx, scratch, &mut terms, &mut seen);
        if turn == ReadOutcome::Yield {
            cx.waker().wake_by_ref();
        }
        self.process_read(side, turn, &seen, activity);
    }

    /// Takes the bytes read before the relay started; the first poll writes them.
    fn early(&mut self, side: Side, bytes: &[u8], activity: &mut Activity) {
        if bytes.is_empty() {
            return;
        }
        let mut seen = FrameSummary::default();
        let rules = self.policy.rules(self.extensions);
        let (inspector, tap) = (self.inspector.as_mut(), self.tap.as_mut());
        let mut terms = ReadLimits { rules, reads: 0, window: 0, inspector, tap };
        let turn = self.directions[side as usize].early(bytes, &mut terms, &mut seen);
        self.process_read(side, turn, &seen, activity);
    }

    /// Counts what a turn saw and draws the consequences.
    fn process_read(&mut self, side: Side, turn: ReadOutcome, seen: &FrameSummary, activity: &mut Activity) {
        if seen.bytes > 0 {
            self.counters.add(side, &seen.messages, seen.bytes);
            self.member.traffic().add(side, seen.data_messages(), seen.bytes);
            activity.note(side, seen, self.directions[side as usize].out.take_drained());
            if let Some(payload) = seen.pinged {
                // Before the other side is read, whose pong may be there.
                self.directions[side.other() as usize].await_pong(payload);
            }
            if side == Side::Client {
                activity.consequences |= self.pace(seen);
            }
            if let Some(code) = seen.closed {
                self.begin_end(Initiator::Side(side), Reason::Closed, code);
            }
        } else if self.directions[side as usize].out.take_drained() {
            activity.drained(side.other());
        }
        // Resulting Close frames are written before the task sleeps.
        activity.consequences |= !matches!(turn, ReadOutcome::Waiting | ReadOutcome::Yield);
        match turn {
            ReadOutcome::Waiting if side == Side::Backend && self.failover.is_some() => {
                activity.consequences |= self.finish_reading_backend();
            }
            ReadOutcome::Waiting | ReadOutcome::Yield => {}
            ReadOutcome::Ended => self.source_ended(side, Reason::Eof),
            ReadOutcome::Failed => self.source_ended(side, Reason::Reset),
            ReadOutcome::KeysEnded => self.keys_ended(side),
            ReadOutcome::SinkFailed if side == Side::Client && self.keep_reading_backend() => {}
            ReadOutcome::SinkFailed => self.sink_failed(side.other()),
            ReadOutcome::Leaves(code) => self.backend_leaves(code),
            ReadOutcome::Violation(violation) => self.violated(side, violation),
            ReadOutcome::Dismissed => self.closed_by_plugin(side),
        }
    }

    /// Charges the client for what it sent. Whether that was too much and is the end.
    fn pace(&mut self, seen: &FrameSummary) -> bool {
        let Some(throttle) = self.throttle.as_mut().filter(|_| self.closing.is_none()) else { return false };
        let within = throttle.take(seen.rated(), seen.bytes, Instant::now());
        let end = !within && throttle.on_exceed == Exceed::Close;
        if end {
            self.rate_exceeded();
        }
        end
    }

    /// Checks the clocks. `now` may lag a little, as `clock::now` does.
    fn next(&mut self, now: Instant, activity: &Activity, cx: &mut Context<'_>) -> NextStep {
        self.note(now, activity);
        if activity.consequences {
            return NextStep::Again;
        }
        if self.closing.is_none()
            && let Some(order) = self.member.order()
        {
            self.obey(order);
            return NextStep::Again;
        }
        if self.member.is_departing() {
            return NextStep::Stop;
        }
        if self.closing.is_some() {
            return self.drive_close(clock::read(), cx);
        }
        let paused = self.throttle.as_ref().and_then(|throttle| throttle.until());
        if self.timer.is_running() && now < self.clocks.quiet_until && paused.is_none() {
            return NextStep::Wait;
        }
        let now = clock::read();
        match self.clocks.due(&self.policy, now) {
            Ok(due) => {
                self.act(due, now);
                NextStep::Again
            }
            Err(next) => {
                let asked = self.rechecks.as_ref().and_then(|rechecks| rechecks.next());
                if let Some(next) = next.into_iter().chain(paused).chain(asked).min() {
                    self.clocks.quiet_until = next;
                    self.timer.wake_by(next, cx);
                }
                NextStep::Wait
            }
        }
    }

    fn note(&mut self, now: Instant, activity: &Activity) {
        self.clocks.hear(activity, now);
        if activity.data {
            self.member.traffic().data_at(clock::millis());
        }
        if activity.is_timed() {
            self.note_pings(clock::read(), activity);
        }
        let blocked = Side::BOTH.map(|side| self.directions[side.other() as usize].out.is_blocked());
        if blocked != [false; 2] || self.clocks.are_stuck() {
            self.note_blocked(blocked, now, activity);
        }
        if self.throttle.is_some() || self.failover.is_some() {
            self.pause_idle_clocks(now);
        }
    }

    #[cold]
    fn note_pings(&mut self, now: Instant, activity: &Activity) {
        let round_trips = self.clocks.note_pings(activity, now);
        for side in Side::BOTH {
            if let Some(round_trip) = round_trips[side as usize] {
                self.counters.round_trip(side, round_trip);
                self.member.traffic().round_trip(side, round_trip);
            }
        }
    }

    fn note_blocked(&mut self, blocked: [bool; 2], now: Instant, activity: &Activity) {
        for side in Side::BOTH {
            let waits = blocked[side as usize];
            self.clocks.waits(side, waits, activity, now);
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

    /// Ends it here and now, by no doing of either side.
    pub(super) fn abort(&mut self) -> Outcome {
        let reason = if std::thread::panicking() { Reason::Panicked } else { Reason::Aborted };
        // A side that got a Close frame without responding already has the code.
        let code = self.ending_code().unwrap_or(ABNORMAL);
        self.ended(Verdict { by: Initiator::Gateway, reason, code })
    }

    /// Another process has the tunnel: nothing ends.
    fn moved(&mut self) -> Outcome {
        let verdict = Verdict { by: Initiator::Gateway, reason: Reason::Moved, code: ABNORMAL };
        self.outcome(verdict, clock::read())
    }

    fn ended(&mut self, verdict: Verdict) -> Outcome {
        let outcome = self.outcome(verdict, clock::read());
        self.counters.ended(&outcome);
        // Also for a tap that began after the last turn.
        self.follow_taps(TapStart::Within);
        if let Some(tap) = &self.tap {
            tap.ended(&outcome);
        }
        if let Some(inspector) = &mut self.inspector {
            inspector.ended(&outcome);
        }
        outcome
    }

    fn outcome(&self, verdict: Verdict, now: Instant) -> Outcome {
        Outcome {
            by: verdict.by,
            reason: verdict.reason,
            code: verdict.code,
            messages: self.member.traffic().messages(),
            bytes: self.member.traffic().bytes(),
            lifetime: now - self.clocks.began(),
            ping_rtt: self.member.traffic().round_trips(),
        }
    }
}
