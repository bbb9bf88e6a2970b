//! The moment at which changes are applied: after a pause without another one, and not later than a limit.

use std::time::Duration;
use tokio::time::Instant;

/// Changes are applied after this long without another one.
const PAUSE: Duration = Duration::from_millis(50);
/// Changes are applied this long after the first one at the latest.
const LONGEST: Duration = Duration::from_millis(500);

/// Changes that wait.
#[derive(Clone, Copy, Debug)]
pub struct QuietPeriod {
    first: Instant,
    last: Instant,
}

impl QuietPeriod {
    /// Begins with a change.
    pub fn begin(now: Instant) -> Self {
        Self { first: now, last: now }
    }

    /// Another change.
    pub fn extend(&mut self, now: Instant) {
        self.last = now;
    }

    /// When the changes are applied.
    pub fn end(&self) -> Instant {
        (self.last + PAUSE).min(self.first + LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_wait_for_a_pause_and_not_for_ever() {
        let now = Instant::now();
        let mut quiet = QuietPeriod::begin(now);
        assert_eq!(quiet.end(), now + PAUSE);
        for change in 1..=30 {
            quiet.extend(now + change * Duration::from_millis(40));
        }
        assert_eq!(quiet.end(), now + LONGEST);
    }
}
