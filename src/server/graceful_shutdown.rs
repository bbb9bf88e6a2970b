//! Graceful shutdown: stop accepting, finish active requests, and close WebSockets with 1012 one by one, so
//! that their clients do not reconnect to other gateways all at once.

use crate::proxy::Shared;
use crate::tunnel::{Cause, Filter};
use log::{info, warn};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The interval of checks for the end of the last request. WebSockets notify instead.
const LOOK: Duration = Duration::from_millis(20);

/// How long connections may take for their first request: the client had connected when the process still accepted.
const FIRST_REQUESTS: Duration = Duration::from_secs(1);

/// Waits until nothing is active, at most the grace period, or until `ended` is done: another signal.
pub(super) async fn wait(ended: impl Future<Output = ()>, shared: &Arc<Shared>) {
    let grace = shared.live.look().globals.grace_period;
    let tunnels = &shared.tunnels;
    info!(requests = shared.requests(), websockets = tunnels.websockets(), upgraded = tunnels.raw_relays(); "draining started");
    let asking = tokio::spawn(ask_all(Arc::clone(shared), grace));
    tokio::select! {
        () = all_gone(shared) => {}
        () = tokio::time::sleep(grace) => {
            warn!(requests = shared.requests(), websockets = tunnels.websockets(), upgraded = tunnels.raw_relays(); "grace period expired");
        }
        () = ended => warn!("second signal received; process exits"),
    }
    asking.abort();
}

async fn all_gone(shared: &Shared) {
    let until = Instant::now() + FIRST_REQUESTS;
    loop {
        shared.tunnels.wait_empty().await;
        let has_new = shared.new_connections() > 0 && Instant::now() < until;
        if shared.is_idle() && shared.tunnels.is_empty() && !has_new {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Drains the WebSockets of each route over its own `drain` window, those of one HTTP/2 connection together, and then the
/// remaining ones. The last one is drained early enough for its Close frame to arrive within the grace period.
async fn ask_all(shared: Arc<Shared>, grace: Duration) {
    let snapshot = shared.live.pin();
    let routes: Vec<_> = snapshot.table.targets().cloned().collect();
    drop(snapshot);
    let latest = grace.mul_f64(0.8);
    let mut windows = tokio::task::JoinSet::new();
    let mut longest = Duration::ZERO;
    let mut by_route = HashMap::new();
    for route in routes {
        let window = route.policy.drain.min(latest);
        longest = longest.max(window);
        windows.spawn(shared.tunnels.drain(
            Filter::RouteAlone(Arc::clone(&route.name)),
            window,
            Cause::Shutdown,
            None,
        ));
        by_route.insert(Arc::clone(&route.name), window);
    }
    let together = shared.tunnels.drain_connections(by_route, Cause::Shutdown);
    windows.spawn(async {
        together.await;
        0
    });
    while windows.join_next().await.is_some() {}
    // Those of routes that a reload removed.
    shared
        .tunnels
        .drain(Filter::All, (latest - longest).min(Duration::from_secs(1)), Cause::Shutdown, None)
        .await;
}
