//! Requests by status code: an array index and one atomic add; classes that never occur are not allocated.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The label of values that are not a status code.
const OTHER: &str = "other";

/// Counters for 100 to 599, and one for other values.
#[derive(Debug, Default)]
pub(super) struct Statuses {
    // A class takes 800 bytes once it occurs; all five for ten thousand routes would take 40 MB.
    classes: [OnceLock<Box<[AtomicU64; 100]>>; 5],
    other: AtomicU64,
}

impl Statuses {
    pub(super) fn add(&self, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(1);
        let counter = match self.classes.get(class) {
            Some(class) => {
                &class.get_or_init(|| Box::new([const { AtomicU64::new(0) }; 100]))[usize::from(status % 100)]
            }
            None => &self.other,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// The sum over all statuses.
    pub(super) fn total(&self) -> u64 {
        let counters = self.classes.iter().filter_map(OnceLock::get).flat_map(|class| class.iter());
        counters.chain([&self.other]).map(|counter| counter.load(Relaxed)).sum()
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
        match self.other.load(Relaxed) {
            0 => {}
            count => on(OTHER, count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_counts_under_its_own_label_or_other() {
        let statuses = Statuses::default();
        for status in [101, 200, 200, 599, 0, 99, 600, u16::MAX] {
            statuses.add(status);
        }
        let mut seen = Vec::new();
        statuses.each(|label, count| seen.push((label.to_owned(), count)));
        assert_eq!(statuses.total(), 8);
        assert_eq!(seen, [("101", 1), ("200", 2), ("599", 1), ("other", 4)].map(|(l, n)| (l.to_owned(), n)));
    }
}
