//! The members and the candidates of one request, as a balancer sees them.

use crate::upstream::announced::{Announced, MemberSettings, Tier};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::slow_start::{SlowStart, WHOLE};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Words of the set that are stored inline: up to 256 members cost no allocation.
const FEW: usize = 4;

/// An endpoint with its weight.
#[derive(Clone, Debug)]
pub struct Member {
    endpoint: Arc<Endpoint>,
    weight: u16,
    tier: Tier,
    /// The most requests and WebSockets at the endpoint.
    limit: Option<NonZeroU32>,
    /// When its `drain: true` took effect, in milliseconds of the upstream clock.
    marked: Option<u64>,
    /// What its source says of it.
    announced: Arc<Announced>,
}

impl Member {
    pub(in crate::upstream) fn new(endpoint: Arc<Endpoint>, announced: Arc<Announced>) -> Self {
        let MemberSettings { weight, tier, limit, .. } = announced.settings;
        let tier = if announced.departure.is_some() { tier.leaving() } else { tier };
        Self { endpoint, weight, tier, limit, marked: None, announced }
    }

    /// What its source says of it.
    pub(in crate::upstream) fn announced(&self) -> &Arc<Announced> {
        &self.announced
    }

    /// The same member with another endpoint.
    pub(in crate::upstream) fn with_endpoint(&self, endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, ..self.clone() }
    }

    pub(in crate::upstream) fn marked(self, marked: Option<u64>) -> Self {
        Self { marked, ..self }
    }

    /// When the configured drain began, in milliseconds of the upstream clock.
    pub(in crate::upstream) fn marked_since(&self) -> Option<u64> {
        self.marked
    }

    /// When the drain began: configured, ordered by an operator or announced by its source.
    pub(in crate::upstream) fn draining_since(&self) -> Option<u64> {
        let announced = self.announced.departure.map(|departure| departure.since);
        self.marked.into_iter().chain(self.endpoint.drained_since()).chain(announced).min()
    }

    /// Returns whether the member accepts new connections while it is healthy. One that leaves does, in a later tier.
    pub(in crate::upstream) fn is_open(&self) -> bool {
        self.weight > 0 && self.marked.is_none() && !self.endpoint.is_drained()
    }

    /// Returns whether the member accepts new connections and is healthy.
    pub(in crate::upstream) fn is_usable(&self) -> bool {
        self.is_open() && self.endpoint.is_usable()
    }

    /// Returns whether the endpoint has as many requests and WebSockets as `max_connections` allows.
    pub(in crate::upstream) fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.active() >= limit.get() as usize)
    }

    /// The tier.
    pub(in crate::upstream) fn tier(&self) -> Tier {
        self.tier
    }

    /// `max_connections`.
    pub(in crate::upstream) fn limit(&self) -> Option<NonZeroU32> {
        self.limit
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The configured weight, 0 to 1000; a member with 0 is never a candidate. [`Candidates::share`] is its
    /// current part.
    pub fn weight(&self) -> u16 {
        self.weight
    }

    /// Requests and WebSockets at the endpoint.
    pub fn active(&self) -> usize {
        self.endpoint.active()
    }

    /// The decayed peak latency in microseconds; 0 if unknown.
    pub fn latency(&self) -> f32 {
        self.endpoint.latency()
    }
}

/// All members of an upstream, usable or not. None of them is new.
#[derive(Clone, Copy)]
pub struct AllMembers<'a>(&'a [Member]);

impl<'a> AllMembers<'a> {
    pub(in crate::upstream) fn new(members: &'a [Member]) -> Self {
        Self(members)
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The member at `index` if it accepts new connections and is healthy.
    pub fn usable(&self, index: usize) -> Option<&'a Member> {
        self.0.get(index).filter(|member| member.is_usable())
    }
}

/// The members that may be chosen for one request.
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    members: &'a [Member],
    open: &'a Open,
    /// The slow start, while a member is new.
    slow: Option<SlowStart>,
    /// Another member was tried before.
    is_retry: bool,
}

impl<'a> Candidates<'a> {
    pub(in crate::upstream) fn new(members: &'a [Member], open: &'a Open, slow: Option<SlowStart>) -> Self {
        Self { members, open, slow, is_retry: false }
    }

    /// Marks the candidates as those of a retry.
    pub(in crate::upstream) fn for_retry(self) -> Self {
        Self { is_retry: true, ..self }
    }

    /// Returns whether this is a retry: the request already used its turn.
    pub fn are_for_retry(&self) -> bool {
        self.is_retry
    }

    /// The current share of a member: its weight in thousandths, less during its slow start.
    pub fn share(&self, member: &Member) -> u32 {
        u32::from(member.weight) * self.slow.map_or(WHOLE, |slow| slow.of(&member.endpoint))
    }

    /// The sum of the shares of all candidates.
    pub fn shares(&self) -> u64 {
        self.iter().map(|(_, member)| u64::from(self.share(member))).sum()
    }

    /// The candidate whose share holds `point`, when the shares are laid end to end.
    pub(super) fn at_share(&self, mut point: u64) -> Option<usize> {
        for (index, member) in self.iter() {
            let share = u64::from(self.share(member));
            if point < share {
                return Some(index);
            }
            point -= share;
        }
        None
    }

    /// Whether shares differ from weights because one of the members is new.
    pub fn have_newcomers(&self) -> bool {
        self.slow.is_some()
    }

    /// The candidates that compete by load. An idle new endpoint would win every comparison of loads. So it
    /// competes only as often as its part of all shares. `None` means all candidates: none is new, or all
    /// are.
    pub(super) fn competitors(&self) -> Option<Open> {
        let slow = self.slow?;
        let is_new = |(_, member): &(usize, &Member)| slow.is_new(&member.endpoint);
        if self.iter().all(|candidate| is_new(&candidate)) {
            return None;
        }
        let drawn = self.at_share(fastrand::u64(..self.shares().max(1)));
        let mut open = self.open.clone();
        let waiting = self.iter().filter(is_new).filter(|(index, _)| Some(*index) != drawn);
        waiting.for_each(|(index, _)| open.remove(index));
        Some(open)
    }

    /// The same members with another set of candidates.
    pub(super) fn among(self, open: Option<&'a Open>) -> Self {
        Self { open: open.unwrap_or(self.open), ..self }
    }

    /// The number of candidates.
    pub fn len(&self) -> usize {
        self.open.words().iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Returns whether there is no candidate.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns whether the member at `index` is a candidate.
    pub fn contains(&self, index: usize) -> bool {
        self.open.contains(index)
    }

    /// The candidates with their indices, in the order of the members.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a Member)> + '_ {
        self.open.iter().filter_map(|index| Some((index, self.members.get(index)?)))
    }

    /// The `n`th candidate, from 0.
    pub fn nth(&self, n: usize) -> Option<(usize, &'a Member)> {
        self.iter().nth(n)
    }
}

/// A set of indices.
#[derive(Clone)]
pub(in crate::upstream) enum Open {
    Few([u64; FEW]),
    Many(Box<[u64]>),
}

impl Open {
    /// The empty set, with capacity for `members` indices.
    pub(in crate::upstream) fn with_room(members: usize) -> Self {
        let words = members.div_ceil(64);
        if words <= FEW { Self::Few([0; FEW]) } else { Self::Many(vec![0; words].into()) }
    }

    pub(in crate::upstream) fn insert(&mut self, index: usize) {
        if let Some(word) = self.words_mut().get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    pub(in crate::upstream) fn remove(&mut self, index: usize) {
        if let Some(word) = self.words_mut().get_mut(index / 64) {
            *word &= !(1 << (index % 64));
        }
    }

    pub(in crate::upstream) fn contains(&self, index: usize) -> bool {
        self.words().get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    pub(in crate::upstream) fn is_empty(&self) -> bool {
        self.words().iter().all(|word| *word == 0)
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words().iter().enumerate().flat_map(|(n, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(n * 64 + bit)
            })
        })
    }

    fn words(&self) -> &[u64] {
        match self {
            Self::Few(words) => words,
            Self::Many(words) => words,
        }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Few(words) => words,
            Self::Many(words) => words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_holds_few_and_many() {
        for room in [1, 64, 256, 257, 1000] {
            let mut open = Open::with_room(room);
            assert!(open.is_empty());
            for index in (0..room).step_by(3) {
                open.insert(index);
            }
            assert!(open.iter().eq((0..room).step_by(3)), "{room}");
            open.remove(0);
            assert!(!open.contains(0) && !open.contains(1) && !open.contains(room + 64));
        }
    }
}
