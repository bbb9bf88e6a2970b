//! How the process says goodbye: nobody new comes in, what is under way ends, and WebSockets are
//! asked to come again one by one, so that they do not all come back to our neighbours at once.

use super::signal_request::{Ask, again};
use crate::proxy::Shared;
use crate::tunnel::{Cause, Filter};
use log::{info, warn};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// How often the end of the last request is looked for. WebSockets tell of theirs.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until nothing is under way any more, at most the grace period, or until asked again.
pub(super) async fn wait(asks: &mut UnboundedReceiver<Ask>, shared: &Arc<Shared>) {
    let grace = shared.live.look().terms.grace_period;
    info!(requests = shared.requests(), websockets = shared.tunnels.len(); "draining");
    let asking = tokio::spawn(ask_all(Arc::clone(shared), grace));
    tokio::select! {
        () = all_gone(shared) => {}
        () = tokio::time::sleep(grace) => {
            warn!(requests = shared.requests(), websockets = shared.tunnels.len(); "the grace period is over");
        }
        () = again(asks) => warn!("asked again to end: ending now"),
    }
    asking.abort();
}

async fn all_gone(shared: &Shared) {
    loop {
        shared.tunnels.wait_empty().await;
        if shared.is_idle() && shared.tunnels.is_empty() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks the WebSockets of each route over its own `drain` window, and whoever is left then. The last
/// one is asked early enough that its answering Close fits into the grace period too.
async fn ask_all(shared: Arc<Shared>, grace: Duration) {
    let snapshot = shared.live.pin();
    let routes: Vec<_> = snapshot.table.targets().cloned().collect();
    drop(snapshot);
    let latest = grace.mul_f64(0.8);
    let mut windows = tokio::task::JoinSet::new();
    let mut longest = Duration::ZERO;
    for route in routes {
        let window = route.policy.drain.min(latest);
        longest = longest.max(window);
        windows.spawn(shared.tunnels.drain(
            Filter::Route(Arc::clone(&route.name)),
            window,
            Cause::Shutdown,
            None,
        ));
    }
    while windows.join_next().await.is_some() {}
    // Those of routes that a reload had removed.
    shared
        .tunnels
        .drain(Filter::All, (latest - longest).min(Duration::from_secs(1)), Cause::Shutdown, None)
        .await;
}
