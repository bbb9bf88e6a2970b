//! The SRV records of a name with the addresses of their targets: what to look up when, and the members.

use super::feed::{MemberFeed, NewMember};
use super::host_addresses::{HalfAddresses, life, reason, record_type, retry};
use super::srv_weights;
use crate::net::resolver::{Family, FamilyAddresses, LookupError, ServiceRecord, Services};
use crate::upstream::address::Address;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Lookups of targets at the same time.
const MOST_LOOKUPS: usize = 16;

/// How long answers wait for those of other targets.
const PATIENCE: Duration = Duration::from_secs(1);

/// The target of a service that is not available.
const NO_SERVICE: &str = ".";

/// The records of a response that follow the SRV records in the same time are asked for with them.
const WITH_THE_RECORDS: Duration = Duration::from_secs(1);

/// A question to name servers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    Records,
    Target(Arc<str>, Family),
}

/// The outcome of a lookup.
#[derive(Debug)]
pub(super) enum Answer {
    Records(Result<Services, LookupError>),
    Target(Result<FamilyAddresses, LookupError>),
}

/// The records with the addresses of their targets.
#[derive(Debug)]
pub(super) struct Targets {
    max_age: Duration,
    /// The addresses of an earlier run, by target.
    known: BTreeMap<Arc<str>, Vec<IpAddr>>,
    /// In the order of their priorities; `None` before the first answer.
    records: Option<Vec<ServiceRecord>>,
    /// Why the last lookup of the records has no answer.
    failure: Option<LookupError>,
    /// When to look the records up next.
    due: Instant,
    halves: BTreeMap<(Arc<str>, Family), HalfAddresses>,
    in_flight: BTreeSet<Question>,
    /// Set while there are answers that the feed does not have: when it gets them at the latest.
    news: Option<Instant>,
}

impl Targets {
    pub(super) fn new(max_age: Duration, known: BTreeMap<Arc<str>, Vec<IpAddr>>, now: Instant) -> Self {
        Self {
            max_age,
            known,
            records: None,
            failure: None,
            due: now,
            halves: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            news: None,
        }
    }

    /// The questions that are due. Each is asked once until its answer is taken.
    pub(super) fn begin(&mut self, now: Instant) -> Vec<Question> {
        let mut questions = Vec::new();
        if self.due <= now && self.in_flight.insert(Question::Records) {
            questions.push(Question::Records);
        }
        let targets = self.halves.iter().filter(|(_, half)| half.due <= now);
        for ((target, family), _) in targets {
            if self.in_flight.len() >= MOST_LOOKUPS {
                break;
            }
            let question = Question::Target(Arc::clone(target), *family);
            if self.in_flight.insert(question.clone()) {
                questions.push(question);
            }
        }
        questions
    }

    /// Everything is due, also what is in flight.
    pub(super) fn look_up_all(&mut self, now: Instant) {
        self.due = now;
        self.halves.values_mut().for_each(|half| half.due = now);
        self.in_flight.clear();
    }

    /// When the next question is due, or answers have waited for long enough.
    pub(super) fn wake(&self) -> Instant {
        let is_idle = |question: &Question| !self.in_flight.contains(question);
        let records = Some(self.due).filter(|_| is_idle(&Question::Records));
        let has_room = self.in_flight.len() < MOST_LOOKUPS;
        let idle = self.halves.iter().filter(|((target, family), _)| {
            has_room && is_idle(&Question::Target(Arc::clone(target), *family))
        });
        let next = idle.map(|(_, half)| half.due).chain(records).chain(self.news).min();
        next.unwrap_or_else(|| Instant::now() + self.max_age)
    }

    /// Takes an answer.
    pub(super) fn take(&mut self, question: Question, answer: Answer, now: Instant) {
        if !self.in_flight.remove(&question) {
            return;
        }
        match (question, answer) {
            (_, Answer::Records(Ok(services))) => self.take_records(services, now),
            (_, Answer::Records(Err(error))) => {
                self.failure = Some(error);
                self.due = now + retry(self.max_age);
            }
            (Question::Target(target, family), Answer::Target(answer)) => {
                let Some(half) = self.halves.get_mut(&(Arc::clone(&target), family)) else { return };
                half.take(answer, self.max_age, now);
                self.look_up_soon_without_addresses(&target, now);
            }
            (Question::Records, Answer::Target(_)) => {}
        }
        self.news.get_or_insert(now + PATIENCE);
    }

    fn take_records(&mut self, services: Services, now: Instant) {
        let Services { mut records, ttl, additional } = services;
        self.failure = None;
        self.due = now
            + match records.is_empty() {
                true => retry(self.max_age),
                false => life(ttl, self.max_age),
            };
        records.sort_by_key(|record| record.priority);
        let targets: BTreeSet<_> = records
            .iter()
            .filter(|record| is_usable(record))
            .map(|record| Arc::clone(&record.target))
            .collect();
        self.halves.retain(|(target, _), _| targets.contains(target));
        for target in targets {
            for family in [Family::V4, Family::V6] {
                let key = (Arc::clone(&target), family);
                let known = self.known.get(&target).into_iter().flatten().copied();
                let known = known.filter(|address| Family::of(*address) == family);
                let half = self
                    .halves
                    .entry(key.clone())
                    .or_insert_with(|| HalfAddresses::known(known.collect(), now));
                let Some(addresses) = additional.get(&key) else { continue };
                half.take(Ok(addresses.clone()), self.max_age, now);
                if addresses.ttl >= ttl {
                    half.due = self.due + WITH_THE_RECORDS;
                }
            }
        }
        // From now on the addresses are in the halves.
        self.known.clear();
        self.records = Some(records);
    }

    /// A target without any address is looked up again soon.
    fn look_up_soon_without_addresses(&mut self, target: &Arc<str>, now: Instant) {
        let keys = [Family::V4, Family::V6].map(|family| (Arc::clone(target), family));
        if keys.iter().all(|key| self.halves.get(key).is_some_and(HalfAddresses::is_empty)) {
            let soon = now + retry(self.max_age);
            for key in keys {
                self.halves.entry(key).and_modify(|half| half.due = half.due.min(soon));
            }
        }
    }

    /// Whether the feed should get the answers now: there are all, or some have waited for long enough.
    pub(super) fn has_news(&self, now: Instant) -> bool {
        let Some(latest) = self.news else { return false };
        let is_complete = self.in_flight.is_empty() && self.halves.values().all(|half| half.is_looked_up);
        is_complete || latest <= now
    }

    /// Tells the feed.
    pub(super) fn tell(&mut self, feed: &MemberFeed) {
        self.news = None;
        let Some(records) = &self.records else {
            if let Some(error) = &self.failure {
                feed.fail(reason(error), format!("SRV: {error}"));
            }
            return;
        };
        if !self.halves.is_empty() && !self.halves.values().any(|half| half.is_looked_up) {
            return;
        }
        let members = self.members(records);
        match self.problem(records) {
            Some((reason, detail)) => feed.announce_despite(members, reason, detail),
            None => feed.announce(members),
        }
    }

    fn members(&self, records: &[ServiceRecord]) -> Vec<NewMember> {
        let records: Vec<_> = records.iter().filter(|record| is_usable(record)).collect();
        let weights = srv_weights::scale(records.iter().map(|record| (record.priority, record.weight)));
        let mut members = Vec::new();
        for (record, weight) in records.into_iter().zip(weights) {
            for family in [Family::V4, Family::V6] {
                let half = self.halves.get(&(Arc::clone(&record.target), family));
                let addresses = half.into_iter().flat_map(|half| &half.addresses);
                members.extend(addresses.map(|ip| NewMember {
                    uid: Some(Arc::clone(&record.target)),
                    host: Some(Arc::clone(&record.target)),
                    weight,
                    priority: record.priority,
                    ..NewMember::at(Address::Tcp(SocketAddr::new(*ip, record.port)))
                }));
            }
        }
        members
    }

    /// What is wrong: a label and a text.
    fn problem(&self, records: &[ServiceRecord]) -> Option<(&'static str, String)> {
        if let Some(error) = &self.failure {
            return Some((reason(error), format!("SRV: {error}")));
        }
        if records.is_empty() {
            return Some(("not_found", "the name has no SRV records".to_owned()));
        }
        if records.iter().all(|record| &*record.target == NO_SERVICE) {
            return Some(("no_service", "the service is not available: its target is `.`".to_owned()));
        }
        if let Some(record) = records.iter().find(|record| record.port == 0 && &*record.target != NO_SERVICE)
        {
            return Some(("invalid", format!("the record of `{}` has port 0", record.target)));
        }
        let failed = self.halves.iter().find_map(|((target, family), half)| {
            let error = half.failure.as_ref()?;
            Some((reason(error), format!("{} of `{target}`: {error}", record_type(*family))))
        });
        let is_empty = |family, target| {
            self.halves.get(&(Arc::clone(target), family)).is_some_and(HalfAddresses::is_empty)
        };
        failed.or_else(|| {
            let targets = records.iter().map(|record| &record.target);
            let mut empty =
                targets.filter(|target| is_empty(Family::V4, target) && is_empty(Family::V6, target));
            empty.next().map(|target| ("not_found", format!("the target `{target}` has no addresses")))
        })
    }
}

/// Whether a record names a server.
fn is_usable(record: &ServiceRecord) -> bool {
    &*record.target != NO_SERVICE && record.port != 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    const MAX_AGE: Duration = Duration::from_secs(30);

    fn record(priority: u16, weight: u16, port: u16, target: &str) -> ServiceRecord {
        ServiceRecord { priority, weight, port, target: target.into() }
    }

    fn services(records: Vec<ServiceRecord>) -> Answer {
        let ttl = Some(Duration::from_secs(20));
        Answer::Records(Ok(Services { records, ttl, additional: BTreeMap::new() }))
    }

    fn addresses(addresses: &[&str]) -> Answer {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Answer::Target(Ok(FamilyAddresses { addresses, ttl: Some(Duration::from_secs(10)) }))
    }

    fn question(target: &str, family: Family) -> Question {
        Question::Target(target.into(), family)
    }

    fn started() -> (Targets, Instant) {
        let now = Instant::now();
        let mut targets = Targets::new(MAX_AGE, BTreeMap::new(), now);
        assert_eq!(targets.begin(now), [Question::Records]);
        assert_eq!(targets.begin(now), []);
        (targets, now)
    }

    /// Answers everything that is due, by target.
    fn settle(targets: &mut Targets, now: Instant, known: &[(&str, &[&str])]) {
        loop {
            let questions = targets.begin(now);
            if questions.is_empty() {
                break;
            }
            for question in questions {
                let Question::Target(target, family) = &question else { continue };
                let of = known.iter().filter(|(name, _)| *name == &**target).flat_map(|(_, all)| *all);
                let is_family = |text: &&&str| Family::of(text.parse().unwrap()) == *family;
                let found: Vec<_> = of.filter(is_family).copied().collect();
                targets.take(question, addresses(&found), now);
            }
        }
    }

    fn shown(targets: &Targets) -> Vec<String> {
        let members = targets.members(targets.records.as_ref().unwrap());
        let shown = |member: NewMember| {
            let NewMember { address, uid, weight, priority, .. } = member;
            format!("{address} {} {priority} {weight}", uid.unwrap())
        };
        members.into_iter().map(shown).collect()
    }

    fn problem(targets: &Targets) -> Option<&'static str> {
        targets.problem(targets.records.as_ref().unwrap()).map(|(reason, _)| reason)
    }

    #[test]
    fn each_address_of_each_target_is_a_member() {
        let (mut targets, now) = started();
        let records = vec![
            record(2, 7, 82, "b."),
            record(1, 0, 81, "a."),
            record(1, 500, 81, "c."),
            record(1, 1, 81, "c."),
        ];
        targets.take(Question::Records, services(records), now);
        assert!(!targets.has_news(now));
        settle(
            &mut targets,
            now,
            &[("a.", &["10.0.0.1", "fd00::1"]), ("b.", &["10.0.0.1"]), ("c.", &["10.0.0.3"])],
        );
        assert!(targets.has_news(now));
        let expected = [
            "10.0.0.1:81 a. 1 1",
            "[fd00::1]:81 a. 1 1",
            "10.0.0.3:81 c. 1 1000",
            "10.0.0.3:81 c. 1 2",
            "10.0.0.1:82 b. 2 7",
        ];
        assert_eq!(shown(&targets), expected);
        assert_eq!(problem(&targets), None);
        assert!(targets.wake() > now);
    }

    #[test]
    fn a_failure_of_a_target_keeps_its_addresses_and_no_others() {
        let (mut targets, now) = started();
        targets.take(Question::Records, services(vec![record(1, 1, 81, "a."), record(1, 1, 82, "b.")]), now);
        settle(&mut targets, now, &[("a.", &["10.0.0.1"]), ("b.", &["10.0.0.2"])]);
        let later = now + MAX_AGE;
        assert_eq!(targets.begin(later).len(), 5);
        targets.take(question("a.", Family::V4), Answer::Target(Err(LookupError::NoResponse)), later);
        targets.take(question("b.", Family::V4), addresses(&["10.0.0.3"]), later);
        assert_eq!(shown(&targets), ["10.0.0.1:81 a. 1 1", "10.0.0.3:82 b. 1 1"]);
        assert_eq!(problem(&targets), Some("timeout"));
        // A failure of the records keeps the targets.
        targets.take(Question::Records, Answer::Records(Err(LookupError::Failed("SERVFAIL".into()))), later);
        assert_eq!(shown(&targets).len(), 2);
        assert_eq!(problem(&targets), Some("failed"));
    }

    #[test]
    fn a_slow_target_delays_the_others_for_a_moment() {
        let (mut targets, now) = started();
        targets.take(Question::Records, services(vec![record(1, 1, 81, "a."), record(1, 1, 82, "b.")]), now);
        targets.begin(now);
        targets.take(question("b.", Family::V4), addresses(&["10.0.0.2"]), now);
        assert!(!targets.has_news(now));
        assert_eq!(targets.wake(), now + PATIENCE);
        assert!(targets.has_news(now + PATIENCE));
        assert_eq!(shown(&targets), ["10.0.0.2:82 b. 1 1"]);
    }

    #[test]
    fn additional_addresses_save_queries() {
        let (mut targets, now) = started();
        let ttl = Some(Duration::from_secs(20));
        let v4 = FamilyAddresses { addresses: vec![[10, 0, 0, 1].into()], ttl };
        let additional =
            [(("a.".into(), Family::V4), v4.clone()), (("other.".into(), Family::V4), v4)].into();
        let answer = Services { records: vec![record(1, 1, 81, "a.")], ttl, additional };
        targets.take(Question::Records, Answer::Records(Ok(answer)), now);
        assert_eq!(targets.begin(now), [question("a.", Family::V6)]);
        targets.take(question("a.", Family::V6), addresses(&[]), now);
        assert_eq!(shown(&targets), ["10.0.0.1:81 a. 1 1"]);
        // The next response has them again.
        let due = targets.due;
        assert!(targets.begin(due).contains(&Question::Records));
        assert!(!targets.in_flight.contains(&question("a.", Family::V4)));
    }

    #[test]
    fn answers_without_a_server_say_so() {
        for (records, reason) in [
            (vec![], "not_found"),
            (vec![record(0, 0, 0, ".")], "no_service"),
            (vec![record(0, 0, 0, "a.")], "invalid"),
        ] {
            let (mut targets, now) = started();
            targets.take(Question::Records, services(records), now);
            assert!(targets.has_news(now));
            assert_eq!((shown(&targets).len(), problem(&targets)), (0, Some(reason)));
            assert!(targets.wake() > now);
        }
        let (mut targets, now) = started();
        targets.take(Question::Records, services(vec![record(1, 1, 81, "a."), record(1, 1, 81, ".")]), now);
        settle(&mut targets, now, &[]);
        assert_eq!(problem(&targets), Some("not_found"));
        // Soon again, before their lifetime ends.
        assert!(targets.wake() < now + Duration::from_secs(6));
    }

    #[test]
    fn the_lookups_at_the_same_time_are_bounded() {
        let (mut targets, now) = started();
        let names: Vec<_> = (0..100).map(|n| format!("t{n}.")).collect();
        let records = names.iter().map(|name| record(1, 1, 81, name)).collect();
        targets.take(Question::Records, services(records), now);
        let mut running = targets.begin(now);
        assert_eq!(running.len(), MOST_LOOKUPS);
        assert!(targets.wake() > now, "nothing can be begun now");
        let mut asked = 0;
        while let Some(question) = running.pop() {
            asked += 1;
            targets.take(question, addresses(&["10.0.0.1"]), now);
            running.extend(targets.begin(now));
            assert!(running.len() <= MOST_LOOKUPS);
        }
        assert_eq!(asked, 200);
        assert!(targets.has_news(now));
    }

    #[test]
    fn the_addresses_of_an_earlier_run_stay_while_a_target_fails() {
        let now = Instant::now();
        let known = [("a.".into(), vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()])].into();
        let mut targets = Targets::new(MAX_AGE, known, now);
        targets.begin(now);
        targets.take(Question::Records, services(vec![record(1, 1, 81, "a.")]), now);
        targets.begin(now);
        targets.take(question("a.", Family::V4), addresses(&["10.0.0.2"]), now);
        targets.take(question("a.", Family::V6), Answer::Target(Err(LookupError::NoResponse)), now);
        assert_eq!(shown(&targets), ["10.0.0.2:81 a. 1 1", "[fd00::1]:81 a. 1 1"]);
    }
}
