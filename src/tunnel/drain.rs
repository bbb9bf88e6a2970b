//! Tunnel registry, and draining: the only way to close tunnels with 1012, for any cause.
//!
//! A drain selects tunnels, assigns each a moment within the window and wakes it then, so that clients do not
//! reconnect all at once. Tunnels of one session share its moment. The relay of a drained tunnel sends Close
//! 1012 at a frame boundary, awaits the Close frame of the client, and closes the transport.

mod filter;

pub use filter::{Filter, TunnelKey, TunnelView};

use super::Cause;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU8, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Joining and leaving lock one shard; this many suffice for the threads of any machine.
const SHARDS: usize = 32;

/// The interval at which a drain checks for tunnels of its sessions that joined after it began.
const SESSIONS_AGAIN: Duration = Duration::from_secs(1);

/// The delay between a session's requests and its tunnels: a reconnecting client's requests must already go
/// elsewhere.
const AFTER_REQUESTS: Duration = Duration::from_millis(10);

/// The order of an ended tunnel, which can no longer be drained.
const ENDED: u8 = u8::MAX;

/// The open tunnels of the process.
#[derive(Debug, Default)]
pub struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    next: AtomicU64,
    living: AtomicUsize,
    /// The tasks that wait until no tunnel is open.
    waiting: Mutex<Vec<Waker>>,
}

#[derive(Debug, Default)]
struct Shard {
    members: Vec<Option<Arc<Member>>>,
    free: Vec<u32>,
}

/// The registry's state of a tunnel.
#[derive(Debug)]
struct Member {
    /// 0 during a failover.
    endpoint: AtomicU64,
    route: Arc<str>,
    route_version: u64,
    join_number: u64,
    /// The fraction of a drain's window, in units of 2^-32, after which its session leaves.
    drain_part: Option<u32>,
    /// A [`Cause`], 0 or [`ENDED`].
    order: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// A tunnel's entry in the registry; dropping it removes the entry.
#[derive(Debug)]
pub struct Membership {
    registry: Arc<Registry>,
    member: Arc<Member>,
    shard: u32,
    slot: u32,
}

impl Registry {
    /// Adds a tunnel.
    #[must_use]
    pub fn join(self: &Arc<Self>, tunnel_key: TunnelKey) -> Membership {
        let join_number = self.next.fetch_add(1, Relaxed);
        let member = Arc::new(Member {
            endpoint: AtomicU64::new(tunnel_key.endpoint),
            route: tunnel_key.route,
            route_version: tunnel_key.route_version,
            join_number,
            drain_part: tunnel_key.drain_part,
            order: AtomicU8::new(0),
            waker: Mutex::new(None),
        });
        self.living.fetch_add(1, Relaxed);
        let shard = join_number as usize % SHARDS;
        let slot = self.shards[shard].lock().add(member.clone());
        Membership { registry: self.clone(), member, shard: shard as u32, slot }
    }

    /// The number of open tunnels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.living.load(Relaxed)
    }

    /// Returns whether no tunnel is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of tunnels that have joined so far; later ones have this number or a higher one.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// Counts the open tunnels that are not drained yet by `key`; tunnels with `None` are not counted. `key`
    /// is called under a lock and must be fast.
    pub fn tally<K: Eq + Hash>(&self, key: impl Fn(TunnelView<'_>) -> Option<K>) -> HashMap<K, usize> {
        let mut counts = HashMap::new();
        for shard in &self.shards {
            let shard = shard.lock();
            for member in shard.members.iter().flatten().filter(|member| member.is_unasked()) {
                if let Some(key) = key(member.seen()) {
                    *counts.entry(key).or_default() += 1;
                }
            }
        }
        counts
    }

    /// Waits until no tunnel is open.
    pub async fn wait_empty(&self) {
        poll_fn(|cx| {
            let mut waiting = self.waiting.lock();
            // Checked under the lock that the last tunnel takes to wake the waiting tasks.
            if self.living.load(Acquire) == 0 {
                return Poll::Ready(());
            }
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Drains every tunnel that `filter` selects, spread evenly with jitter over `window`, and returns their
    /// number. Tunnels that join meanwhile are drained at the window's end, one by one. Dropping the future
    /// keeps the tunnels whose moment has not come.
    ///
    /// With `sessions_since`, tunnels of one session are drained together, at their session's moment in a
    /// window that began then.
    pub fn drain(
        self: &Arc<Self>,
        filter: Filter,
        window: Duration,
        cause: Cause,
        sessions_since: Option<Instant>,
    ) -> impl Future<Output = usize> + Send + use<> {
        let registry = self.clone();
        async move {
            let began = Instant::now();
            let asked = AtomicUsize::new(0);
            let is_tied = |member: &Arc<Member>| sessions_since.is_some() && member.drain_part.is_some();
            let (tied, free): (Vec<_>, Vec<_>) = registry.choose(&filter).into_iter().partition(is_tied);
            let together = async {
                if let (Some(since), false) = (sessions_since, tied.is_empty()) {
                    registry.ask_sessions(tied, &filter, since, window, cause, &asked).await;
                }
            };
            tokio::join!(pace(free, &filter, window, cause, &asked), together);
            sleep_until(began + window).await;
            for late in registry.choose(&filter) {
                asked.fetch_add(usize::from(late.ask(cause)), Relaxed);
                tokio::task::yield_now().await;
            }
            asked.into_inner()
        }
    }

    /// Drains `count` of the tunnels that `filter` selects now, any of them, spread as in
    /// [`Registry::drain`], and adds the drained ones to `asked`. A tunnel that ends before its moment is not
    /// counted and not replaced.
    pub fn drain_some(
        self: &Arc<Self>,
        filter: Filter,
        count: usize,
        window: Duration,
        cause: Cause,
        asked: Arc<AtomicUsize>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let mut members = self.choose(&filter);
        members.truncate(count);
        async move { pace(members, &filter, window, cause, &asked).await }
    }

    /// Drains each tunnel at its session's moment in a window that began at `since`, including tunnels of
    /// these sessions that join meanwhile.
    async fn ask_sessions(
        &self,
        mut members: Vec<Arc<Member>>,
        filter: &Filter,
        since: Instant,
        window: Duration,
        cause: Cause,
        asked: &AtomicUsize,
    ) {
        loop {
            let next = Instant::now() + SESSIONS_AGAIN;
            members.sort_unstable_by_key(|member| member.drain_part);
            for member in &members {
                let Some(part) = member.drain_part else { continue };
                let due = since + window.mul_f64(f64::from(part) / 2_f64.powi(32)) + AFTER_REQUESTS;
                if due > next {
                    break;
                }
                sleep_until(due).await;
                if member.is_meant(filter) {
                    asked.fetch_add(usize::from(member.ask(cause)), Relaxed);
                }
            }
            if next > since + window + AFTER_REQUESTS {
                return;
            }
            sleep_until(next).await;
            members = self.choose(filter);
        }
    }

    /// The tunnels that `filter` selects and that are not drained yet, in random order.
    fn choose(&self, filter: &Filter) -> Vec<Arc<Member>> {
        let mut chosen = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let members = shard.members.iter().flatten();
            chosen.extend(members.filter(|member| member.is_meant(filter)).cloned());
        }
        fastrand::shuffle(&mut chosen);
        chosen
    }
}

/// Drains each tunnel at a moment of its own within `window`.
async fn pace(
    members: Vec<Arc<Member>>,
    filter: &Filter,
    window: Duration,
    cause: Cause,
    asked: &AtomicUsize,
) {
    let began = Instant::now();
    let slot = window.div_f64(members.len().max(1) as f64);
    for (number, member) in members.into_iter().enumerate() {
        // Each tunnel has a slot of the window and a random moment in it: evenly spread, without a period
        // that clients could synchronise to.
        sleep_until(began + slot.mul_f64(number as f64 + fastrand::f64())).await;
        // It may have moved to another endpoint meanwhile.
        if member.is_meant(filter) {
            asked.fetch_add(usize::from(member.ask(cause)), Relaxed);
        }
    }
}

impl Shard {
    fn add(&mut self, member: Arc<Member>) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.members[slot as usize] = Some(member);
            return slot;
        }
        self.members.push(Some(member));
        // No machine holds 2^32 tunnels.
        (self.members.len() - 1) as u32
    }
}

impl Member {
    fn is_meant(&self, filter: &Filter) -> bool {
        filter.selects(self.seen()) && self.is_unasked()
    }

    fn seen(&self) -> TunnelView<'_> {
        let Self { route, route_version, join_number, .. } = self;
        TunnelView {
            endpoint: self.endpoint.load(Relaxed),
            route,
            route_version: *route_version,
            join_number: *join_number,
        }
    }

    fn is_unasked(&self) -> bool {
        self.order.load(Relaxed) == 0
    }

    /// Drains the tunnel; returns whether this call did. The first call sets the cause.
    fn ask(&self, cause: Cause) -> bool {
        let first = self.order.compare_exchange(0, cause as u8, AcqRel, Relaxed).is_ok();
        if first && let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
        first
    }
}

impl Membership {
    /// The cause of the drain, if the tunnel is drained.
    #[must_use]
    pub fn order(&self) -> Option<Cause> {
        let order = self.member.order.load(Acquire);
        if order == 0 {
            return None;
        }
        Cause::ALL.into_iter().find(|cause| *cause as u8 == order)
    }

    /// Records the tunnel's new endpoint; 0 is none.
    pub(super) fn moved(&self, endpoint: u64) {
        self.member.endpoint.store(endpoint, Relaxed);
    }

    /// Registers `waker` for a drain of the tunnel. Call [`Membership::order`] afterwards.
    pub(super) fn listen(&self, waker: &Waker) {
        *self.member.waker.lock() = Some(waker.clone());
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // A drain may still hold the member until its moment.
        self.member.order.store(ENDED, Relaxed);
        let mut shard = self.registry.shards[self.shard as usize].lock();
        shard.members[self.slot as usize] = None;
        shard.free.push(self.slot);
        drop(shard);
        if self.registry.living.fetch_sub(1, AcqRel) == 1 {
            let waiting = std::mem::take(&mut *self.registry.waiting.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests;
