//! Registry's state of a tunnel: its facts, its traffic so far, and what was ordered for it.

use super::departure::DepartureOrder;
use super::tap::TapSession;
use super::{Cause, Side, TunnelKey, TunnelOrigin, TunnelSnapshot, TunnelView};
use crate::runtime::clock;
use parking_lot::Mutex;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};
use std::task::Waker;
use std::time::Duration;

/// The order of an ended tunnel, which can no longer get another one.
const ENDED: u8 = u8::MAX;

/// The order of a tunnel that an operator closes.
const CLOSE: u8 = u8::MAX - 1;

/// The order of a tunnel that another process should continue.
const DEPART: u8 = u8::MAX - 2;

/// No pong was received yet.
const NEVER: u32 = u32::MAX;

/// The registry's state of a tunnel.
pub(super) struct Member {
    /// 0 during a failover.
    endpoint: AtomicU64,
    route: Arc<str>,
    route_version: u64,
    join_number: u64,
    generation: u64,
    listener: Arc<str>,
    /// The protocol of a raw relay; `None` for a WebSocket.
    protocol: Option<Arc<str>>,
    /// When it joined, in milliseconds of the worker clock; negative if that was in an earlier process.
    joined: AtomicI64,
    /// The fraction of a drain's window, in units of 2^-32, after which its session leaves.
    pub(super) drain_part: Option<u32>,
    /// The client's HTTP/2 connection.
    connection: Option<NonZeroUsize>,
    origin: Option<Arc<dyn TunnelOrigin>>,
    traffic: TunnelTraffic,
    /// A [`Cause`], 0, [`CLOSE`], [`DEPART`] or [`ENDED`].
    order: AtomicU8,
    /// Changes with the taps in the inbox; 0 before the first one.
    tap_version: AtomicU32,
    inbox: Mutex<Inbox>,
}

/// What the tunnel's task finds when it is woken.
#[derive(Default)]
struct Inbox {
    waker: Option<Waker>,
    orders: Option<Box<InboxOrders>>,
}

/// What few tunnels get.
#[derive(Default)]
struct InboxOrders {
    close: Option<OperatorClose>,
    /// A drain while it is not known whether the tunnel departs.
    drain: Option<Cause>,
    departure: Option<DepartureOrder>,
    taps: Vec<Arc<TapSession>>,
}

/// An order to close a tunnel. The first one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseOrder {
    /// Close with 1012, as part of a drain.
    Drain(Cause),
    /// Close as an operator ordered; see [`OperatorClose`].
    Operator,
}

/// A Close frame that an operator ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorClose {
    /// The close code.
    pub code: u16,
    /// The reason; truncated to 123 bytes when it is written.
    pub reason: Box<str>,
}

/// The traffic of an open tunnel. Only the tunnel's task writes it, so that a write is no atomic operation.
#[derive(Debug)]
pub struct TunnelTraffic {
    messages: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
    /// The last data frame, in milliseconds of the worker clock.
    data: AtomicU64,
    /// The last ping round trip of each side, in microseconds.
    round_trips: [AtomicU32; 2],
}

impl Member {
    pub(super) fn new(tunnel_key: TunnelKey, join_number: u64) -> Arc<Self> {
        let joined = clock::millis();
        Arc::new(Self {
            endpoint: AtomicU64::new(tunnel_key.endpoint),
            route: tunnel_key.route,
            route_version: tunnel_key.route_version,
            join_number,
            generation: tunnel_key.generation,
            listener: tunnel_key.listener,
            protocol: tunnel_key.protocol,
            joined: AtomicI64::new(i64::try_from(joined).unwrap_or(i64::MAX)),
            drain_part: tunnel_key.drain_part,
            connection: tunnel_key.connection,
            origin: tunnel_key.origin,
            traffic: TunnelTraffic::new(joined),
            order: AtomicU8::new(0),
            tap_version: AtomicU32::new(0),
            inbox: Mutex::default(),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.join_number
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn view(&self) -> TunnelView<'_> {
        let Self { route, route_version, listener, join_number, .. } = self;
        TunnelView {
            endpoint: self.endpoint.load(Relaxed),
            route,
            route_version: *route_version,
            listener,
            join_number: *join_number,
            is_shared: self.connection.is_some(),
        }
    }

    /// The tunnel at `now`, in milliseconds of the worker clock.
    pub(super) fn snapshot(&self, now: u64) -> TunnelSnapshot {
        let Self { traffic, .. } = self;
        TunnelSnapshot {
            id: self.join_number,
            endpoint: self.endpoint.load(Relaxed),
            route: Arc::clone(&self.route),
            generation: self.generation,
            age: Duration::from_millis(now.saturating_sub_signed(self.joined.load(Relaxed))),
            idle: Duration::from_millis(now.saturating_sub(traffic.data.load(Relaxed))),
            messages: traffic.messages(),
            bytes: traffic.bytes(),
            round_trips: traffic.round_trips(),
            protocol: self.protocol.clone(),
            origin: self.origin.clone().filter(|origin| origin.is_complete()),
        }
    }

    pub(super) fn route(&self) -> &Arc<str> {
        &self.route
    }

    pub(super) fn listener(&self) -> &Arc<str> {
        &self.listener
    }

    /// The protocol of a raw relay; `None` for a WebSocket.
    pub(super) fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    pub(super) fn origin(&self) -> Option<&Arc<dyn TunnelOrigin>> {
        self.origin.as_ref()
    }

    /// The tunnel was opened this long ago, in another process, and had its last data frame this long ago.
    pub(super) fn restore(&self, age: Duration, idle: Duration) {
        let now = i64::try_from(clock::millis()).unwrap_or(i64::MAX);
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.joined.store(now.saturating_sub(millis(age)), Relaxed);
        let data = now.saturating_sub(millis(idle));
        self.traffic.data.store(u64::try_from(data).unwrap_or_default(), Relaxed);
    }

    /// The client's HTTP/2 connection, on which it may have other tunnels.
    pub(super) fn shared_connection(&self) -> Option<NonZeroUsize> {
        self.connection
    }

    /// Asks the tunnel to move to another process; returns whether this call did. The tunnel drops `order` if it
    /// stays.
    pub(super) fn request_departure(&self, order: DepartureOrder) -> bool {
        self.inbox.lock().orders().departure = Some(order);
        let is_first = self.give_order(DEPART);
        if !is_first {
            self.inbox.lock().orders().departure = None;
        }
        is_first
    }

    pub(super) fn is_departing(&self) -> bool {
        self.order.load(Acquire) == DEPART
    }

    pub(super) fn take_departure(&self) -> Option<DepartureOrder> {
        self.inbox.lock().orders.as_mut()?.departure.take()
    }

    /// The tunnel stays, and takes other orders again.
    pub(super) fn stay(&self) {
        // Under the lock that a close and a drain take before their orders, which had no effect meanwhile.
        let mut inbox = self.inbox.lock();
        let drain = inbox.orders.as_mut().and_then(|orders| orders.drain.take());
        let is_closed = inbox.orders.as_ref().is_some_and(|orders| orders.close.is_some());
        let next = if is_closed { CLOSE } else { drain.map_or(0, |cause| cause as u8) };
        // An end is not undone.
        let _ = self.order.compare_exchange(DEPART, next, AcqRel, Relaxed);
    }

    /// Adds a tap that selects the tunnel. Returns whether it was added: not one that has ended or was added before. A raw
    /// relay has no messages to show.
    pub(super) fn add_tap(&self, session: &Arc<TapSession>) -> bool {
        // Checked under the lock that the end of a tap takes to remove it.
        let is_due = |taps: &[Arc<TapSession>]| {
            session.is_open() && !taps.iter().any(|known| Arc::ptr_eq(known, session))
        };
        self.protocol.is_none()
            && session.selects(self.join_number, &self.route, self.origin.as_deref())
            && self.change_taps(is_due, |taps| taps.push(Arc::clone(session)))
    }

    /// Removes the taps that have ended.
    pub(super) fn remove_ended_taps(&self) {
        let has_ended = |taps: &[Arc<TapSession>]| taps.iter().any(|tap| !tap.is_open());
        // Under the lock in any case: another thread may be about to add one.
        self.change_taps(has_ended, |taps| {
            taps.retain(|tap| tap.is_open());
            taps.shrink_to_fit();
        });
    }

    fn change_taps(
        &self,
        is_due: impl Fn(&[Arc<TapSession>]) -> bool,
        change: impl FnOnce(&mut Vec<Arc<TapSession>>),
    ) -> bool {
        let mut inbox = self.inbox.lock();
        let is_due = is_due(inbox.orders.as_ref().map_or(&[], |orders| &orders.taps));
        if is_due {
            change(&mut inbox.orders().taps);
            self.tap_version.fetch_add(1, Release);
            if let Some(waker) = &inbox.waker {
                waker.wake_by_ref();
            }
        }
        is_due
    }

    /// The order for the tunnel, if there is one.
    pub(super) fn order(&self) -> Option<CloseOrder> {
        match self.order.load(Acquire) {
            0 | DEPART => None,
            CLOSE => Some(CloseOrder::Operator),
            order => Cause::ALL.into_iter().find(|cause| *cause as u8 == order).map(CloseOrder::Drain),
        }
    }

    pub(super) fn take_close(&self) -> Option<OperatorClose> {
        self.inbox.lock().orders.as_mut()?.close.take()
    }

    pub(super) fn tap_version(&self) -> u32 {
        self.tap_version.load(Acquire)
    }

    pub(super) fn taps(&self) -> Vec<Arc<TapSession>> {
        self.inbox.lock().orders.as_ref().map(|orders| orders.taps.clone()).unwrap_or_default()
    }

    pub(super) fn traffic(&self) -> &TunnelTraffic {
        &self.traffic
    }

    /// Sets the endpoint, and returns the one before.
    pub(super) fn moved(&self, endpoint: u64) -> u64 {
        self.endpoint.swap(endpoint, Relaxed)
    }

    pub(super) fn listen(&self, waker: &Waker) {
        self.inbox.lock().waker = Some(waker.clone());
    }

    /// The tunnel has ended.
    pub(super) fn end(&self) {
        self.order.store(ENDED, Relaxed);
        // One who waits for its departure waits no longer.
        drop(self.take_departure());
    }

    /// Returns whether no order ends it. It may be asked to depart.
    pub(super) fn is_unasked(&self) -> bool {
        matches!(self.order.load(Relaxed), 0 | DEPART)
    }

    /// Drains the tunnel; returns whether this call did. The first order counts.
    pub(super) fn ask(&self, cause: Cause) -> bool {
        self.give_order(cause as u8) || self.ask_after_departure(cause)
    }

    /// Drains a tunnel that was asked to depart, should it stay.
    fn ask_after_departure(&self, cause: Cause) -> bool {
        let mut inbox = self.inbox.lock();
        if !self.is_departing() {
            // It has stayed since the first try, or has another order.
            drop(inbox);
            return self.give_order(cause as u8);
        }
        let drain = &mut inbox.orders().drain;
        let is_first = drain.is_none();
        drain.get_or_insert(cause);
        is_first
    }

    /// Closes the tunnel; returns whether this call did.
    pub(super) fn close(&self, close: OperatorClose) -> bool {
        self.inbox.lock().orders().close.get_or_insert(close);
        self.give_order(CLOSE)
    }

    fn give_order(&self, order: u8) -> bool {
        let first = self.order.compare_exchange(0, order, AcqRel, Relaxed).is_ok();
        if first && let Some(waker) = self.inbox.lock().waker.take() {
            waker.wake();
        }
        first
    }
}

impl Inbox {
    fn orders(&mut self) -> &mut InboxOrders {
        self.orders.get_or_insert_default()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.join_number)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

impl TunnelTraffic {
    fn new(now: u64) -> Self {
        Self {
            messages: Default::default(),
            bytes: Default::default(),
            data: AtomicU64::new(now),
            round_trips: [const { AtomicU32::new(NEVER) }; 2],
        }
    }

    /// Adds messages and bytes from `side`.
    #[inline]
    pub(super) fn add(&self, side: Side, messages: u64, bytes: u64) {
        for (count, more) in [(&self.messages, messages), (&self.bytes, bytes)] {
            let count = &count[side as usize];
            // There is one writer.
            count.store(count.load(Relaxed) + more, Relaxed);
        }
    }

    /// Records a data frame at this time.
    #[inline]
    pub(super) fn data_at(&self, now: u64) {
        self.data.store(now, Relaxed);
    }

    /// Continues these counts of another process.
    pub(super) fn restore(&self, messages: [u64; 2], bytes: [u64; 2], round_trips: [Option<Duration>; 2]) {
        for side in Side::BOTH {
            self.add(side, messages[side as usize], bytes[side as usize]);
            if let Some(round_trip) = round_trips[side as usize] {
                self.round_trip(side, round_trip);
            }
        }
    }

    pub(super) fn round_trip(&self, side: Side, after: Duration) {
        let micros = u32::try_from(after.as_micros()).unwrap_or(NEVER - 1);
        self.round_trips[side as usize].store(micros, Relaxed);
    }

    pub(super) fn messages(&self) -> [u64; 2] {
        Side::BOTH.map(|side| self.messages[side as usize].load(Relaxed))
    }

    pub(super) fn bytes(&self) -> [u64; 2] {
        Side::BOTH.map(|side| self.bytes[side as usize].load(Relaxed))
    }

    pub(super) fn round_trips(&self) -> [Option<Duration>; 2] {
        Side::BOTH.map(|side| match self.round_trips[side as usize].load(Relaxed) {
            NEVER => None,
            micros => Some(Duration::from_micros(micros.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_fits_the_allocator_s_block_of_224_bytes() {
        // The counts of an `Arc` are before it.
        assert!(size_of::<Member>() + 16 <= 224, "{}", size_of::<Member>());
    }
}
