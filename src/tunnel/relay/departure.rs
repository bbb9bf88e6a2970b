//! Departure of a tunnel to another process, and its continuation there. The relay stops between two turns, wherever in
//! a frame both directions are. It keeps its sockets until the other process has confirmed, and otherwise goes on.

use super::direction::{Direction, SinkMode, SourceState};
use super::keepalive::Clocks;
use super::{Relay, Tunnel, run};
use crate::runtime::clock;
use crate::tunnel::state::{self, DirectionState, TunnelState, duplicate};
use crate::tunnel::{Departure, Side, TunnelIo};
use crate::websocket::frame::FrameParser;
use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// The answer that a stopped relay waits for: whether the other process has the tunnel.
pub(super) type Confirmation = oneshot::Receiver<bool>;

/// What became of a departure.
pub(super) enum DepartureResult {
    /// Not decided yet.
    Pending,
    /// The other process has the tunnel.
    Moved,
    /// The tunnel stays.
    Stays,
}

impl Relay {
    /// Stops the tunnel, and passes its state and sockets to the one who ordered the departure. A tunnel that cannot
    /// move continues; dropping the order's sender says so.
    pub(super) fn depart(&mut self) {
        let Some(order) = self.member.take_departure() else { return };
        // Checked before the change to records, which a side that ends would not survive, and the other one needs not.
        let is_open = self.directions.iter().all(|direction| direction.state().is_some());
        let may_move = is_open && self.transports.iter().all(TunnelIo::may_move);
        if self.is_bound() || !may_move || !self.transports.iter_mut().all(TunnelIo::make_movable) {
            return;
        }
        let (Some(state), Some(client), Some(backend)) =
            (self.state(), duplicate(&self.transports[0]), duplicate(&self.transports[1]))
        else {
            return;
        };
        let (confirm, confirmation) = oneshot::channel();
        let departure = Departure {
            id: self.member.id(),
            generation: self.member.generation(),
            route: self.member.route(),
            listener: self.member.listener(),
            origin: self.member.origin(),
            state,
            sockets: [client, backend],
            confirm,
        };
        // A receiver that is gone drops the departure, and with it the confirmation: the tunnel continues.
        let _ = order.send(departure);
        self.departing = Some(Box::new(confirmation));
    }

    /// Looks whether the other process has confirmed.
    pub(super) fn poll_departure(&mut self, cx: &mut Context<'_>) -> DepartureResult {
        let Some(confirmation) = &mut self.departing else { return DepartureResult::Stays };
        let is_moved = match Pin::new(&mut **confirmation).poll(cx) {
            Poll::Pending => return DepartureResult::Pending,
            Poll::Ready(answer) => answer.unwrap_or(false),
        };
        self.departing = None;
        if is_moved {
            return DepartureResult::Moved;
        }
        // What became readable or writable meanwhile has woken this task already.
        self.directions.iter_mut().for_each(|direction| direction.listening = false);
        DepartureResult::Stays
    }

    /// Whether the tunnel is closing, or has what lives in this process only.
    fn is_bound(&self) -> bool {
        self.closing.is_some()
            || self.failover.is_some()
            || self.inspector.is_some()
            || self.rechecks.is_some()
            || self.is_pinned
    }

    /// The state; `None` if a direction is ending.
    fn state(&self) -> Option<TunnelState> {
        let [client, backend] = &self.directions;
        let records = [state::records(&self.transports[0])?, state::records(&self.transports[1])?];
        let (now, traffic) = (clock::read(), self.member.traffic());
        Some(TunnelState {
            directions: [client.state()?, backend.state()?],
            clocks: self.clocks.state(now),
            extensions: self.extensions.into(),
            messages: traffic.messages(),
            bytes: traffic.bytes(),
            round_trips: traffic.round_trips(),
            drain_part: self.member.drain_part(),
            rate_debts: self.throttle.as_ref().map_or([0; 2], |throttle| throttle.debts(now)),
            records,
        })
    }
}

/// Continues a tunnel of another process; `None` if the state is not one.
pub(in crate::tunnel) fn resume(tunnel: Tunnel, state: TunnelState) -> Option<Relay> {
    let TunnelState { directions, clocks, extensions, messages, bytes, round_trips, rate_debts, .. } = state;
    let tunnel = Tunnel { extensions: extensions.into(), ..tunnel };
    let mut relay = run(tunnel);
    // A tap has not seen the compression contexts begin.
    (relay.tap, relay.tap_version) = (None, 0);
    let now = clock::now();
    let [client, backend] = directions;
    relay.directions =
        [Direction::resume(Side::Client, &client)?, Direction::resume(Side::Backend, &backend)?];
    // Records may wait that the old process could not send.
    for (direction, sink) in relay.directions.iter_mut().zip([&relay.transports[1], &relay.transports[0]]) {
        direction.out.flush_later(sink);
    }
    relay.clocks = Clocks::resume(now, &relay.policy, &clocks);
    relay.member.restore(messages, bytes, round_trips, clocks.age, clocks.data);
    if let Some(throttle) = &mut relay.throttle {
        throttle.charge(rate_debts);
    }
    Some(relay)
}

impl Direction {
    /// The state of an open direction; `None` for one that is closing.
    fn state(&self) -> Option<DirectionState> {
        if self.pass != SinkMode::Open || self.source != SourceState::Open || self.is_inspected() {
            return None;
        }
        Some(DirectionState {
            parser: self.follower.state()?,
            backlog: self.out.backlog()?.to_vec(),
            ping: self.ping.map(NonZeroU64::get),
            awaited: self.awaited.map(NonZeroU64::get),
        })
    }

    fn resume(from: Side, state: &DirectionState) -> Option<Self> {
        let mut direction = Self::new(from);
        direction.follower = FrameParser::continue_from(direction.follower.sender(), &state.parser)?;
        direction.out.push(&state.backlog);
        direction.ping = state.ping.and_then(NonZeroU64::new);
        direction.awaited = state.awaited.and_then(NonZeroU64::new);
        Some(direction)
    }
}
