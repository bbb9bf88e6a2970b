//! The members and the candidates of one request, as a balancer sees them.
//!
//! What many requests have in common is prepared once, in a [`CandidateSet`]. A request adds what it excludes: members that
//! were tried for it, and full ones.

use super::open::Open;
use super::ring::Point;
use super::share_table::ShareTable;
use crate::upstream::announced::{Announced, MemberSettings, Tier};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint_watch::EndpointWatch;
use crate::upstream::slow_start::{SlowStart, WHOLE};
use crate::upstream::tried_endpoints::TriedEndpoints;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// The most draws for one choice. Among candidates of which half are excluded, one in 65,000 choices finds none.
pub(super) const DRAWS: usize = 16;

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

    /// The configured weight, 0 to 1000; a member with 0 is never a candidate. Its share is its
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

/// Candidates, prepared for the choices of many requests.
pub(in crate::upstream) struct CandidateSet {
    /// Greater than that of every set before.
    id: u64,
    /// The indices of the candidates, in the order of the members. A position is an index into it.
    indices: Box<[u32]>,
    /// The same as a set.
    open: Open,
    shares: Shares,
    /// The positions of those that are not new, while some are.
    mature: Option<Box<[u32]>>,
    /// Whether a candidate is new.
    has_newcomers: bool,
    table: OnceLock<ShareTable>,
    /// Whether the set is for many requests.
    is_kept: bool,
    /// The points of the candidates on the ring, of a set for many requests.
    points: OnceLock<Box<[Point]>>,
    /// Knows the candidates by load.
    watch: Option<Arc<EndpointWatch>>,
}

/// The shares of candidates, by position: the weights in thousandths, less during a slow start.
enum Shares {
    Equal(u32),
    Different(Box<[u32]>),
}

impl CandidateSet {
    /// The set of the members at the indices of `open`; `slow` is the slow start at this moment, if there is one.
    pub(in crate::upstream) fn new(members: &[Member], open: Open, slow: Option<SlowStart>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let indices: Box<[u32]> = open.iter().map(|index| index as u32).collect();
        let (mut shares, mut mature) = (Vec::with_capacity(indices.len()), Vec::new());
        let mut has_newcomers = false;
        let of_set = indices.iter().filter_map(|index| members.get(*index as usize));
        for (position, member) in of_set.enumerate() {
            let part = slow.map_or(WHOLE, |slow| slow.of(&member.endpoint));
            has_newcomers |= part < WHOLE;
            if slow.is_some() && part == WHOLE {
                mature.push(position as u32);
            }
            shares.push(u32::from(member.weight) * part);
        }
        let is_mixed = has_newcomers && !mature.is_empty();
        let shares = match shares.split_first() {
            None => Shares::Equal(0),
            Some((first, others)) if others.iter().all(|share| share == first) => Shares::Equal(*first),
            Some(_) => Shares::Different(shares.into()),
        };
        Self {
            id: NEXT.fetch_add(1, Relaxed),
            indices,
            open,
            shares,
            mature: is_mixed.then(|| mature.into()),
            has_newcomers,
            table: OnceLock::new(),
            is_kept: false,
            points: OnceLock::new(),
            watch: None,
        }
    }

    /// The same set for many requests, with the watch that knows its candidates by load, if the balancer needs it.
    pub(in crate::upstream) fn kept(self, watch: Option<Arc<EndpointWatch>>) -> Self {
        Self { is_kept: true, watch, ..self }
    }

    pub(in crate::upstream) fn contains(&self, index: usize) -> bool {
        self.open.contains(index)
    }

    pub(in crate::upstream) fn len(&self) -> usize {
        self.indices.len()
    }

    /// The indices of the candidates.
    pub(in crate::upstream) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.indices.iter().map(|index| *index as usize)
    }

    /// Whether a candidate is in its slow start.
    pub(in crate::upstream) fn has_newcomers(&self) -> bool {
        self.has_newcomers
    }

    /// The points of the candidates on the ring, made by `make` at first; `None` for a set that one request uses.
    pub(super) fn points(&self, make: impl FnOnce() -> Box<[Point]>) -> Option<&[Point]> {
        self.is_kept.then(|| &**self.points.get_or_init(make))
    }

    fn share(&self, position: usize) -> u32 {
        match &self.shares {
            Shares::Equal(share) => *share,
            Shares::Different(shares) => shares.get(position).copied().unwrap_or(0),
        }
    }
}

/// The candidates that a request may not choose.
#[derive(Clone, Copy)]
pub(in crate::upstream) enum Exclusion<'a> {
    /// None of the set.
    Nothing,
    /// Those that were tried for the request, and full ones.
    TriedOrFull(&'a TriedEndpoints),
    /// In the search for the endpoint that a session belongs to: draining ones that were tried, and others that are full.
    NotOwner(&'a TriedEndpoints),
}

impl Exclusion<'_> {
    pub(in crate::upstream) fn has(self, member: &Member) -> bool {
        match self {
            Self::Nothing => false,
            Self::TriedOrFull(tried) => {
                (!tried.is_empty() && tried.contains(&member.endpoint)) || member.is_full()
            }
            Self::NotOwner(tried) if member.draining_since().is_some() => tried.contains(&member.endpoint),
            Self::NotOwner(_) => member.is_full(),
        }
    }
}

/// The members that may be chosen for one request.
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    members: &'a [Member],
    set: &'a CandidateSet,
    exclusion: Exclusion<'a>,
    /// Another member was tried before.
    is_retry: bool,
}

/// A member of a [`CandidateSet`].
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// The index among the members.
    pub(super) index: usize,
    pub(super) member: &'a Member,
    pub(super) share: u32,
}

impl<'a> Candidates<'a> {
    /// Candidates for a first attempt.
    pub(in crate::upstream) fn new(
        members: &'a [Member],
        set: &'a CandidateSet,
        exclusion: Exclusion<'a>,
    ) -> Self {
        Self { members, set, exclusion, is_retry: false }
    }

    /// The candidates of a retry, if it is one.
    pub(in crate::upstream) fn for_retry(self, is_retry: bool) -> Self {
        Self { is_retry, ..self }
    }

    /// Returns whether this is a retry: the request already used its turn.
    pub(super) fn are_for_retry(&self) -> bool {
        self.is_retry
    }

    /// The set, with members that the request excludes.
    pub(super) fn set(&self) -> &'a CandidateSet {
        self.set
    }

    /// The number of members in the set.
    pub(super) fn len(&self) -> usize {
        self.set.len()
    }

    /// The member at a position of the set, from 0, unless the request excludes it.
    pub(super) fn at(&self, position: usize) -> Option<Candidate<'a>> {
        let index = *self.set.indices.get(position)? as usize;
        let member = self.members.get(index).filter(|member| !self.exclusion.has(member))?;
        Some(Candidate { index, member, share: self.set.share(position) })
    }

    /// Returns whether the member at `index` is a candidate.
    pub(in crate::upstream) fn contains(&self, index: usize) -> bool {
        self.set.contains(index) && self.members.get(index).is_some_and(|member| !self.exclusion.has(member))
    }

    /// Whether all members of the set have the same share.
    pub(super) fn have_equal_shares(&self) -> bool {
        matches!(self.set.shares, Shares::Equal(_))
    }

    /// The shares of the set, by position.
    pub(super) fn share_table(&self) -> &'a ShareTable {
        self.set.table.get_or_init(|| match &self.set.shares {
            Shares::Different(shares) => ShareTable::new(shares),
            Shares::Equal(share) => ShareTable::new(&vec![*share; self.set.len()]),
        })
    }

    /// A random member, in proportion to the shares. `None` if none was found in [`DRAWS`] draws.
    pub(super) fn draw(&self) -> Option<Candidate<'a>> {
        self.draw_position().and_then(|position| self.at(position))
    }

    fn draw_position(&self) -> Option<usize> {
        let draw = |_| match self.have_equal_shares() {
            true => (self.len() > 0).then(|| fastrand::usize(..self.len())),
            false => {
                let table = self.share_table();
                (table.total() > 0).then(|| table.holder(fastrand::u64(..table.total())))?
            }
        };
        (0..DRAWS).map_while(draw).find(|position| self.at(*position).is_some())
    }

    /// The members that compete by load. An idle new endpoint would win every comparison of loads, so it competes only as
    /// often as its part of all shares. All compete if none is new, or all are.
    pub(super) fn competitors(&self) -> Competitors<'a> {
        let Some(mature) = self.set.mature.as_deref() else {
            return Competitors { candidates: *self, mature: None, drawn: None };
        };
        let is_new = |position: &usize| {
            let drawn = self.at(*position);
            drawn.is_some_and(|drawn| drawn.share < u32::from(drawn.member.weight) * WHOLE)
        };
        let drawn = self.draw_position().filter(is_new);
        Competitors { candidates: *self, mature: Some(mature), drawn }
    }

    /// The watch that knows the competitors by load, except for a new one that was drawn.
    pub(super) fn watch(&self) -> Option<&'a EndpointWatch> {
        self.set.watch.as_deref()
    }

    /// Identifies the set; a later set has a greater one.
    pub(super) fn set_id(&self) -> u64 {
        self.set.id
    }

    /// The member at an index, whatever the request excludes.
    pub(super) fn member(&self, index: usize) -> Option<&'a Member> {
        self.members.get(index)
    }

    /// Whether the request excludes the member at an index.
    pub(super) fn excludes(&self, member: &Member) -> bool {
        self.exclusion.has(member)
    }
}

/// The candidates that compete by load.
pub(super) struct Competitors<'a> {
    candidates: Candidates<'a>,
    /// The positions of those that are not new; `None` means all positions.
    mature: Option<&'a [u32]>,
    /// The position of the new one that competes too.
    drawn: Option<usize>,
}

impl<'a> Competitors<'a> {
    /// The number of competitors, with those that the request excludes.
    pub(super) fn len(&self) -> usize {
        self.mature.map_or(self.candidates.len(), <[u32]>::len) + usize::from(self.drawn.is_some())
    }

    /// The `n`th competitor, from 0, unless the request excludes it.
    pub(super) fn nth(&self, n: usize) -> Option<Candidate<'a>> {
        let position = match self.mature {
            None => n,
            Some(mature) => mature.get(n).map(|position| *position as usize).or(self.drawn)?,
        };
        self.candidates.at(position)
    }

    /// The competitors that the request does not exclude.
    pub(super) fn iter(&self) -> impl Iterator<Item = Candidate<'a>> + '_ {
        (0..self.len()).filter_map(|n| self.nth(n))
    }

    /// All competitors but the drawn one, with those that the request excludes.
    pub(super) fn lasting(&self) -> impl ExactSizeIterator<Item = Candidate<'a>> + '_ {
        let set = self.candidates.set;
        let count = self.mature.map_or(set.len(), <[u32]>::len);
        (0..count).map(move |n| {
            let position = self.mature.map_or(n, |mature| mature[n] as usize);
            let index = set.indices[position] as usize;
            Candidate { index, member: &self.candidates.members[index], share: set.share(position) }
        })
    }

    /// The new one that was drawn.
    pub(super) fn drawn(&self) -> Option<Candidate<'a>> {
        self.candidates.at(self.drawn?)
    }
}
