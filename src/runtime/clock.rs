//! Coarse clock of a worker: read once per poll of its runtime. A reading per message would, on some machines, cost
//! as much as parsing the message's frames.
//!
//! Tunnels count in seconds; deadlines and round trips use `read`.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::time::Instant;

/// The origin of [`millis`].
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The first reading of [`millis`]. Moments before it can be written too: with an upgrade, WebSockets were active in an
/// earlier process.
const ORIGIN: u64 = 1 << 40;

/// The number of tunnels that share a reading on a runtime that never rests. Each takes some microseconds, or
/// a few hundred for a megabyte.
const USES: u8 = 32;

thread_local! {
    static TURN: Cell<CachedNow> = const { Cell::new(CachedNow { at: None, millis: 0, left: 0, kept: false }) };
}

#[derive(Clone, Copy)]
struct CachedNow {
    at: Option<Instant>,
    millis: u64,
    left: u8,
    /// Whether the runtime reports its polls; without that, every reading is new.
    kept: bool,
}

/// Starts a new poll, after the thread's runtime has slept; for
/// [`on_thread_unpark`](tokio::runtime::Builder::on_thread_unpark). From the first call on, readings of this
/// thread are shared.
pub(crate) fn turn_begins() {
    TURN.set(CachedNow { at: None, millis: 0, left: 0, kept: true });
}

/// As [`now`], in milliseconds since the start of the process, and [`ORIGIN`].
#[inline]
pub(crate) fn millis() -> u64 {
    let turn = TURN.get();
    if turn.at.is_some() && turn.left > 0 {
        TURN.set(CachedNow { left: turn.left - 1, ..turn });
        return turn.millis;
    }
    millis_at(read())
}

/// The time of that reading of [`millis`].
pub(crate) fn at_millis(millis: u64) -> Option<Instant> {
    START.checked_add(Duration::from_millis(millis.checked_sub(ORIGIN)?))
}

fn millis_at(moment: Instant) -> u64 {
    let since = u64::try_from(moment.saturating_duration_since(*START).as_millis()).unwrap_or(u64::MAX);
    since.saturating_add(ORIGIN)
}

/// The time of this poll's start or a little later; never before an earlier reading of this thread.
#[inline]
pub(crate) fn now() -> Instant {
    let turn = TURN.get();
    match turn.at {
        Some(at) if turn.left > 0 => {
            TURN.set(CachedNow { left: turn.left - 1, ..turn });
            at
        }
        _ => read(),
    }
}

/// The exact time.
pub(crate) fn read() -> Instant {
    let now = Instant::now();
    let turn = TURN.get();
    if turn.kept {
        TURN.set(CachedNow { at: Some(now), millis: millis_at(now), left: USES, ..turn });
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until the clock has advanced.
    fn later_than(moment: Instant) {
        while Instant::now() == moment {}
    }

    #[test]
    fn a_reading_is_shared_within_a_poll() {
        turn_begins();
        let first = now();
        later_than(first);
        assert_eq!(now(), first);
        let exact = read();
        assert!(exact > first, "`read` is exact");
        later_than(exact);
        assert!((0..USES).all(|_| now() == exact), "and later readings share it");
        let next = now();
        assert!(next > exact, "a long poll gets a new reading");
        later_than(next);
        turn_begins();
        assert!(now() > next);
    }

    #[test]
    fn without_polls_every_reading_is_new() {
        let first = now();
        later_than(first);
        assert!(now() > first);
    }
}
