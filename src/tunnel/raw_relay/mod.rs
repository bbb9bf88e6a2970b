//! Raw relay: bytes between two connections, of any protocol, with the limits, counts and drains of a tunnel. One task per
//! relay.
//!
//! It parses nothing, so it neither pings nor tells a side why it ends: `ending` describes how it does. `direction` moves
//! the bytes, `clocks` has the deadlines, `departure` passes a relay to another process.

mod clocks;
mod departure;
mod direction;
mod ending;

#[cfg(test)]
mod tests;

use super::departure_confirmation::{DepartureConfirmation, DepartureResult};
use super::drain::Membership;
use super::messages::Recheck;
use super::rechecks::Rechecks;
use super::relay_io::{self, Timer};
use super::{ABNORMAL, Initiator, Outcome, RawCounters, RawLimits, Reason, Side, TunnelGuard, TunnelIo};
use crate::config::Exceed;
use crate::limit::Throttle;
use crate::runtime::clock;
use bytes::Bytes;
use clocks::Clocks;
pub(super) use departure::resume;
use direction::{Direction, Turn};
use ending::{Ending, Verdict};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

/// Reads per turn of a direction: a busy relay yields to others of its thread after a megabyte.
const READS: u32 = 16;

/// The parts of a raw relay.
pub struct RawTunnel {
    /// The client's connection.
    pub client: TunnelIo,
    /// The endpoint's connection.
    pub backend: TunnelIo,
    /// Bytes of the gateway for the client, before those of the backend. They are not counted.
    pub preface: Bytes,
    /// Bytes that were read from the client before.
    pub client_early: Bytes,
    /// Bytes that were read from the backend before.
    pub backend_early: Bytes,
    /// The limits.
    pub limits: RawLimits,
    /// Counters of route, upstream and endpoint.
    pub counters: RawCounters,
    /// The entry in the registry.
    pub member: Membership,
    /// Dropped when the relay ends: the lease of the endpoint, permits, gauges.
    pub guard: Box<dyn TunnelGuard>,
    /// Rechecks the open relay.
    pub recheck: Option<Arc<dyn Recheck>>,
}

/// Relays until both sides have ended.
///
/// # Panics
/// Outside a tokio runtime with time enabled.
pub(super) fn run(tunnel: RawTunnel) -> RawRelay {
    let RawTunnel { preface, client_early, backend_early, limits, .. } = tunnel;
    let now = clock::now();
    let mut relay = RawRelay {
        transports: [tunnel.client, tunnel.backend],
        directions: [Direction::new(), Direction::new()],
        clocks: Clocks::new(now, &limits),
        timer: Timer::default(),
        first_end: None,
        ending: None,
        throttle: limits.rate.map(|rate| Box::new(Throttle::new(&rate, None, now))),
        limits,
        counters: tunnel.counters,
        member: tunnel.member,
        waker: None,
        alone: false,
        rechecks: tunnel.recheck.and_then(|rechecker| Rechecks::new(rechecker, now)),
        guard: tunnel.guard,
        departing: None,
    };
    relay.directions[Side::Backend as usize].out.push(&preface);
    relay.take_early(Side::Client, &client_early);
    relay.take_early(Side::Backend, &backend_early);
    relay
}

/// A running relay.
pub(super) struct RawRelay {
    transports: [TunnelIo; 2],
    /// By source side.
    directions: [Direction; 2],
    clocks: Clocks,
    timer: Timer,
    /// The side that ended its direction first.
    first_end: Option<Side>,
    ending: Option<Ending>,
    throttle: Option<Box<Throttle>>,
    limits: RawLimits,
    counters: RawCounters,
    member: Membership,
    /// The waker that the timer and the registry hold.
    waker: Option<Waker>,
    /// Whether its thread is the only one of its runtime.
    alone: bool,
    rechecks: Option<Box<Rechecks>>,
    guard: Box<dyn TunnelGuard>,
    /// The relay has stopped, and waits whether another process continues it.
    departing: Option<Box<DepartureConfirmation>>,
}

/// What happened in one poll.
#[derive(Clone, Copy, Debug, Default)]
struct Activity {
    /// Bytes were relayed.
    data: bool,
    /// Something is to be sent or ended before the task sleeps.
    consequences: bool,
}

/// The relay's next step after checking the clocks.
enum NextStep {
    /// Something is to be sent or ended.
    Again,
    /// Wait for a connection, the timer or an order.
    Wait,
    /// Both sides have ended.
    Finish(Verdict),
    /// Stop for a departure.
    Stop,
}

impl Future for RawRelay {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let relay = self.get_mut();
        // A direction limits its own reads. tokio's budget would return `Pending` without registering a waker.
        pin!(unconstrained(poll_fn(|cx| relay.work(cx)))).poll(cx)
    }
}

impl RawRelay {
    fn work(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        if self.departing.is_some() {
            match DepartureConfirmation::poll(&mut self.departing, &mut self.transports, cx) {
                DepartureResult::Pending => return Poll::Pending,
                DepartureResult::Moved => return Poll::Ready(self.moved()),
                DepartureResult::Stays => self.stay(),
            }
        }
        self.listen(cx);
        loop {
            let mut activity = Activity::default();
            self.recheck(cx, &mut activity);
            relay_io::lend(|scratch| {
                for side in Side::BOTH {
                    if !self.rests(side) {
                        self.pump_direction(side, cx, scratch, &mut activity);
                    }
                }
            });
            // The clock is read after the bytes were relayed, so that they do not wait for it.
            match self.next(clock::now(), activity, cx) {
                NextStep::Again => {}
                NextStep::Wait => return Poll::Pending,
                NextStep::Finish(verdict) => return Poll::Ready(self.ended(verdict)),
                NextStep::Stop => {
                    self.depart();
                    // Polled at once: for the confirmation, or to continue.
                    cx.waker().wake_by_ref();
                    if self.departing.is_none() {
                        self.stay();
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Continues here after an order to depart.
    fn stay(&mut self) {
        self.member.stay();
        // The order has taken the registry's waker. What became readable or writable meanwhile has woken this task.
        self.waker = None;
        self.directions.iter_mut().for_each(|direction| direction.listening = false);
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

    /// Starts the due recheck and handles a verdict.
    fn recheck(&mut self, cx: &mut Context<'_>, activity: &mut Activity) {
        let Some(rechecks) = &mut self.rechecks else { return };
        if self.ending.is_some() {
            self.rechecks = None;
            return;
        }
        let Poll::Ready(refusal) = rechecks.poll(cx) else { return };
        self.clocks.check_again();
        if let Some(refusal) = refusal {
            self.end(refusal.reason);
            activity.consequences = true;
        }
    }

    /// Returns whether a turn from `side` would find nothing to do.
    fn rests(&self, side: Side) -> bool {
        // On a multi-threaded runtime, another thread may be about to take the waker that a socket holds, so it is
        // registered again.
        self.alone
            && self.throttle.is_none()
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
        let reads = match &mut self.throttle {
            Some(throttle) if side == Side::Client && self.ending.is_none() => {
                // A rate limit's window applies to one read; the next read has another one.
                throttle.window(Instant::now()).map_or((0, 0), |window| (1, window))
            }
            _ => (READS, usize::MAX),
        };
        let [client, backend] = &mut self.transports;
        let ends = match side {
            Side::Client => (client, backend),
            Side::Backend => (backend, client),
        };
        let mut bytes = 0;
        let turn =
            self.directions[side as usize].pump(ends, cx, scratch, reads, |count| bytes += count as u64);
        if bytes > 0 {
            self.count(side, bytes);
            activity.data = true;
            activity.consequences |= side == Side::Client && self.charge(bytes);
        }
        activity.consequences |= !matches!(turn, Turn::Waiting | Turn::Yield);
        match turn {
            Turn::Waiting => {}
            Turn::Yield => cx.waker().wake_by_ref(),
            Turn::Ended => self.source_ended(side),
            Turn::Failed => self.side_failed(side, Reason::Reset),
            Turn::KeysEnded => self.keys_ended(side),
            Turn::SinkFailed => self.sink_failed(side.other()),
        }
    }

    /// Takes the bytes read before the relay started; the first poll writes them.
    fn take_early(&mut self, side: Side, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.directions[side as usize].out.push(bytes);
        let bytes = bytes.len() as u64;
        self.count(side, bytes);
        if side == Side::Client {
            // Exceeding a rate at once ends the relay at the first poll.
            self.charge(bytes);
        }
    }

    fn count(&self, side: Side, bytes: u64) {
        self.counters.add(side, bytes);
        self.member.traffic().add(side, 0, bytes);
    }

    /// Charges the client for what it sent. Whether that was too much and is the end.
    fn charge(&mut self, bytes: u64) -> bool {
        let Some(throttle) = self.throttle.as_mut().filter(|_| self.ending.is_none()) else { return false };
        let within = throttle.take(0, bytes, Instant::now());
        let is_end = !within && throttle.on_exceed == Exceed::Close;
        if is_end {
            self.end(Reason::Rate);
        }
        is_end
    }

    /// Checks the clocks. `now` may lag a little, as `clock::now` does.
    fn next(&mut self, now: Instant, activity: Activity, cx: &mut Context<'_>) -> NextStep {
        if activity.data {
            self.clocks.hear(now);
            self.member.traffic().data_at(clock::millis());
        }
        for side in Side::BOTH {
            let out = &mut self.directions[side.other() as usize].out;
            let (waits, progressed) = (out.is_blocked(), out.take_drained());
            self.clocks.waits(side, waits, progressed, now);
        }
        if activity.consequences {
            return NextStep::Again;
        }
        if let Some(verdict) = self.verdict() {
            return NextStep::Finish(verdict);
        }
        if self.ending.is_none()
            && let Some(order) = self.member.order()
        {
            self.obey(order);
            return NextStep::Again;
        }
        if self.member.is_departing() {
            return NextStep::Stop;
        }
        if self.ending.is_some() {
            return self.await_ends(clock::read(), cx);
        }
        let paused = self.throttle.as_ref().and_then(|throttle| throttle.until());
        if self.timer.is_running() && now < self.clocks.quiet_until && paused.is_none() {
            return NextStep::Wait;
        }
        match self.clocks.due(&self.limits, clock::read()) {
            Ok(due) => {
                self.act(due);
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

    /// Ends it here and now, by no doing of either side.
    pub(super) fn abort(&mut self) -> Outcome {
        let reason = if std::thread::panicking() { Reason::Panicked } else { Reason::Aborted };
        self.ended(Verdict { by: Initiator::Gateway, reason })
    }

    /// Another process has the relay: nothing ends.
    fn moved(&self) -> Outcome {
        self.outcome(Verdict { by: Initiator::Gateway, reason: Reason::Moved })
    }

    fn ended(&self, verdict: Verdict) -> Outcome {
        let outcome = self.outcome(verdict);
        self.counters.ended(&outcome);
        outcome
    }

    fn outcome(&self, verdict: Verdict) -> Outcome {
        let traffic = self.member.traffic();
        Outcome {
            by: verdict.by,
            reason: verdict.reason,
            code: ABNORMAL,
            messages: traffic.messages(),
            bytes: traffic.bytes(),
            lifetime: clock::read().saturating_duration_since(self.clocks.began()),
            ping_rtt: traffic.round_trips(),
        }
    }
}
