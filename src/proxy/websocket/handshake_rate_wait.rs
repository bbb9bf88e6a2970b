//! Handshake queue: a handshake waits for the rate limits of its route and of its listener.

use crate::limit::{HandshakeLimiter, QueueFull};
use crate::proxy::Gateway;
use crate::proxy::context::Context;
use crate::proxy::failure::Failure;
use crate::snapshot::Snapshot;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Reserves a handshake at the route and at the listener, or at neither: returns how long to wait, if at all.
///
/// # Errors
/// When a queue is full.
pub(in crate::proxy) async fn take(ctx: &Context) -> Result<Option<Duration>, Failure> {
    let Some(route) = &ctx.route else { return Err(Failure::Internal) };
    let listener = ctx.snapshot.listener(ctx.listener());
    let pacers = (
        route.policy.handshake_limiter(),
        listener.and_then(|listener| listener.handshake_limiter.as_deref()),
    );
    if let (None, None) = pacers {
        return Ok(None);
    }
    let (route, listener) = pacers;
    let at_route = reserve(route.map(|limiter| &**limiter)).await.map_err(Failure::TooManyHandshakes)?;
    let at_listener = reserve(listener).await.map_err(|queue_full| {
        // Returned, so that clients of other listeners do not wait for a rejected handshake.
        if let Some(route) = route {
            route.give_back();
        }
        Failure::TooManyHandshakes(queue_full)
    })?;
    Ok(Some(at_route.max(at_listener)).filter(|wait| !wait.is_zero()))
}

async fn reserve(limiter: Option<&HandshakeLimiter>) -> Result<Duration, QueueFull> {
    match limiter {
        Some(limiter) => limiter.reserve(None).await,
        None => Ok(Duration::ZERO),
    }
}

/// The maximum wait of a redial per reservation. A new client waits no longer either: the clients of one lost
/// backend must not fill the queue of all.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Waits for the reservation of a redial, at most for `left`, at the current limiters of its route and of its
/// client's listener. Dropping the future returns the reservation.
///
/// Returns the reservation; `None` if the wait would be too long.
pub(in crate::proxy) fn redial(
    snapshot: &Snapshot,
    route: &str,
    listener: &str,
    left: Duration,
) -> impl Future<Output = Option<QueueTurn>> + Send + use<> {
    let route = snapshot.route(route).and_then(|route| route.policy.handshake_limiter());
    let listener = snapshot.listener(listener).and_then(|listener| listener.handshake_limiter.as_ref());
    let limiters: Vec<_> = route.into_iter().chain(listener).cloned().collect();
    async move {
        let (taken, wait) = take_all(limiters, left.min(LONGEST_WAIT)).await?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Some(taken)
    }
}

async fn take_all(limiters: Vec<Arc<HandshakeLimiter>>, left: Duration) -> Option<(QueueTurn, Duration)> {
    let mut taken = QueueTurn(Vec::new());
    let mut longest = Duration::ZERO;
    for limiter in limiters {
        let wait = limiter.reserve(Some(left)).await.ok()?;
        taken.0.push(limiter);
        longest = longest.max(wait);
    }
    Some((taken, longest))
}

/// Reservations that are returned on drop unless they are used.
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

/// Waits for a reservation.
///
/// # Errors
/// When a shutdown began meanwhile: a WebSocket that opened now would be closed with 1012 at once.
pub(in crate::proxy) async fn wait(gateway: &Gateway, wait: Duration) -> Result<(), Failure> {
    tokio::time::sleep(wait).await;
    if gateway.shared.is_draining() { Err(Failure::Draining) } else { Ok(()) }
}
