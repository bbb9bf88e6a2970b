//! The time, as tunnels need it: read once for a turn of a worker's runtime and not once for every
//! message, which on some machines costs as much as following the message's frames.
//!
//! Clocks of tunnels count in seconds; what is due is decided by `read`, and so is a round trip.

use std::cell::Cell;
use tokio::time::Instant;

/// So many tunnels share a reading when a runtime is too busy to come to rest. Each of them takes some
/// microseconds, a few hundred when it moves a megabyte.
const USES: u8 = 32;

thread_local! {
    static TURN: Cell<CachedNow> = const { Cell::new(CachedNow { at: None, left: 0, kept: false }) };
}

#[derive(Clone, Copy)]
struct CachedNow {
    at: Option<Instant>,
    left: u8,
    /// Somebody says when turns begin; without that every reading is a new one.
    kept: bool,
}

/// The thread's runtime has slept, and goes on: for
/// [`on_thread_unpark`](tokio::runtime::Builder::on_thread_unpark). From the first call on, readings of
/// this thread are shared.
pub fn turn_begins() {
    TURN.set(CachedNow { at: None, left: 0, kept: true });
}

/// The time when this turn began or a little later; never before a moment that this thread has read.
#[inline]
pub fn now() -> Instant {
    let turn = TURN.get();
    match turn.at {
        Some(at) if turn.left > 0 => {
            TURN.set(CachedNow { left: turn.left - 1, ..turn });
            at
        }
        _ => read(),
    }
}

/// The time.
pub(crate) fn read() -> Instant {
    let now = Instant::now();
    let turn = TURN.get();
    if turn.kept {
        TURN.set(CachedNow { at: Some(now), left: USES, ..turn });
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Until the clock has moved.
    fn later_than(moment: Instant) {
        while Instant::now() == moment {}
    }

    #[test]
    fn a_reading_serves_a_turn_and_not_for_ever() {
        turn_begins();
        let first = now();
        later_than(first);
        assert_eq!(now(), first);
        let exact = read();
        assert!(exact > first, "a reading that has to be exact is");
        later_than(exact);
        assert!((0..USES).all(|_| now() == exact), "and serves the others from then on");
        let next = now();
        assert!(next > exact, "a turn without an end has a new one now and then");
        later_than(next);
        turn_begins();
        assert!(now() > next);
    }

    #[test]
    fn without_turns_every_reading_is_a_new_one() {
        let first = now();
        later_than(first);
        assert!(now() > first);
    }
}
