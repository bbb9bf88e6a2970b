//! A handshake's turn, where its route or its listener lets in only so many in a time. What a rate
//! allows is the pacer's; here the two are asked, and a handshake waits.

use crate::proxy::Gateway;
use crate::proxy::context::Context;
use crate::proxy::failure::Failure;
use crate::snapshot::Snapshot;
use crate::tunnel::HandshakeLimiter;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Takes a turn at the route and at the listener, or at neither: how long to wait, if at all.
///
/// # Errors
/// When more would be waiting than may.
pub(in crate::proxy) fn take(ctx: &Context) -> Result<Option<Duration>, Failure> {
    let (Some(route), Some(snapshot)) = (&ctx.route, &ctx.snapshot) else { return Err(Failure::Internal) };
    let listener = snapshot.listeners.get(usize::from(ctx.received.listener));
    let pacers = (route.policy.handshakes(), listener.and_then(|listener| listener.handshakes.as_deref()));
    if let (None, None) = pacers {
        return Ok(None);
    }
    let now = Instant::now();
    let (route, listener) = pacers;
    let at_route = route.map_or(Ok(Duration::ZERO), |pacer| pacer.take(now));
    let at_route = at_route.map_err(Failure::TooManyHandshakes)?;
    let at_listener = listener.map_or(Ok(Duration::ZERO), |pacer| pacer.take(now));
    let at_listener = at_listener.map_err(|crowded| {
        // Those who come by other listeners need not wait for one who was not let in.
        if let Some(route) = route {
            route.give_back();
        }
        Failure::TooManyHandshakes(crowded)
    })?;
    Ok(Some(at_route.max(at_listener)).filter(|wait| !wait.is_zero()))
}

/// How long a redial waits for one turn, at most. A new client waits no longer: the orphans of one backend must not fill
/// the queue of all.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Waits for the turn of a redial, at most for `left`, at the pacers that serve now: those of its route and of the
/// listener that its client came by. Dropping the future gives the turn back.
///
/// Returns its turn; none when so many wait that it would come too late.
pub(in crate::proxy) fn redial(
    snapshot: &Snapshot,
    route: &str,
    listener: u16,
    left: Duration,
) -> impl Future<Output = Option<QueueTurn>> + Send + use<> {
    let turn = take_all(snapshot, route, listener, left.min(LONGEST_WAIT));
    async move {
        let (taken, wait) = turn?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Some(taken)
    }
}

fn take_all(
    snapshot: &Snapshot,
    route: &str,
    listener: u16,
    left: Duration,
) -> Option<(QueueTurn, Duration)> {
    let route = snapshot.route(route).and_then(|route| route.policy.handshakes());
    let listener = snapshot.listeners.get(usize::from(listener)).and_then(|l| l.handshakes.as_ref());
    let now = Instant::now();
    let mut taken = QueueTurn(Vec::new());
    let mut longest = Duration::ZERO;
    for pacer in route.into_iter().chain(listener) {
        let wait = pacer.take_within(now, left).ok()?;
        taken.0.push(Arc::clone(pacer));
        longest = longest.max(wait);
    }
    Some((taken, longest))
}

/// Turns that are given back unless they are used.
pub(in crate::proxy) struct QueueTurn(Vec<Arc<HandshakeLimiter>>);

impl QueueTurn {
    /// A handshake was sent.
    pub(in crate::proxy) fn used(mut self) {
        self.0.clear();
    }
}

impl Drop for QueueTurn {
    fn drop(&mut self) {
        self.0.iter().for_each(|pacer| pacer.give_back());
    }
}

/// Waits for a turn.
///
/// # Errors
/// When the process began to end meanwhile: what opened now would be asked to come again at once.
pub(in crate::proxy) async fn wait(gateway: &Gateway, wait: Duration) -> Result<(), Failure> {
    tokio::time::sleep(wait).await;
    if gateway.shared.is_draining() { Err(Failure::Draining) } else { Ok(()) }
}
