//! Departure of a raw relay to another process, and its continuation there. The relay stops between two turns. It keeps its
//! sockets until the other process has confirmed, and otherwise goes on.

use super::clocks::Clocks;
use super::direction::{Direction, SourceState};
use super::{RawRelay, RawTunnel, run};
use crate::runtime::clock;
use crate::tunnel::departure_confirmation::DepartureConfirmation;
use crate::tunnel::raw_state::{RawDirectionState, RawState};
use crate::tunnel::{DepartureState, PartStates, Side, TunnelIo, state};

impl RawRelay {
    /// Stops the relay, and passes its state and sockets to the one who ordered the departure. A relay that cannot move
    /// continues; dropping the order's sender says so.
    pub(super) fn depart(&mut self) {
        let Some(order) = self.member.take_departure() else { return };
        if self.ending.is_some() || !self.may_move() {
            return;
        }
        let recheck = match &self.rechecks {
            None => None,
            Some(rechecks) => match rechecks.state() {
                // One is in progress, or it lives in this process only.
                None => return,
                state => state,
            },
        };
        let parts = PartStates { guard: self.guard.state(), recheck, ..PartStates::default() };
        if !self.transports.iter_mut().all(TunnelIo::make_movable) {
            return;
        }
        let Some(state) = self.state() else { return };
        let state = DepartureState::Raw(Box::new(state));
        self.departing =
            DepartureConfirmation::request(&order, &self.member, &mut self.transports, state, parts);
    }

    /// The state of a TLS connection moves only while it is open in both directions.
    fn may_move(&self) -> bool {
        let is_half_closed = self.directions.iter().any(|direction| direction.source != SourceState::Open);
        let is_plain = |side: &TunnelIo| matches!(side, TunnelIo::Tcp(_) | TunnelIo::Unix(_));
        self.transports.iter().all(|side| is_plain(side) || !is_half_closed && side.may_move())
    }

    fn state(&self) -> Option<RawState> {
        let records = [state::records(&self.transports[0])?, state::records(&self.transports[1])?];
        let now = clock::read();
        Some(RawState {
            directions: [0, 1].map(|side: usize| self.directions[side].state()),
            clocks: self.clocks.state(now),
            bytes: self.member.traffic().bytes(),
            drain_part: self.member.drain_part(),
            rate_debts: self.throttle.as_ref().map_or([0; 2], |throttle| throttle.debts(now)),
            records,
            recheck_waits: self.rechecks.as_ref().map_or_else(Vec::new, |rechecks| rechecks.waits(now)),
        })
    }
}

/// Continues a relay of another process.
pub(in crate::tunnel) fn resume(tunnel: RawTunnel, state: RawState) -> RawRelay {
    let RawState { directions, clocks, bytes, rate_debts, recheck_waits, .. } = state;
    let mut relay = run(tunnel);
    let now = clock::now();
    for (side, state) in Side::BOTH.into_iter().zip(directions) {
        if state.has_ended {
            relay.first_end.get_or_insert(side);
        }
        relay.directions[side as usize].resume(state);
    }
    // Records may wait that the old process could not send.
    for (direction, sink) in relay.directions.iter_mut().zip(relay.transports.iter().rev()) {
        direction.out.flush_later(sink);
    }
    relay.clocks = Clocks::resume(now, &relay.limits, &clocks);
    relay.member.restore([0; 2], bytes, [None; 2], clocks.age, clocks.data);
    if let Some(throttle) = &mut relay.throttle {
        throttle.charge(rate_debts);
    }
    if let Some(rechecks) = &mut relay.rechecks {
        rechecks.resume(&recheck_waits, now);
    }
    relay.transports.iter_mut().for_each(|transport| transport.set_lent(false));
    relay
}

impl Direction {
    fn state(&self) -> RawDirectionState {
        RawDirectionState {
            backlog: self.out.unsent().to_vec(),
            has_ended: self.source == SourceState::Ended,
        }
    }

    fn resume(&mut self, state: RawDirectionState) {
        self.out.resume(state.backlog, None);
        if state.has_ended {
            // The sink may have got the end before: a second one has no effect.
            self.source = SourceState::Ended;
            self.out.end();
        }
    }
}
