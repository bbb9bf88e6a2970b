//! Requests by status code: an array index and one atomic add; classes that never occur are not allocated.
//!
//! A backend chooses the status. Registered codes have their own label; of all others, so do the first 16.

use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The label of values that are not a status code, and of unregistered codes beyond the first ones.
const OTHER: &str = "other";

/// Unregistered codes with their own label. Three to five are in use on the Internet; a backend may invent 430.
const UNREGISTERED: usize = 16;

/// Counters for 100 to 599, and one for other values.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    // A class takes 800 bytes once it occurs; all five for ten thousand routes would take 40 MB.
    classes: [OnceLock<Box<[AtomicU64; 100]>>; 5],
    // A list under a lock: these are rare, and their order of appearance decides.
    unregistered: Mutex<Vec<(u16, u64)>>,
    other: AtomicU64,
}

impl Statuses {
    pub(super) fn add(&self, status: u16) {
        if is_registered(status) {
            // The class is 1 to 5.
            if let Some(class) = self.classes.get(usize::from(status / 100).wrapping_sub(1)) {
                let counters = class.get_or_init(|| Box::new([const { AtomicU64::new(0) }; 100]));
                counters[usize::from(status % 100)].fetch_add(1, Relaxed);
            }
        } else if !(100..600).contains(&status) || !self.add_unregistered(status) {
            self.other.fetch_add(1, Relaxed);
        }
    }

    /// Counts the code if it has its own label.
    fn add_unregistered(&self, status: u16) -> bool {
        let mut known = self.unregistered.lock();
        if let Some((_, count)) = known.iter_mut().find(|(code, _)| *code == status) {
            *count += 1;
            return true;
        }
        let free = known.len() < UNREGISTERED;
        if free {
            known.push((status, 1));
        }
        free
    }

    /// The sum over all statuses.
    pub(super) fn total(&self) -> u64 {
        let counters = self.classes.iter().filter_map(OnceLock::get).flat_map(|class| class.iter());
        let registered: u64 = counters.chain([&self.other]).map(|counter| counter.load(Relaxed)).sum();
        registered + self.unregistered.lock().iter().map(|(_, count)| count).sum::<u64>()
    }

    /// Calls `on` with the label and count of every status that occurred.
    pub(super) fn each(&self, mut on: impl FnMut(&str, u64)) {
        for (class, counters) in (1..).zip(&self.classes) {
            for (rest, counter) in counters.get().into_iter().flat_map(|class| class.iter()).enumerate() {
                match counter.load(Relaxed) {
                    0 => {}
                    count => on(&(class * 100 + rest).to_string(), count),
                }
            }
        }
        for (code, count) in &*self.unregistered.lock() {
            on(&code.to_string(), *count);
        }
        match self.other.load(Relaxed) {
            0 => {}
            count => on(OTHER, count),
        }
    }
}

/// Whether the code is in IANA's registry of November 2026, or 499: the client had left.
fn is_registered(status: u16) -> bool {
    matches!(status, 100..=104 | 200..=208 | 226 | 300..=308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 499 | 500..=508 | 510 | 511)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(statuses: &Statuses) -> Vec<(String, u64)> {
        let mut seen = Vec::new();
        statuses.each(|label, count| seen.push((label.to_owned(), count)));
        seen
    }

    #[test]
    fn every_status_counts_under_its_own_label_or_other() {
        let statuses = Statuses::default();
        for status in [101, 200, 200, 520, 599, 520, 0, 99, 600, u16::MAX] {
            statuses.add(status);
        }
        assert_eq!(statuses.total(), 10);
        let expected = [("101", 1), ("200", 2), ("520", 2), ("599", 1), ("other", 4)];
        assert_eq!(seen(&statuses), expected.map(|(label, count)| (label.to_owned(), count)));
    }

    #[test]
    fn invented_codes_make_sixteen_series_and_one() {
        let statuses = Statuses::default();
        for status in (0..=u16::MAX).chain([599, 404]) {
            statuses.add(status);
        }
        let seen = seen(&statuses);
        let registered = (0..=u16::MAX).filter(|status| is_registered(*status)).count();
        assert_eq!(seen.len(), registered + UNREGISTERED + 1);
        assert_eq!(statuses.total(), u64::from(u16::MAX) + 3);
        assert_eq!(seen.iter().map(|(_, count)| count).sum::<u64>(), statuses.total());
        assert!(seen.contains(&("404".to_owned(), 2)), "{seen:?}");
    }
}
