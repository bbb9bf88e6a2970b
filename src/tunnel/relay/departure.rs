//! Departure of a tunnel to another process, and its continuation there. The relay stops between two turns, wherever in
//! a frame both directions are. It keeps its sockets until the other process has confirmed, and otherwise goes on.

use super::direction::{Direction, SinkMode, SourceState};
use super::keepalive::Clocks;
use super::{Relay, Tunnel, run};
use crate::runtime::clock;
use crate::tunnel::departure_confirmation::DepartureConfirmation;
use crate::tunnel::state::{self, DirectionState, TunnelState};
use crate::tunnel::{DepartureState, PartStates, TunnelIo};
use crate::websocket::frame::FrameParser;
use serde_json::Value;
use std::num::NonZeroU64;

impl Relay {
    /// Stops the tunnel, and passes its state and sockets to the one who ordered the departure. A tunnel that cannot
    /// move continues; dropping the order's sender says so.
    pub(super) fn depart(&mut self) {
        let Some(order) = self.member.take_departure() else { return };
        // Checked before the change to records, which a side that ends would not survive, and the other one needs not.
        let is_open = self.directions.iter().all(|direction| direction.state().is_some());
        let may_move = is_open && self.transports.iter().all(TunnelIo::may_move);
        if self.closing.is_some() || !may_move {
            return;
        }
        let Some(parts) = self.part_states() else { return };
        if !self.transports.iter_mut().all(TunnelIo::make_movable) {
            return;
        }
        let Some(state) = self.state() else { return };
        let state = DepartureState::WebSocket(Box::new(state));
        self.departing =
            DepartureConfirmation::request(&order, &self.member, &mut self.transports, state, parts);
    }

    /// The states of the parts that the proxy has made; `None` if one of them lives in this process only, or is at work.
    fn part_states(&mut self) -> Option<PartStates> {
        fn of<T>(part: Option<T>, state: impl FnOnce(T) -> Option<Value>) -> Option<Option<Value>> {
            part.map_or(Some(None), |part| state(part).map(Some))
        }
        Some(PartStates {
            redial: of(self.failover.as_ref(), |failover| failover.redialer_state())?,
            recheck: of(self.rechecks.as_ref(), |rechecks| rechecks.state())?,
            inspector: of(self.inspector.as_mut(), |inspector| inspector.state())?,
            guard: self.guard.state(),
        })
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
            client_key: self
                .throttle
                .as_ref()
                .and_then(|throttle| throttle.client())
                .map(|key| [(key >> 64) as u64, key as u64]),
            records,
            recheck_waits: self.rechecks.as_ref().map_or_else(Vec::new, |rechecks| rechecks.waits(now)),
        })
    }
}

/// Continues a tunnel of another process; `None` if the state is not one.
pub(in crate::tunnel) fn resume(tunnel: Tunnel, state: TunnelState) -> Option<Relay> {
    let TunnelState {
        directions,
        clocks,
        extensions,
        messages,
        bytes,
        round_trips,
        rate_debts,
        client_key,
        recheck_waits,
        ..
    } = state;
    let client_key = client_key.map(|[high, low]| u128::from(high) << 64 | u128::from(low));
    let client_key = client_key.or(tunnel.client_key);
    let tunnel = Tunnel { extensions: extensions.into(), client_key, ..tunnel };
    let mut relay = run(tunnel);
    // A tap has not seen the compression contexts begin.
    (relay.tap, relay.tap_version) = (None, 0);
    let now = clock::now();
    let [client, backend] = directions;
    for (direction, state) in relay.directions.iter_mut().zip([client, backend]) {
        direction.resume(state)?;
    }
    // Records may wait that the old process could not send.
    for (direction, sink) in relay.directions.iter_mut().zip([&relay.transports[1], &relay.transports[0]]) {
        direction.out.flush_later(sink);
    }
    relay.clocks = Clocks::resume(now, &relay.policy, &clocks);
    relay.member.restore(messages, bytes, round_trips, clocks.age, clocks.data);
    if let Some(throttle) = &mut relay.throttle {
        throttle.charge(rate_debts);
    }
    if let Some(rechecks) = &mut relay.rechecks {
        rechecks.resume(&recheck_waits, now);
    }
    relay.transports.iter_mut().for_each(|transport| transport.set_lent(false));
    Some(relay)
}

impl Direction {
    /// The state of an open direction; `None` for one that is closing.
    fn state(&self) -> Option<DirectionState> {
        if self.pass != SinkMode::Open || self.source != SourceState::Open {
            return None;
        }
        let (backlog, replay) = self.out.state()?;
        Some(DirectionState {
            parser: self.follower.state()?,
            backlog,
            replay,
            inspected: self.reassembler_state()?,
            ping: self.ping.map(NonZeroU64::get),
            awaited: self.awaited.map(NonZeroU64::get),
        })
    }

    /// Continues a direction of another process; `None` if the state is not one.
    fn resume(&mut self, state: DirectionState) -> Option<()> {
        self.follower = FrameParser::continue_from(self.follower.sender(), &state.parser)?;
        self.out.resume(state.backlog, state.replay);
        self.ping = state.ping.and_then(NonZeroU64::new);
        self.awaited = state.awaited.and_then(NonZeroU64::new);
        self.resume_inspection(state.inspected)
    }
}
