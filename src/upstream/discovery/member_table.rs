//! The members that one source has announced. One that the source does not announce any more is kept for `hold`, so that
//! a name server that answers with some of its addresses in turn removes none.

use crate::upstream::address::Address;
use crate::upstream::announced::{Announced, Identity};
use std::collections::BTreeMap;
use std::time::Duration;

/// The members of one source. Times are milliseconds of the upstream clock.
#[derive(Clone, Debug)]
pub(super) struct MemberTable {
    hold: u64,
    members: BTreeMap<Identity, Held>,
}

#[derive(Clone, Debug)]
struct Held {
    announced: Announced,
    absent_since: Option<u64>,
}

impl MemberTable {
    /// An empty table.
    pub(super) fn new(hold: Duration) -> Self {
        Self { hold: u64::try_from(hold.as_millis()).unwrap_or(u64::MAX), members: BTreeMap::new() }
    }

    /// The same members with another `hold`.
    pub(super) fn with_hold(self, hold: Duration) -> Self {
        Self { members: self.members, ..Self::new(hold) }
    }

    /// Takes over the members of another process, absent ones with the time since when. Returns whether there are any.
    pub(super) fn restore(
        &mut self,
        members: impl IntoIterator<Item = (Identity, Announced, Option<u64>)>,
        now: u64,
    ) -> bool {
        self.members = members
            .into_iter()
            .map(|(identity, announced, absent_since)| {
                let is_absent = absent_since.is_some();
                (identity, Held { announced: Announced { is_absent, ..announced }, absent_since })
            })
            .collect();
        self.expire(now);
        !self.members.is_empty()
    }

    /// The source announces these members and no others. Returns whether anything changed.
    pub(super) fn replace(&mut self, announced: BTreeMap<Identity, Announced>, now: u64) -> bool {
        let mut is_changed = false;
        let before = std::mem::take(&mut self.members);
        let mut absent: Vec<(Identity, Held)> = Vec::new();
        let mut known: BTreeMap<Identity, Held> = BTreeMap::new();
        for (identity, held) in before {
            match announced.contains_key(&identity) {
                true => drop(known.insert(identity, held)),
                false => absent.push((identity, held)),
            }
        }
        for (identity, mut announced) in announced {
            let earlier = known.remove(&identity);
            // It has left since the first announcement of that.
            let earlier_departure = earlier.as_ref().and_then(|held| held.announced.departure);
            if let (Some(departure), Some(earlier)) = (&mut announced.departure, earlier_departure) {
                departure.since = earlier.since;
            }
            is_changed |= earlier.is_none_or(|held| held.announced != announced);
            self.members.insert(identity, Held { announced, absent_since: None });
        }
        for (identity, mut held) in absent {
            // Its address has another member now, or it has left, as it had announced.
            if self.has_address(&identity.address) || held.announced.departure.is_some() {
                is_changed = true;
                continue;
            }
            if held.absent_since.is_none() {
                is_changed = true;
                held.absent_since = Some(now);
                held.announced.is_absent = true;
            }
            self.members.insert(identity, held);
        }
        is_changed |= self.expire(now);
        is_changed
    }

    /// Removes members that have been absent for `hold`. Returns whether there were any.
    pub(super) fn expire(&mut self, now: u64) -> bool {
        let (before, hold) = (self.members.len(), self.hold);
        self.members.retain(|_, held| held.absent_since.is_none_or(|since| now < since.saturating_add(hold)));
        self.members.len() != before
    }

    /// When the next absent member is removed.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        let absent = self.members.values().filter_map(|held| held.absent_since);
        absent.min().map(|since| since.saturating_add(self.hold))
    }

    fn has_address(&self, address: &Address) -> bool {
        let from = Identity { address: address.clone(), uid: None };
        self.members.range(from..).next().is_some_and(|(identity, _)| identity.address == *address)
    }

    /// The members, ordered by address.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Address, &Announced)> {
        self.members.iter().map(|(identity, held)| (&identity.address, &held.announced))
    }

    /// The same, with the time since when one is absent.
    pub(super) fn iter_held(&self) -> impl Iterator<Item = (&Address, &Announced, Option<u64>)> {
        let held = self.members.iter();
        held.map(|(identity, held)| (&identity.address, &held.announced, held.absent_since))
    }

    /// Returns whether there is no member.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::upstream::announced::{Departure, MemberSettings};
    use proptest::prelude::*;

    fn member(port: u16, uid: &str) -> (Identity, Announced) {
        let uid = (!uid.is_empty()).then(|| uid.into());
        let settings = MemberSettings { weight: 1, ..MemberSettings::default() };
        let address = Address::Tcp(([127, 0, 0, 1], port).into());
        let announced = Announced { uid: uid.clone(), ..Announced::ready(settings, "test".into()) };
        (Identity { address, uid }, announced)
    }

    fn names(table: &MemberTable) -> Vec<String> {
        let name = |(address, announced): (&Address, &Announced)| {
            let uid = announced.uid.as_deref().unwrap_or_default();
            format!(
                "{}{uid}{}",
                address.to_string().trim_start_matches("127.0.0.1:"),
                match announced.is_absent {
                    true => "?",
                    false => "",
                }
            )
        };
        table.iter().map(name).collect()
    }

    fn set<const N: usize>(members: [(Identity, Announced); N]) -> BTreeMap<Identity, Announced> {
        members.into()
    }

    #[test]
    fn an_absent_member_is_kept_for_the_hold() {
        let mut table = MemberTable::new(Duration::from_millis(100));
        assert!(table.replace(set([member(1, ""), member(2, "")]), 0));
        assert!(!table.replace(set([member(1, ""), member(2, "")]), 10));
        assert!(table.replace(set([member(2, ""), member(3, "")]), 20));
        assert_eq!(names(&table), ["1?", "2", "3"]);
        assert_eq!(table.next_expiry(), Some(120));
        assert!(!table.expire(119));
        // Announced again in time, it has never left.
        assert!(table.replace(set([member(1, ""), member(3, "")]), 119));
        assert_eq!(names(&table), ["1", "2?", "3"]);
        assert!(table.expire(219));
        assert_eq!(names(&table), ["1", "3"]);
        assert_eq!(table.next_expiry(), None);
    }

    #[test]
    fn a_hold_goes_on_in_another_process() {
        let mut table = MemberTable::new(Duration::from_millis(100));
        table.replace(set([member(1, ""), member(2, "")]), 0);
        table.replace(set([member(2, "")]), 20);
        let held: Vec<_> = table
            .iter_held()
            .map(|(address, announced, absent)| {
                (Identity { address: address.clone(), uid: None }, announced.clone(), absent)
            })
            .collect();
        let mut restored = MemberTable::new(Duration::from_millis(100));
        assert!(restored.restore(held, 50));
        assert_eq!(names(&restored), ["1?", "2"]);
        assert_eq!(restored.next_expiry(), Some(120));
        // The source is read, and names the same.
        assert!(!restored.replace(set([member(2, "")]), 60));
        assert!(restored.expire(120));
        assert_eq!(names(&restored), ["2"]);
    }

    #[test]
    fn without_a_hold_an_absent_member_is_removed_at_once() {
        let mut table = MemberTable::new(Duration::ZERO);
        table.replace(set([member(1, ""), member(2, "")]), 5);
        assert!(table.replace(set([member(1, "")]), 5));
        assert_eq!(names(&table), ["1"]);
    }

    #[test]
    fn another_uid_at_an_address_takes_its_place() {
        let mut table = MemberTable::new(Duration::from_secs(30));
        table.replace(set([member(1, "a")]), 0);
        assert!(table.replace(set([member(1, "b")]), 1));
        assert_eq!(names(&table), ["1b"]);
    }

    #[test]
    fn a_member_that_leaves_does_so_from_its_first_announcement_and_is_not_held() {
        let mut table = MemberTable::new(Duration::from_secs(30));
        table.replace(set([member(1, "a"), member(2, "a")]), 0);
        let leaving = |since| {
            let (identity, announced) = member(1, "a");
            (identity, Announced { departure: Some(Departure { since, deadline: Some(90) }), ..announced })
        };
        assert!(table.replace(set([leaving(10), member(2, "a")]), 10));
        assert!(!table.replace(set([leaving(20), member(2, "a")]), 20));
        assert_eq!(table.iter().next().unwrap().1.departure.unwrap().since, 10);
        assert!(table.replace(set([member(2, "a")]), 30));
        assert_eq!(names(&table), ["2a"]);
    }

    proptest! {
        /// Whatever a source announces, a member is there while it is announced and for `hold` after it.
        #[test]
        fn members_are_those_announced_within_the_hold(steps in prop::collection::vec((0_u8..16, 0_u64..40), 1..40)) {
            let mut table = MemberTable::new(Duration::from_millis(50));
            let (mut now, mut last) = (0, BTreeMap::new());
            for (mask, pause) in steps {
                now += pause;
                let ports: Vec<u16> = (0..4).filter(|bit| mask & (1 << bit) != 0).collect();
                for port in &ports {
                    last.insert(*port, None);
                }
                for (port, absent) in &mut last {
                    if !ports.contains(port) {
                        absent.get_or_insert(now);
                    }
                }
                last.retain(|_, absent| absent.is_none_or(|since| now < since + 50));
                table.replace(ports.iter().map(|port| member(*port, "")).collect(), now);
                let ports: Vec<u16> = table.iter().map(|(address, _)| match address {
                    Address::Tcp(address) => address.port(),
                    Address::Unix(_) => 0,
                }).collect();
                prop_assert_eq!(ports, last.keys().copied().collect::<Vec<_>>());
            }
        }
    }
}
