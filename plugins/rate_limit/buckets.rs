//! Token buckets by key, bounded in number.
//!
//! A bucket is one number, see [`TokenBucket`]. A full bucket can be evicted without loss. A key is stored as a 64-bit keyed
//! hash, about 50 bytes per key for any length. A library that stores whole keys and never evicts them would let clients
//! exhaust the memory with invented keys.

use indexmap::IndexMap;
use moongate_config::Rate;
use moongate_sdk::{TokenBucket, TokenRate};
use parking_lot::Mutex;
use std::hash::{BuildHasherDefault, Hasher};

/// The number of locks over which keys are spread.
const SHARDS: usize = 16;
/// The number of sampled buckets for an eviction.
const SAMPLE: usize = 8;

/// Buckets by key.
pub(super) struct Buckets {
    rate: TokenRate,
    most: usize,
    shards: Box<[Mutex<Shard>]>,
}

type Shard = IndexMap<u64, TokenBucket, BuildHasherDefault<IdentityHasher>>;

/// The outcome of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BucketOutcome {
    /// A token was taken.
    Yes {
        /// Remaining tokens.
        left: u64,
        /// Nanoseconds until the bucket is full.
        full: u64,
    },
    /// No token was available.
    No {
        /// Nanoseconds until the next token.
        wait: u64,
        /// Nanoseconds until the bucket is full.
        full: u64,
    },
}

impl Buckets {
    /// Buckets of `burst` tokens each, at most `most` of them (rounded to the shards).
    pub(super) fn new(rate: Rate, burst: u32, most: usize) -> Self {
        Self {
            rate: TokenRate::of(rate, burst),
            most: most.div_ceil(SHARDS).max(SAMPLE),
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
        }
    }

    /// Nanoseconds in which an empty bucket refills.
    pub(super) fn depth(&self) -> u64 {
        self.rate.depth()
    }

    /// Takes a token of `key`, a hash. `now` is in nanoseconds.
    pub(super) fn take(&self, key: u64, now: u64) -> BucketOutcome {
        let mut shard = self.shards[(key >> 60) as usize % SHARDS].lock();
        let mut bucket = shard.get(&key).copied().unwrap_or_default();
        if let Err(wait) = bucket.try_take(&self.rate, self.rate.cost(1), now) {
            return BucketOutcome::No { wait, full: bucket.until_full(now) };
        }
        if let Some(kept) = shard.get_mut(&key) {
            *kept = bucket;
        } else {
            make_room(&mut shard, self.most, now);
            shard.insert(key, bucket);
        }
        BucketOutcome::Yes { left: bucket.left(&self.rate, now), full: bucket.until_full(now) }
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

    /// Continues with a bucket of another process.
    pub(super) fn charge(&self, key: u64, debt: u64, now: u64) {
        let mut shard = self.shards[(key >> 60) as usize % SHARDS].lock();
        if !shard.contains_key(&key) {
            make_room(&mut shard, self.most, now);
        }
        // No more than an empty bucket, whose rate may have been another one.
        let bucket = shard.entry(key).or_default();
        *bucket = bucket.charged(debt.min(self.depth()), now);
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
    use std::num::NonZeroU32;

    const SECOND: u64 = 1_000_000_000;

    fn buckets(burst: u32, most: usize) -> Buckets {
        Buckets::new(Rate::per_second(NonZeroU32::MIN.saturating_add(9)), burst, most)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let buckets = buckets(3, 100);
        let left = |now| match buckets.take(7, now) {
            BucketOutcome::Yes { left, .. } => left as i64,
            BucketOutcome::No { .. } => -1,
        };
        let now = SECOND;
        assert_eq!([left(now), left(now), left(now), left(now)], [2, 1, 0, -1]);
        assert_eq!(buckets.take(7, now), BucketOutcome::No { wait: SECOND / 10, full: SECOND / 10 * 3 });
        assert_eq!(buckets.take(8, now), BucketOutcome::Yes { left: 2, full: SECOND / 10 });
        assert_eq!([left(now + SECOND / 10), left(now + SECOND / 10)], [0, -1]);
        assert_eq!(left(now + 10 * SECOND), 2, "never more than the burst");
    }

    #[test]
    fn invented_keys_are_bounded_and_do_not_evict_loaded_keys() {
        let buckets = buckets(10, 16 * 64);
        let now = SECOND;
        while matches!(buckets.take(u64::MAX, now), BucketOutcome::Yes { .. }) {}
        for key in 0..100_000_u64 {
            buckets.take(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), now);
        }
        assert!(buckets.len() <= 16 * 64);
        assert!(
            matches!(buckets.take(u64::MAX, now), BucketOutcome::No { .. }),
            "the most loaded key is evicted last"
        );
    }

    #[test]
    fn full_buckets_are_evicted() {
        let buckets = buckets(1, 1 << 20);
        for key in 0..50_000_u64 {
            buckets.take(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), SECOND * (1 + key));
        }
        assert!(buckets.len() < 1000, "{}", buckets.len());
    }
}
