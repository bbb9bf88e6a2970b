//! Peak EWMA of an endpoint's latencies in one atomic word. The caller passes the time.
//!
//! A latency above the average replaces it at once, one below lowers it slowly. Without observations the
//! average decays, so that a once slow endpoint is tried again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// After this many milliseconds the weight of an observation is 1/e.
const DECAY: f32 = 10_000.0;

/// The average in microseconds (f32) in the upper half, the low 32 bits of the milliseconds in the lower.
#[derive(Debug, Default)]
pub(super) struct PeakEwma(AtomicU64);

impl PeakEwma {
    /// Records a latency observed at `now` (milliseconds).
    pub(super) fn observe(&self, latency: Duration, now: u64) {
        let seen = (latency.as_secs_f32() * 1e6).max(1.0);
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| Some(pack(merge(word, seen, now), now)));
    }

    /// The average at the last observation in microseconds, without decay; 0 without one.
    pub(super) fn last(&self) -> f32 {
        average(self.0.load(Relaxed))
    }

    /// The average at `now` in microseconds; 0 without recent observations.
    pub(super) fn read(&self, now: u64) -> f32 {
        let word = self.0.load(Relaxed);
        average(word) * fading(word, now)
    }
}

fn merge(word: u64, seen: f32, now: u64) -> f32 {
    let before = average(word);
    if seen >= before {
        return seen;
    }
    let kept = fading(word, now);
    before * kept + seen * (1.0 - kept)
}

fn pack(average: f32, now: u64) -> u64 {
    (u64::from(average.to_bits()) << 32) | u64::from(low(now))
}

fn average(word: u64) -> f32 {
    f32::from_bits((word >> 32) as u32)
}

/// The average decayed by the time since its last update.
fn fading(word: u64, now: u64) -> f32 {
    // Wrapping: the 32 bits of milliseconds overflow after 49 days. A concurrent observation later than `now`
    // counts as made now.
    let age = low(now).wrapping_sub(word as u32) as i32;
    (-(age.max(0) as f32) / DECAY).exp()
}

const fn low(now: u64) -> u32 {
    now as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_peak_counts_at_once_and_decays_slowly() {
        let ewma = PeakEwma::default();
        assert_eq!(ewma.read(5), 0.0, "nothing seen");
        ewma.observe(ms(10), 100);
        ewma.observe(ms(200), 200);
        assert_eq!(ewma.read(200), 200_000.0);
        ewma.observe(ms(10), 300);
        assert!(ewma.read(300) > 190_000.0);
        for second in 1..60 {
            ewma.observe(ms(10), second * 1000);
        }
        assert!(ewma.read(60_000) < 12_000.0);
    }

    #[test]
    fn silence_lets_it_fade() {
        let ewma = PeakEwma::default();
        ewma.observe(ms(100), 1000);
        assert!(ewma.read(11_000) < 40_000.0);
        assert!(ewma.read(500_000) < 1.0);
    }

    #[test]
    fn a_clock_that_wraps_or_steps_back_changes_nothing() {
        let ewma = PeakEwma::default();
        ewma.observe(ms(10), u64::from(u32::MAX));
        assert!(ewma.read(u64::from(u32::MAX) + 2) > 9_000.0);
        assert_eq!(ewma.read(u64::from(u32::MAX) - 50), 10_000.0);
    }
}
