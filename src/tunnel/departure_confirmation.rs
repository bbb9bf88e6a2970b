//! Handing over of a stopped tunnel: its sockets stay here too until the other process has confirmed.

use super::TunnelIo;
use super::departure::{Departure, DepartureOrder, DepartureState, PartStates};
use super::drain::Membership;
use super::state::duplicate;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// A tunnel that has stopped, and waits whether another process continues it.
#[derive(Debug)]
pub(super) struct DepartureConfirmation(oneshot::Receiver<bool>);

/// What became of a departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DepartureResult {
    /// Not decided yet.
    Pending,
    /// The other process has the tunnel.
    Moved,
    /// The tunnel stays.
    Stays,
}

impl DepartureConfirmation {
    /// Passes a stopped tunnel to the one who ordered its departure. `None` if its sockets cannot be passed: the tunnel
    /// continues.
    pub(super) fn request(
        order: &DepartureOrder,
        member: &Membership,
        transports: &mut [TunnelIo; 2],
        state: DepartureState,
        parts: PartStates,
    ) -> Option<Box<Self>> {
        let [client, backend] = &*transports;
        let (confirm, confirmation) = oneshot::channel();
        let departure = Departure {
            id: member.id(),
            generation: member.generation(),
            route: member.route(),
            route_version: member.route_version(),
            listener: member.listener(),
            protocol: member.protocol(),
            origin: member.origin(),
            state,
            parts,
            sockets: [duplicate(client)?, duplicate(backend)?],
            confirm,
        };
        transports.iter_mut().for_each(|transport| transport.set_lent(true));
        // A receiver that is gone drops the departure, and with it the confirmation: the tunnel continues.
        let _ = order.send(departure);
        Some(Box::new(Self(confirmation)))
    }

    /// Looks whether the other process has confirmed. Afterwards the tunnel has left, or uses its sockets again.
    pub(super) fn poll(
        waiting: &mut Option<Box<Self>>,
        transports: &mut [TunnelIo; 2],
        cx: &mut Context<'_>,
    ) -> DepartureResult {
        let Some(confirmation) = waiting else { return DepartureResult::Stays };
        let is_moved = match Pin::new(&mut confirmation.0).poll(cx) {
            Poll::Pending => return DepartureResult::Pending,
            Poll::Ready(answer) => answer.unwrap_or(false),
        };
        *waiting = None;
        if is_moved {
            return DepartureResult::Moved;
        }
        transports.iter_mut().for_each(|transport| transport.set_lent(false));
        DepartureResult::Stays
    }
}
