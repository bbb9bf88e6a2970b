//! The addresses of a host name, as far as they are known: those of a family stay until name servers send others.

use crate::net::resolver::{Family, FamilyAddresses, LookupError};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// The minimum lifetime of a response, for any TTL.
const MIN_TTL: Duration = Duration::from_secs(1);

/// The interval of lookups after one that failed or found nothing.
const RETRY: Duration = Duration::from_secs(5);

/// How long an answer with this TTL is used: until shortly before its end, at random, so that gateways that started
/// together do not query together.
pub(super) fn life(ttl: Option<Duration>, max_age: Duration) -> Duration {
    let life = ttl.map_or(max_age, |ttl| ttl.max(MIN_TTL).min(max_age));
    life.mul_f64(0.8 + fastrand::f64() / 10.0)
}

/// When a lookup that failed or found nothing is repeated.
pub(super) fn retry(max_age: Duration) -> Duration {
    life(Some(RETRY), max_age)
}

/// The label of a failure.
pub(super) fn reason(error: &LookupError) -> &'static str {
    match error {
        LookupError::NotFound => "not_found",
        LookupError::NoResponse | LookupError::TimedOut(_) => "timeout",
        LookupError::Failed(_) => "failed",
    }
}

/// The record type of a family.
pub(super) fn record_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "A",
        Family::V6 => "AAAA",
    }
}

/// The addresses of one family of a name.
#[derive(Debug)]
pub(super) struct HalfAddresses {
    pub(super) addresses: Vec<IpAddr>,
    /// Why the last lookup has no answer.
    pub(super) failure: Option<LookupError>,
    /// When to look it up next.
    pub(super) due: Instant,
    /// Whether any lookup has ended.
    pub(super) is_looked_up: bool,
}

impl HalfAddresses {
    /// Starts with the addresses that were known before.
    pub(super) fn known(addresses: Vec<IpAddr>, now: Instant) -> Self {
        Self { addresses, failure: None, due: now, is_looked_up: false }
    }

    /// Whether name servers have said that there are no addresses.
    pub(super) fn is_empty(&self) -> bool {
        self.is_looked_up && self.failure.is_none() && self.addresses.is_empty()
    }

    /// Takes an answer, or keeps the addresses.
    pub(super) fn take(
        &mut self,
        answer: Result<FamilyAddresses, LookupError>,
        max_age: Duration,
        now: Instant,
    ) {
        self.is_looked_up = true;
        let wait = match answer {
            Ok(FamilyAddresses { mut addresses, ttl }) => {
                addresses.sort_unstable();
                addresses.dedup();
                self.addresses = addresses;
                self.failure = None;
                life(ttl, max_age)
            }
            Err(error) => {
                self.failure = Some(error);
                retry(max_age)
            }
        };
        self.due = now + wait;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_used_until_shortly_before_its_end() {
        let second = Duration::from_secs(1);
        for (ttl, full) in [(None, 30), (Some(0), 1), (Some(1), 1), (Some(10), 10), (Some(3600), 30)] {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..50 {
                let life = life(ttl.map(Duration::from_secs), 30 * second);
                assert!(life >= (second * full).mul_f64(0.8) && life < second * full, "{ttl:?}: {life:?}");
                seen.insert(life);
            }
            assert!(seen.len() > 1, "the same each time");
        }
        assert!(retry(Duration::from_secs(1)) < Duration::from_secs(1));
    }

    #[test]
    fn a_failure_keeps_the_addresses_and_an_empty_answer_does_not() {
        let (address, now) = (IpAddr::from([127, 0, 0, 1]), Instant::now());
        let mut half = HalfAddresses::known(vec![address], now);
        half.take(Err(LookupError::NoResponse), Duration::from_secs(30), now);
        assert_eq!((half.addresses.as_slice(), half.failure.is_some()), (&[address][..], true));
        half.take(Ok(FamilyAddresses::default()), Duration::from_secs(30), now);
        assert_eq!((half.addresses.as_slice(), half.failure.is_some()), (&[][..], false));
    }
}
