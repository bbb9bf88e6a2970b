//! A kind of discovery at work: what it announces becomes the members of the upstream, without a reload.

use super::member_table::MemberTable;
use super::names::Lookups;
use crate::telemetry::metrics::{LazyHandle, UpstreamMetrics};
use crate::telemetry::unix_millis;
use crate::upstream::address::{Address, Origin};
use crate::upstream::announced::{Announced, Departure, Identity, MemberSettings, MemberState, Tier};
use crate::upstream::monotonic_millis;
use async_trait::async_trait;
use log::Level;
use moongate_sdk::log_throttle;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// A kind of discovery.
#[async_trait]
pub trait Discovery: Send + Sync {
    /// What it reads, as `dns chat.internal.`: the origin of its members in status, metrics and log.
    fn source(&self) -> String;

    /// How long a member that is merely not announced any more is kept.
    fn hold(&self) -> Duration;

    /// Whether the files that its settings name are unchanged since they were read.
    fn is_current(&self) -> bool {
        true
    }

    /// Announces members to the feed until it is dropped.
    async fn run(&self, feed: &MemberFeed);
}

/// A member, as a kind of discovery announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewMember {
    pub(super) address: Address,
    pub(super) uid: Option<Arc<str>>,
    pub(super) host: Option<Arc<str>>,
    pub(super) zone: Option<Arc<str>>,
    pub(super) weight: u16,
    /// Whether it drains, as by `drain: true`.
    pub(super) marked: bool,
    /// Members of a higher number are selected only while none of a lower one is available.
    pub(super) priority: u16,
    pub(super) limit: Option<NonZeroU32>,
    /// Set while it leaves: its end in milliseconds of the upstream clock, if that is known.
    pub(super) leaving: Option<Option<u64>>,
    /// Where it comes from, if that is more than the source.
    pub(super) origin: Option<Arc<str>>,
}

impl NewMember {
    /// A member that serves, with weight 1.
    pub(super) fn at(address: Address) -> Self {
        Self {
            address,
            uid: None,
            host: None,
            zone: None,
            weight: 1,
            marked: false,
            priority: 0,
            limit: None,
            leaving: None,
            origin: None,
        }
    }

    /// A member that was announced before.
    pub(super) fn again(address: Address, announced: Announced) -> Self {
        let MemberSettings { weight, marked, tier, limit } = announced.settings;
        Self {
            uid: announced.uid,
            host: announced.host,
            zone: announced.zone,
            weight,
            marked,
            priority: tier.get().into(),
            limit,
            leaving: announced.departure.map(|departure| departure.deadline),
            origin: Some(announced.origin),
            ..Self::at(address)
        }
    }

    fn announced(self, tier: Tier, source: &Arc<str>, now: u64) -> (Identity, Announced) {
        let settings = MemberSettings { weight: self.weight, marked: self.marked, tier, limit: self.limit };
        let departure = self.leaving.map(|deadline| Departure { since: now, deadline });
        let origin = self.origin.unwrap_or_else(|| Arc::clone(source));
        let announced = Announced {
            host: self.host,
            uid: self.uid.clone(),
            zone: self.zone,
            departure,
            ..Announced::ready(settings, origin)
        };
        (Identity { address: self.address, uid: self.uid }, announced)
    }
}

/// A part of a source that has an error: its last good version stays, if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedMember {
    /// What names it in the source.
    pub key: Arc<str>,
    /// What is wrong.
    pub error: Arc<str>,
}

/// The most rejected members that the status has, and that the log names of one answer.
const MOST_REJECTIONS: usize = 20;

/// The state of a discovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedStatus {
    /// What it reads, as `dns chat.internal.`.
    pub source: Arc<str>,
    /// When it was read last without an error, in Unix milliseconds; `None` before.
    pub last_success: Option<u64>,
    /// Why the last read failed; `None` if it did not.
    pub error: Option<Arc<str>>,
    /// The members that serve.
    pub ready: usize,
    /// The members that leave.
    pub leaving: usize,
    /// The members that are not announced any more and still kept.
    pub absent: usize,
    /// The parts of the source with an error.
    pub rejected: usize,
    /// The first of them.
    pub rejections: Vec<RejectedMember>,
}

/// The members of a discovery, for the process that takes over in an upgrade: its own first read may fail.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct FeedState {
    source: String,
    /// When it was read last without an error, in Unix milliseconds.
    last_success: Option<u64>,
    members: Vec<FeedMemberState>,
}

impl FeedState {
    /// Both halves of its members, if it has at least two.
    ///
    /// # Errors
    /// Itself, if it has not.
    pub fn halves(mut self) -> Result<(Self, Self), Self> {
        match self.members.len() {
            0 | 1 => Err(self),
            many => {
                let members = self.members.split_off(many / 2);
                let second = Self { source: self.source.clone(), last_success: self.last_success, members };
                Ok((self, second))
            }
        }
    }

    /// Adds the members of a further part.
    pub fn append(&mut self, part: Self) {
        self.members.extend(part.members);
    }
}

/// A member. Times are in milliseconds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
struct FeedMemberState {
    address: String,
    uid: Option<Arc<str>>,
    host: Option<Arc<str>>,
    zone: Option<Arc<str>>,
    origin: Arc<str>,
    weight: u16,
    marked: bool,
    tier: u8,
    limit: Option<NonZeroU32>,
    leaving_ago: Option<u64>,
    time_left: Option<u64>,
    absent_ago: Option<u64>,
}

impl FeedMemberState {
    fn of(address: &Address, announced: &Announced, absent_since: Option<u64>, now: u64) -> Self {
        let MemberSettings { weight, marked, tier, limit } = announced.settings;
        let departure = announced.departure;
        Self {
            address: address.to_string(),
            uid: announced.uid.clone(),
            host: announced.host.clone(),
            zone: announced.zone.clone(),
            origin: Arc::clone(&announced.origin),
            weight,
            marked,
            tier: tier.get(),
            limit,
            leaving_ago: departure.map(|departure| now.saturating_sub(departure.since)),
            time_left: departure.and_then(|departure| Some(departure.deadline?.saturating_sub(now))),
            absent_ago: absent_since.map(|since| now.saturating_sub(since)),
        }
    }

    fn announced(self, now: u64) -> Option<(Identity, Announced, Option<u64>)> {
        let Ok(Origin::Fixed(address)) = Origin::parse(&self.address) else { return None };
        let tier = Tier::of_rank(usize::from(self.tier));
        let settings = MemberSettings { weight: self.weight, marked: self.marked, tier, limit: self.limit };
        let departure = self.leaving_ago.map(|ago| Departure {
            since: now.saturating_sub(ago),
            deadline: self.time_left.map(|left| now.saturating_add(left)),
        });
        let announced = Announced {
            uid: self.uid.clone(),
            host: self.host,
            zone: self.zone,
            departure,
            ..Announced::ready(settings, self.origin)
        };
        let absent_since = self.absent_ago.map(|ago| now.saturating_sub(ago));
        Some((Identity { address, uid: self.uid }, announced, absent_since))
    }
}

/// The end of a feed that a kind of discovery announces members to.
pub struct MemberFeed {
    upstream: Arc<str>,
    source: Arc<str>,
    table: Mutex<MemberTable>,
    outcome: Mutex<FeedOutcome>,
    /// Whether the first read has ended.
    is_answered: watch::Sender<bool>,
    changed: Arc<Notify>,
    metrics: Arc<LazyHandle<Arc<UpstreamMetrics>>>,
    lookups: Lookups,
}

#[derive(Clone, Debug, Default)]
struct FeedOutcome {
    last_success: Option<u64>,
    error: Option<Arc<str>>,
    rejected: Vec<RejectedMember>,
}

impl MemberFeed {
    /// The name of the upstream.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// The lookup settings of the upstream.
    pub(super) fn lookups(&self) -> Lookups {
        self.lookups
    }

    /// The members that the source announced last.
    pub(super) fn present(&self) -> Vec<(Address, Announced)> {
        let table = self.table.lock();
        let present = table.iter().filter(|(_, announced)| !announced.is_absent);
        present.map(|(address, announced)| (address.clone(), announced.clone())).collect()
    }

    /// These are the members now.
    pub(super) fn announce(&self, members: Vec<NewMember>) {
        self.replace(members);
        self.confirm();
    }

    /// These are the members now, and these parts of the source have an error.
    pub(super) fn announce_without(&self, members: Vec<NewMember>, rejected: Vec<RejectedMember>) {
        let news: Vec<_> = {
            let mut outcome = self.outcome.lock();
            let known: HashMap<_, _> =
                outcome.rejected.iter().map(|member| (&*member.key, &*member.error)).collect();
            let is_new = |member: &&RejectedMember| known.get(&*member.key) != Some(&&*member.error);
            let news = rejected.iter().filter(is_new).cloned().collect();
            outcome.rejected = rejected;
            news
        };
        for (index, member) in news.iter().enumerate() {
            self.metrics.discovery_failed(&self.source, "invalid");
            let message = "endpoint rejected; its last good version stays";
            // The source chooses the keys, and there may be many: the first ones are named.
            let key = if index < MOST_REJECTIONS { &*member.key } else { "" };
            if log_throttle::admit(Level::Warn, message, &[&self.upstream, key]) {
                log::warn!(upstream = &*self.upstream, key = &*member.key, reason = &*member.error; "{message}");
            }
        }
        self.announce(members);
    }

    /// The source was read without an error, and the members are the same.
    pub(super) fn confirm(&self) {
        let recovered = {
            let mut outcome = self.outcome.lock();
            outcome.last_success = Some(unix_millis());
            outcome.error.take()
        };
        if recovered.is_some() {
            log::info!(upstream = &*self.upstream, source = &*self.source; "discovery works again");
        }
        self.is_answered.send_replace(true);
    }

    /// These are the members now, and there is something wrong with them. `reason` is a label, `detail` is for the log.
    pub(super) fn announce_despite(
        &self,
        members: Vec<NewMember>,
        reason: &'static str,
        detail: impl fmt::Display,
    ) {
        self.replace(members);
        self.record_failure("discovery is incomplete; missing endpoints are held", reason, detail);
    }

    fn replace(&self, members: Vec<NewMember>) {
        let now = monotonic_millis::now();
        let tiers: BTreeSet<u16> = members.iter().map(|member| member.priority).collect();
        let tier = |priority: u16| Tier::of_rank(tiers.range(..priority).count());
        let mut announced: BTreeMap<Identity, Announced> = BTreeMap::new();
        for member in members {
            let tier = tier(member.priority);
            let (identity, member) = member.announced(tier, &self.source, now);
            announced.entry(identity).or_insert(member);
        }
        let is_changed = self.table.lock().replace(announced, now);
        if is_changed {
            self.metrics.members_changed(&self.source);
            self.changed.notify_one();
        }
    }

    /// A read failed; the members stay. `reason` is a label, `detail` is for the log.
    pub(super) fn fail(&self, reason: &'static str, detail: impl fmt::Display) {
        self.record_failure("discovery failed; last members kept", reason, detail);
    }

    fn record_failure(&self, message: &'static str, reason: &'static str, detail: impl fmt::Display) {
        let detail: Arc<str> = detail.to_string().into();
        self.metrics.discovery_failed(&self.source, reason);
        if log_throttle::admit(Level::Warn, message, &[&self.upstream, reason]) {
            log::warn!(upstream = &*self.upstream, source = &*self.source, reason = &*detail; "{message}");
        }
        self.outcome.lock().error = Some(detail);
        self.is_answered.send_replace(true);
    }
}

/// What a feed is made of.
pub(in crate::upstream) struct NewFeed<'a> {
    pub(in crate::upstream) upstream: &'a Arc<str>,
    pub(in crate::upstream) discovery: Box<dyn Discovery>,
    pub(in crate::upstream) metrics: Arc<LazyHandle<Arc<UpstreamMetrics>>>,
    /// The lookup settings of the upstream.
    pub(in crate::upstream) lookups: Lookups,
}

/// A kind of discovery with its members.
pub(in crate::upstream) struct Feed {
    discovery: Box<dyn Discovery>,
    members: MemberFeed,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("source", &self.members.source).finish_non_exhaustive()
    }
}

impl Feed {
    /// Starts with the members of an earlier one, if there was one: they stay until the first answer, and those that it
    /// does not name are held.
    pub(super) fn new(
        NewFeed { upstream, discovery, metrics, lookups }: NewFeed<'_>,
        earlier: Option<&Self>,
        changed: Arc<Notify>,
    ) -> Self {
        let hold = discovery.hold();
        let table = match earlier {
            Some(earlier) => earlier.members.table.lock().clone().with_hold(hold),
            None => MemberTable::new(hold),
        };
        let source: Arc<str> = discovery.source().into();
        let same = earlier.filter(|earlier| earlier.members.source == source);
        let outcome = same.map(|earlier| earlier.members.outcome.lock().clone()).unwrap_or_default();
        let is_answered =
            watch::Sender::new(same.is_some_and(|earlier| *earlier.members.is_answered.borrow()));
        let members = MemberFeed {
            upstream: Arc::clone(upstream),
            source,
            table: Mutex::new(table),
            outcome: Mutex::new(outcome),
            is_answered,
            changed,
            metrics,
            lookups,
        };
        Self { discovery, members }
    }

    /// Whether the files of its settings are unchanged.
    pub(in crate::upstream) fn is_current(&self) -> bool {
        self.discovery.is_current()
    }

    /// Reads until dropped.
    pub(in crate::upstream) async fn run(&self) {
        self.discovery.run(&self.members).await;
    }

    /// Waits until the first read has ended, with members or without.
    pub(in crate::upstream) async fn first_answer(&self) {
        // The sender lives as long as this.
        let _ = self.members.is_answered.subscribe().wait_for(|is_answered| *is_answered).await;
    }

    /// Calls `take` for each member; of two at one address first for the one that serves.
    pub(super) fn each(&self, now: u64, mut take: impl FnMut(&Address, &Announced)) {
        let mut table = self.members.table.lock();
        table.expire(now);
        let serves = |announced: &Announced| announced.state() != MemberState::Leaving;
        table.iter().filter(|(_, announced)| serves(announced)).for_each(|(at, member)| take(at, member));
        table.iter().filter(|(_, announced)| !serves(announced)).for_each(|(at, member)| take(at, member));
    }

    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.members.table.lock().next_expiry()
    }

    /// The members, for another process.
    pub(in crate::upstream) fn state(&self) -> FeedState {
        let now = monotonic_millis::now();
        let table = self.members.table.lock();
        let members = table
            .iter_held()
            .map(|(address, member, absent_since)| FeedMemberState::of(address, member, absent_since, now));
        FeedState {
            source: self.members.source.to_string(),
            last_success: self.members.outcome.lock().last_success,
            members: members.collect(),
        }
    }

    /// Starts with the members that another process had from the same source; returns whether there are any.
    pub(in crate::upstream) fn restore(&self, state: FeedState) -> bool {
        if *state.source != *self.members.source {
            return false;
        }
        let now = monotonic_millis::now();
        self.members.outcome.lock().last_success = state.last_success;
        let members = state.members.into_iter().filter_map(|member| member.announced(now));
        self.members.table.lock().restore(members, now)
    }

    /// The state for the status.
    pub(in crate::upstream) fn status(&self) -> FeedStatus {
        let FeedOutcome { last_success, error, rejected } = self.members.outcome.lock().clone();
        let named = || rejected.first().map(|first| format!("{}: {}", first.key, first.error).into());
        let table = self.members.table.lock();
        let count = |state| table.iter().filter(|(_, announced)| announced.state() == state).count();
        FeedStatus {
            source: Arc::clone(&self.members.source),
            last_success,
            error: error.or_else(named),
            ready: count(MemberState::Ready),
            leaving: count(MemberState::Leaving),
            absent: count(MemberState::Absent),
            rejected: rejected.len(),
            rejections: rejected.into_iter().take(MOST_REJECTIONS).collect(),
        }
    }
}
