//! Pace of a drain: each connection has a moment of its own within the window.

use super::member::Member;
use super::{Cause, Filter};
use std::collections::{HashMap, hash_map};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Drains each tunnel at a moment of its own within `window`.
pub(super) async fn pace(
    members: Vec<Arc<Member>>,
    filter: &Filter,
    window: Duration,
    cause: Cause,
    asked: &AtomicUsize,
) {
    let began = Instant::now();
    let groups = by_connection(members);
    let slot = window.div_f64(groups.len().max(1) as f64);
    for (number, members) in groups.into_iter().enumerate() {
        // Each connection has a slot of the window and a random moment in it: evenly spread, without a period
        // that clients could synchronise to.
        sleep_until(began + slot.mul_f64(number as f64 + fastrand::f64())).await;
        // It may have moved to another endpoint meanwhile.
        for member in members.iter().filter(|member| is_meant(member, filter)) {
            asked.fetch_add(usize::from(member.ask(cause)), Relaxed);
        }
    }
}

/// The tunnels of each connection, in the order of the first of them. Those of one HTTP/2 connection leave together: their
/// client opens the next ones on another connection when this one has none left.
pub(super) fn by_connection(members: Vec<Arc<Member>>) -> Vec<Vec<Arc<Member>>> {
    let mut groups: Vec<Vec<_>> = Vec::with_capacity(members.len());
    let mut places: HashMap<_, usize> = HashMap::new();
    for member in members {
        match member.shared_connection().map(|connection| places.entry(connection)) {
            Some(hash_map::Entry::Occupied(place)) => groups[*place.get()].push(member),
            Some(hash_map::Entry::Vacant(place)) => {
                place.insert(groups.len());
                groups.push(vec![member]);
            }
            None => groups.push(vec![member]),
        }
    }
    groups
}

/// Returns whether a drain with this filter asks the tunnel.
pub(super) fn is_meant(member: &Member, filter: &Filter) -> bool {
    filter.selects(member.view()) && member.is_unasked()
}
