//! Token buckets by key, bounded in number.
//!
//! A bucket is one number, see [`TokenBucket`]. A full bucket can be evicted without loss. A key is stored as a 64-bit keyed
//! hash, about 50 bytes per key for any length. A library that stores whole keys and never evicts them would let clients
//! exhaust the memory with invented keys.

use super::TokenOutcome;
use crate::{TokenBucket, TokenRate};
use indexmap::IndexMap;
use parking_lot::Mutex;
use std::hash::{BuildHasherDefault, Hasher};

/// The number of locks over which keys are spread.
const SHARDS: usize = 16;
/// The number of sampled buckets for an eviction.
const SAMPLE: usize = 8;

/// Buckets by key. The rate is that of each call: the share of a gateway in the rate of a fleet changes.
pub(super) struct Buckets {
    most: usize,
    shards: Box<[Mutex<Shard>]>,
}

type Shard = IndexMap<u64, TokenBucket, BuildHasherDefault<IdentityHasher>>;

impl Buckets {
    /// At most `most` buckets (rounded to the shards).
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.div_ceil(SHARDS).max(SAMPLE),
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
        }
    }

    /// Takes a token of `key`, a hash. `now` is in nanoseconds.
    pub(super) fn take(&self, key: u64, rate: &TokenRate, now: u64) -> TokenOutcome {
        let mut shard = self.shards[(key >> 60) as usize % SHARDS].lock();
        let mut bucket = shard.get(&key).copied().unwrap_or_default();
        if let Err(wait) = bucket.try_take(rate, rate.cost(1), now) {
            return TokenOutcome::Refused { wait, full: bucket.until_full(now) };
        }
        if let Some(kept) = shard.get_mut(&key) {
            *kept = bucket;
        } else {
            make_room(&mut shard, self.most, now);
            shard.insert(key, bucket);
        }
        TokenOutcome::Taken { left: bucket.left(rate, now), full: bucket.until_full(now) }
    }

    /// The keys with the nanoseconds until their buckets are full, without those that are.
    pub(super) fn debts(&self, now: u64) -> Vec<(u64, u64)> {
        let mut debts = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            debts.extend(shard.iter().map(|(key, bucket)| (*key, bucket.until_full(now))));
        }
        debts.retain(|(_, debt)| *debt > 0);
        debts
    }

    /// Takes so many nanoseconds' worth of tokens of `key`, available or not. No bucket owes more than `depth`.
    pub(super) fn charge(&self, key: u64, debt: u64, depth: u64, now: u64) {
        let mut shard = self.shards[(key >> 60) as usize % SHARDS].lock();
        if !shard.contains_key(&key) {
            make_room(&mut shard, self.most, now);
        }
        let bucket = shard.entry(key).or_default();
        let paid = bucket.charged(debt, now).paid_at().min(now.saturating_add(depth));
        *bucket = TokenBucket::paid_by(paid);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

/// Makes space for one more: full buckets are evicted before the table grows. If it must not grow, the least-loaded
/// of a sample is evicted.
fn make_room(shard: &mut Shard, most: usize, now: u64) {
    if shard.len() == shard.capacity() && shard.len() < most {
        shard.retain(|_, bucket| bucket.until_full(now) > 0);
    }
    if shard.len() < most {
        return;
    }
    let sample = (0..SAMPLE).map(|_| fastrand::usize(..shard.len()));
    let least = sample.min_by_key(|at| shard.get_index(*at).map(|(_, bucket)| *bucket));
    if let Some(at) = least {
        shard.swap_remove_index(at);
    }
}

/// Keys are hashes already.
#[derive(Default)]
struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    fn rate(burst: u32) -> TokenRate {
        TokenRate::every(Duration::from_millis(100), burst)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (buckets, rate) = (Buckets::new(100), rate(3));
        let left = |now| match buckets.take(7, &rate, now) {
            TokenOutcome::Taken { left, .. } => left as i64,
            TokenOutcome::Refused { .. } => -1,
        };
        let now = SECOND;
        assert_eq!([left(now), left(now), left(now), left(now)], [2, 1, 0, -1]);
        assert_eq!(
            buckets.take(7, &rate, now),
            TokenOutcome::Refused { wait: SECOND / 10, full: SECOND / 10 * 3 }
        );
        assert_eq!(buckets.take(8, &rate, now), TokenOutcome::Taken { left: 2, full: SECOND / 10 });
        assert_eq!([left(now + SECOND / 10), left(now + SECOND / 10)], [0, -1]);
        assert_eq!(left(now + 10 * SECOND), 2, "never more than the burst");
    }

    #[test]
    fn invented_keys_are_bounded_and_do_not_evict_loaded_keys() {
        let (buckets, rate) = (Buckets::new(16 * 64), rate(10));
        let now = SECOND;
        while matches!(buckets.take(u64::MAX, &rate, now), TokenOutcome::Taken { .. }) {}
        for key in 0..100_000_u64 {
            buckets.take(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), &rate, now);
        }
        assert!(buckets.len() <= 16 * 64);
        assert!(
            matches!(buckets.take(u64::MAX, &rate, now), TokenOutcome::Refused { .. }),
            "the most loaded key is evicted last"
        );
    }

    #[test]
    fn full_buckets_are_evicted() {
        let (buckets, rate) = (Buckets::new(1 << 20), rate(1));
        for key in 0..50_000_u64 {
            buckets.take(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), &rate, SECOND * (1 + key));
        }
        assert!(buckets.len() < 1000, "{}", buckets.len());
    }
}
