//! The clients whose WebSockets a drain has closed: their next handshakes prefer endpoints that joined since the drain began.
//!
//! Without a preference they would come to endpoints that the same rollout replaces a moment later, and would be closed
//! again. A gateway cannot recognise these clients: each WebSocket that a drain closes is a credit, and each WebSocket
//! handshake that follows uses one. Drains that follow each other are one series: the newcomers of all of them are preferred.

use super::balance::{CandidateSet, Exclusion, Member};
use super::join_time::ALWAYS;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// An endpoint that joined this much before a drain began is the successor of the drained one too: a rollout with a surge
/// starts it first.
const LEAD: u64 = 60_000;

/// The time after a drain's window in which its clients are expected.
const GRACE: u64 = 30_000;

/// The most newcomers that a choice looks at.
const LOOKS: usize = 16;

/// The WebSockets that the drains of an upstream close, and the handshakes since then.
#[derive(Debug, Default)]
pub(super) struct Reconnects {
    /// The WebSockets that the drains were to close.
    expected: AtomicUsize,
    /// Those that the drains have closed.
    closed: Arc<AtomicUsize>,
    /// The handshakes that used a credit. Never more than `closed`.
    used: AtomicUsize,
    /// The moment since which an endpoint is a newcomer, in milliseconds of the upstream clock; 0 before the first drain.
    since: AtomicU64,
    /// The end of the series.
    until: AtomicU64,
}

impl Reconnects {
    /// A drain of `websockets` WebSockets began at `since` and closes them within `window` from now on. Returns the count
    /// of those that it has closed.
    pub(super) fn begin(
        &self,
        now: u64,
        since: u64,
        window: Duration,
        websockets: usize,
    ) -> Arc<AtomicUsize> {
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let end = now.saturating_add(window).saturating_add(GRACE);
        // Credits of an earlier series are void.
        if now >= self.until.load(Relaxed) {
            let closed = self.closed.load(Relaxed);
            self.used.store(closed, Relaxed);
            self.expected.store(closed, Relaxed);
            self.since.store(since.saturating_sub(LEAD), Relaxed);
        }
        self.expected.fetch_add(websockets, Relaxed);
        self.until.fetch_max(end, Relaxed);
        Arc::clone(&self.closed)
    }

    /// Uses a credit; `false` if there is none. Without a drain it costs two reads.
    pub(super) fn take(&self, now: impl FnOnce() -> u64) -> bool {
        if self.closed.load(Relaxed) == self.used.load(Relaxed) {
            return false;
        }
        let next = |used: usize| (used < self.closed.load(Relaxed)).then_some(used + 1);
        now() < self.until.load(Relaxed) && self.used.fetch_update(Relaxed, Relaxed, next).is_ok()
    }

    /// The clients that are still expected.
    fn pending(&self) -> usize {
        self.expected.load(Relaxed).saturating_sub(self.used.load(Relaxed))
    }

    /// The newcomers among the candidates, if a drain is or was under way.
    pub(super) fn newcomers(
        &self,
        now: u64,
        members: &[Member],
        candidates: &CandidateSet,
    ) -> Option<Newcomers> {
        let end = self.until.load(Relaxed);
        if now >= end {
            return None;
        }
        let since = self.since.load(Relaxed);
        let of_set = || candidates.iter().filter_map(|index| Some((index, members.get(index)?)));
        let (mut weights, mut sockets) = (0, self.pending() as u64);
        for (_, member) in of_set() {
            weights += u64::from(member.weight());
            sockets += member.active() as u64;
        }
        let seat = |(index, member): (usize, &Member)| {
            let joined = member.endpoint().join_time().moment();
            if joined == ALWAYS || joined < since || joined > now {
                return None;
            }
            let share = (sockets * u64::from(member.weight())).div_ceil(weights.max(1));
            let room = share.saturating_sub(member.active() as u64);
            let room = AtomicU32::new(u32::try_from(room).unwrap_or(u32::MAX));
            Some(Newcomer { index: index as u32, room })
        };
        let all: Box<[_]> = of_set().filter_map(seat).filter(|one| one.room.load(Relaxed) > 0).collect();
        (!all.is_empty()).then(|| Newcomers { all, turn: AtomicUsize::new(0), end })
    }
}

/// An endpoint that joined since the drains began.
#[derive(Debug)]
struct Newcomer {
    index: u32,
    /// The requests and WebSockets up to its even share.
    room: AtomicU32,
}

/// The newcomers that have less than their even share.
#[derive(Debug)]
pub(super) struct Newcomers {
    all: Box<[Newcomer]>,
    turn: AtomicUsize,
    /// The end of the series.
    end: u64,
}

impl Newcomers {
    /// The end of the series, after which none is preferred.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// A newcomer with room, in turn, which it uses up. `None` if none was found among a few.
    pub(super) fn choose<'a>(&self, members: &'a [Member], exclusion: Exclusion<'_>) -> Option<&'a Member> {
        let take = |_| {
            let newcomer = self.all.get(self.turn.fetch_add(1, Relaxed) % self.all.len())?;
            let member = members.get(newcomer.index as usize).filter(|member| !exclusion.has(member))?;
            let less = |room: u32| room.checked_sub(1);
            newcomer.room.fetch_update(Relaxed, Relaxed, less).is_ok().then_some(member)
        };
        (0..LOOKS.min(self.all.len())).find_map(take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credit_is_used_once_and_ends_with_its_series() {
        let reconnects = Reconnects::default();
        assert!(!reconnects.take(|| 5));
        let closed = reconnects.begin(1_000, 1_000, Duration::from_secs(2), 3);
        assert!(!reconnects.take(|| 1_000), "none is closed yet");
        closed.fetch_add(2, Relaxed);
        assert_eq!([(); 3].map(|()| reconnects.take(|| 1_500)), [true, true, false]);
        assert_eq!(reconnects.pending(), 1);
        closed.fetch_add(1, Relaxed);
        assert!(!reconnects.take(|| 1_000 + 2_000 + GRACE), "its client does not come any more");
        let _ = reconnects.begin(60_000, 60_000, Duration::ZERO, 10);
        assert!(!reconnects.take(|| 60_000), "it is void in the next series");
        assert_eq!(reconnects.pending(), 10);
    }
}
