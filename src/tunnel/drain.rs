//! Tunnel registry, and draining: the only way to close tunnels with 1012, for any cause.
//!
//! A drain selects tunnels, assigns each a moment within the window and wakes it then, so that clients do not
//! reconnect all at once. Tunnels of one session share its moment. The relay of a drained tunnel sends Close
//! 1012 at a frame boundary, awaits the Close frame of the client, and closes the transport.

use super::departure::DepartureOrder;
use super::endpoint_index::EndpointIndex;
use super::member::{CloseOrder, Member, OperatorClose, TunnelTraffic};
use super::pace::{by_connection, is_meant, pace};
use super::tap::TapSession;
use super::{Cause, Filter, TunnelKey, TunnelOrigin, TunnelSnapshot, TunnelView};
use crate::runtime::clock;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
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

/// The open tunnels of the process.
#[derive(Debug, Default)]
pub struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    by_endpoint: EndpointIndex,
    next: AtomicU64,
    living: AtomicUsize,
    /// Those of them that are raw relays.
    raw: AtomicUsize,
    /// The tasks that wait until no tunnel is open.
    waiting: Mutex<Vec<Waker>>,
    taps: Mutex<Vec<Arc<TapSession>>>,
    /// The number of taps, so that joining takes no lock without one.
    tap_count: AtomicUsize,
    /// The tokens of the endpoints that are drained or were removed.
    leaving: Mutex<HashSet<u64>>,
}

/// A tap of the registry's tunnels; dropping it ends the tap.
#[derive(Debug)]
pub struct OpenTap {
    registry: Arc<Registry>,
    session: Arc<TapSession>,
    /// The tunnels that were open and selected at the beginning.
    pub tunnels: usize,
}

#[derive(Debug, Default)]
struct Shard {
    members: Vec<Option<Arc<Member>>>,
    free: Vec<u32>,
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
        self.join_as(tunnel_key, self.next.fetch_add(1, Relaxed))
    }

    /// Further tunnels get IDs from `next` on: those below belong to another process.
    pub fn begin_at(&self, next: u64) {
        self.next.fetch_max(next, Relaxed);
    }

    /// Adds a tunnel of another process with its ID there, below [`Registry::arrivals`].
    #[must_use]
    pub fn join_as(self: &Arc<Self>, tunnel_key: TunnelKey, join_number: u64) -> Membership {
        let member = Member::new(tunnel_key, join_number);
        self.living.fetch_add(1, Relaxed);
        self.raw.fetch_add(usize::from(member.protocol().is_some()), Relaxed);
        let shard = shard_of(join_number);
        let slot = self.shards[shard].lock().add(member.clone());
        self.by_endpoint.add(member.view().endpoint, &member);
        if self.tap_count.load(Relaxed) > 0 {
            self.tap_new(&member);
        }
        Membership { registry: self.clone(), member, shard: shard as u32, slot }
    }

    /// Taps the tunnels that `session` selects, and later ones, until the returned value is dropped.
    #[must_use]
    pub fn tap(self: &Arc<Self>, session: &Arc<TapSession>) -> OpenTap {
        // In the list first: a tunnel that joins meanwhile finds it there.
        self.taps.lock().push(Arc::clone(session));
        self.tap_count.fetch_add(1, Relaxed);
        let mut tunnels = 0;
        for shard in &self.shards {
            let members: Vec<_> = shard.lock().members.iter().flatten().cloned().collect();
            // Outside of the lock: a filter may take its time.
            tunnels += members.iter().filter(|member| member.add_tap(session)).count();
        }
        OpenTap { registry: Arc::clone(self), session: Arc::clone(session), tunnels }
    }

    #[cold]
    fn tap_new(&self, member: &Arc<Member>) {
        let taps = self.taps.lock().clone();
        for session in taps {
            if member.add_tap(&session) {
                session.opened(member.snapshot(clock::millis()));
            }
        }
    }

    /// Removes an entry, for the drop of its [`Membership`].
    fn leave(&self, shard: u32, slot: u32, is_raw: bool) {
        self.raw.fetch_sub(usize::from(is_raw), Relaxed);
        let mut shard = self.shards[shard as usize].lock();
        shard.members[slot as usize] = None;
        shard.free.push(slot);
        drop(shard);
        if self.living.fetch_sub(1, AcqRel) == 1 {
            let waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Sets the endpoints, by token, that are drained or were removed: a tunnel that loses one of them is closed as by the
    /// drain.
    pub fn set_leaving(&self, endpoints: HashSet<u64>) {
        *self.leaving.lock() = endpoints;
    }

    /// The number of open tunnels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.living.load(Relaxed)
    }

    /// The number of open WebSockets.
    #[must_use]
    pub fn websockets(&self) -> usize {
        self.len().saturating_sub(self.raw_relays())
    }

    /// The number of open raw relays.
    #[must_use]
    pub fn raw_relays(&self) -> usize {
        self.raw.load(Relaxed)
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
                if let Some(key) = key(member.view()) {
                    *counts.entry(key).or_default() += 1;
                }
            }
        }
        counts
    }

    /// As [`Registry::tally`], of the tunnels of these endpoints alone.
    pub fn tally_at<K: Eq + Hash>(
        &self,
        endpoints: impl Iterator<Item = u64>,
        key: impl Fn(TunnelView<'_>) -> Option<K>,
    ) -> HashMap<K, usize> {
        let mut counts = HashMap::new();
        for endpoint in endpoints {
            self.by_endpoint.each(endpoint, |member| {
                if let Some(key) =
                    Some(member).filter(|member| member.is_unasked()).and_then(|one| key(one.view()))
                {
                    *counts.entry(key).or_default() += 1;
                }
            });
        }
        counts
    }

    /// Calls `on` with every open tunnel, drained ones included, outside of the locks that joining takes.
    pub fn each(&self, mut on: impl FnMut(TunnelSnapshot)) {
        let now = clock::millis();
        for shard in &self.shards {
            let members: Vec<_> = shard.lock().members.iter().flatten().cloned().collect();
            members.iter().for_each(|member| on(member.snapshot(now)));
        }
    }

    /// The number of open tunnels by the configuration under which they were opened.
    #[must_use]
    pub fn generations(&self) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for shard in &self.shards {
            for member in shard.lock().members.iter().flatten() {
                *counts.entry(member.generation()).or_default() += 1;
            }
        }
        counts
    }

    /// The IDs of the open tunnels that were not asked to close.
    #[must_use]
    pub fn unasked(&self) -> Vec<u64> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = shard.lock();
            all.extend(shard.members.iter().flatten().filter(|one| one.is_unasked()).map(|one| one.id()));
        }
        all
    }

    /// Asks tunnels to move to another process. Each one that can sends a [`Departure`](super::Departure) and waits; the
    /// others drop `order`. Tunnels that have ended or were asked to close are skipped.
    pub fn depart(&self, ids: &[u64], order: &DepartureOrder) {
        let wanted: HashSet<_> = ids.iter().copied().collect();
        let shards: BTreeSet<_> = ids.iter().map(|id| shard_of(*id)).collect();
        for shard in shards {
            let shard = self.shards[shard].lock();
            let members = shard.members.iter().flatten().filter(|member| wanted.contains(&member.id()));
            let members: Vec<_> = members.cloned().collect();
            drop(shard);
            for member in members {
                // One that was asked to close is skipped.
                let _ = member.request_departure(order.clone());
            }
        }
    }

    /// The open tunnel with this ID.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<TunnelSnapshot> {
        Some(self.member(id)?.snapshot(clock::millis()))
    }

    /// Closes a tunnel with a Close frame to both sides; `None` if there is none with this ID. A tunnel that is
    /// closing already continues.
    pub fn close(&self, id: u64, close: OperatorClose) -> Option<()> {
        self.member(id)?.close(close);
        Some(())
    }

    fn member(&self, id: u64) -> Option<Arc<Member>> {
        let shard = self.shards[shard_of(id)].lock();
        shard.members.iter().flatten().find(|member| member.id() == id).cloned()
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
        let asked = Arc::<AtomicUsize>::default();
        let drained = self.drain_counting(filter, window, cause, sessions_since, Arc::clone(&asked));
        async move {
            drained.await;
            asked.load(Relaxed)
        }
    }

    /// As [`Registry::drain`], and adds each drained tunnel to `asked` at its moment.
    pub fn drain_counting(
        self: &Arc<Self>,
        filter: Filter,
        window: Duration,
        cause: Cause,
        sessions_since: Option<Instant>,
        asked: Arc<AtomicUsize>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let registry = self.clone();
        async move {
            let began = Instant::now();
            let is_tied = |member: &Arc<Member>| sessions_since.is_some() && member.drain_part.is_some();
            let (tied, mut free): (Vec<_>, Vec<_>) = registry.choose(&filter).into_iter().partition(is_tied);
            // The oldest first.
            free.sort_unstable_by_key(|member| member.id());
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
        }
    }

    /// Drains the tunnels on shared connections, those of each connection together, at a moment of its own within the
    /// shortest window of its routes. `windows` has the windows by route.
    pub fn drain_connections(
        self: &Arc<Self>,
        windows: HashMap<Arc<str>, Duration>,
        cause: Cause,
    ) -> impl Future<Output = ()> + Send + use<> {
        let members: Vec<_> =
            self.choose(&Filter::All).into_iter().filter(|member| member.view().is_shared).collect();
        async move {
            let (began, groups) = (Instant::now(), by_connection(members));
            let count = groups.len() as f64;
            let mut due: Vec<_> = groups
                .into_iter()
                .enumerate()
                .map(|(number, members)| {
                    let known = members.iter().filter_map(|member| windows.get(member.view().route));
                    let window = known.min().copied().unwrap_or_default();
                    (began + window.mul_f64((number as f64 + fastrand::f64()) / count), members)
                })
                .collect();
            due.sort_unstable_by_key(|(moment, _)| *moment);
            for (moment, members) in due {
                sleep_until(moment).await;
                for member in &members {
                    // Another order was first.
                    let _ = member.ask(cause);
                }
            }
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
                if is_meant(member, filter) {
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
        let mut add = |member: &Arc<Member>| {
            if is_meant(member, filter) {
                chosen.push(Arc::clone(member));
            }
        };
        match filter {
            Filter::Endpoint(endpoint) | Filter::RouteAt(_, endpoint) => {
                self.by_endpoint.each(*endpoint, add);
            }
            _ => {
                for shard in &self.shards {
                    shard.lock().members.iter().flatten().for_each(&mut add);
                }
            }
        }
        fastrand::shuffle(&mut chosen);
        chosen
    }
}

impl Drop for OpenTap {
    fn drop(&mut self) {
        self.session.end();
        self.registry.taps.lock().retain(|session| !Arc::ptr_eq(session, &self.session));
        self.registry.tap_count.fetch_sub(1, Relaxed);
        for shard in &self.registry.shards {
            shard.lock().members.iter().flatten().for_each(|member| member.remove_ended_taps());
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

fn shard_of(id: u64) -> usize {
    // Below `SHARDS`.
    (id % SHARDS as u64) as usize
}

impl Membership {
    /// The order for the tunnel, if there is one.
    #[must_use]
    pub fn order(&self) -> Option<CloseOrder> {
        self.member.order()
    }

    /// The close that an operator ordered; returned once.
    pub(super) fn take_close(&self) -> Option<OperatorClose> {
        self.member.take_close()
    }

    /// Returns whether another process should continue the tunnel.
    #[inline]
    pub(super) fn is_departing(&self) -> bool {
        self.member.is_departing()
    }

    /// The order to depart; returned once.
    pub(super) fn take_departure(&self) -> Option<DepartureOrder> {
        self.member.take_departure()
    }

    /// The tunnel does not depart.
    pub(super) fn stay(&self) {
        self.member.stay();
    }

    /// Returns whether the endpoint is drained or was removed.
    pub(super) fn is_endpoint_leaving(&self) -> bool {
        self.registry.leaving.lock().contains(&self.member.view().endpoint)
    }

    /// The version of the route with which the tunnel was opened.
    pub(super) fn route_version(&self) -> u64 {
        self.member.view().route_version
    }

    /// The number of the configuration under which the tunnel was opened.
    pub(super) fn generation(&self) -> u64 {
        self.member.generation()
    }

    /// The name of the route.
    pub(super) fn route(&self) -> Arc<str> {
        Arc::clone(self.member.route())
    }

    /// The name of the client's listener.
    pub(super) fn listener(&self) -> Arc<str> {
        Arc::clone(self.member.listener())
    }

    /// The protocol of a raw relay; `None` for a WebSocket.
    pub(super) fn protocol(&self) -> Option<Arc<str>> {
        self.member.protocol().cloned()
    }

    /// The request.
    pub(super) fn origin(&self) -> Option<Arc<dyn TunnelOrigin>> {
        self.member.origin().cloned()
    }

    /// The fraction of a drain's window after which its session leaves.
    pub(super) fn drain_part(&self) -> Option<u32> {
        self.member.drain_part
    }

    /// The tunnel was opened in another process, with this traffic so far.
    pub(super) fn restore(
        &self,
        messages: [u64; 2],
        bytes: [u64; 2],
        round_trips: [Option<Duration>; 2],
        age: Duration,
        idle: Duration,
    ) {
        self.member.traffic().restore(messages, bytes, round_trips);
        self.member.restore(age, idle);
    }

    /// The ID of the tunnel.
    pub(super) fn id(&self) -> u64 {
        self.member.id()
    }

    /// Changes whenever the taps of the tunnel change.
    #[inline]
    pub(super) fn tap_version(&self) -> u32 {
        self.member.tap_version()
    }

    /// The taps of the tunnel.
    pub(super) fn taps(&self) -> Vec<Arc<TapSession>> {
        self.member.taps()
    }

    /// The traffic of the tunnel.
    #[inline]
    pub(super) fn traffic(&self) -> &TunnelTraffic {
        self.member.traffic()
    }

    /// Records the tunnel's new endpoint; 0 is none.
    pub(super) fn moved(&self, endpoint: u64) {
        let before = self.member.moved(endpoint);
        self.registry.by_endpoint.remove(before, &self.member);
        self.registry.by_endpoint.add(endpoint, &self.member);
    }

    /// Registers `waker` for orders. Call [`Membership::order`] afterwards.
    pub(super) fn listen(&self, waker: &Waker) {
        self.member.listen(waker);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // A drain may still hold the member until its moment.
        self.member.end();
        self.registry.by_endpoint.remove(self.member.view().endpoint, &self.member);
        self.registry.leave(self.shard, self.slot, self.member.protocol().is_some());
    }
}

#[cfg(test)]
mod tests;
