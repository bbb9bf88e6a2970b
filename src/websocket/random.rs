//! Random numbers of the protocol: masking keys, `Sec-WebSocket-Key` and the payload of a Ping.
//!
//! RFC 6455 §10.3 wants masking keys from a strong source of entropy: a backend's application must not be able to predict
//! the next key, or it could choose the bytes on the wire. So every byte is the operating system's (getrandom) and no
//! generator of our own stands between. A thread draws [`DRAWN`] bytes at once, which is 64 masking keys a system call.

use std::cell::RefCell;
use std::num::NonZeroU64;

/// Bytes of one draw; Linux gives up to 256 without interruption (getrandom(2)).
const DRAWN: usize = 256;

/// Random bytes of a thread, each given out once.
struct Pool {
    bytes: [u8; DRAWN],
    /// How many have been given out.
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; DRAWN], used: DRAWN }) };
}

/// Random bytes, at most [`DRAWN`].
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= DRAWN) };
    POOL.with_borrow_mut(|pool| {
        if pool.used + N > DRAWN {
            fill(&mut pool.bytes);
            pool.used = 0;
        }
        let mut out = [0; N];
        out.copy_from_slice(&pool.bytes[pool.used..pool.used + N]);
        pool.used += N;
        out
    })
}

/// A random number but 0.
pub(crate) fn random_nonzero() -> NonZeroU64 {
    NonZeroU64::new(u64::from_ne_bytes(random_bytes())).unwrap_or(NonZeroU64::MAX)
}

#[allow(
    clippy::expect_used,
    reason = "a guessable mask is worse than a panic, and std's hash maps panic as well then"
)]
fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has random numbers");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_bytes_are_given_out_twice() {
        let keys: HashSet<[u8; 16]> = (0..1000).map(|_| random_bytes()).collect();
        assert_eq!(keys.len(), 1000);
        let other = std::thread::spawn(|| (0..1000).map(|_| random_bytes()).collect::<Vec<[u8; 16]>>());
        assert!(other.join().is_ok_and(|others| others.iter().all(|key| !keys.contains(key))));
    }

    #[test]
    fn a_draw_that_does_not_fit_begins_a_new_one() {
        let first: [u8; 200] = random_bytes();
        let second: [u8; 200] = random_bytes();
        assert!(first != second && second.iter().any(|byte| *byte != 0));
    }
}
