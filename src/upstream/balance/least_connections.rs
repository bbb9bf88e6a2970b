//! Least connections: the fewest active requests and WebSockets for the weight. Suited to long connections.
//!
//! Few candidates are compared. Many are kept in the order of their loads ([`LoadOrder`]), so that a choice takes the same
//! time for any number of them; it grows with the number of different weights.

use super::candidates::{Candidate, Competitors};
use super::{Balance, Candidates, Group, Member, NoSettings};
use crate::upstream::load_order::{Admission, Least, LoadOrder, MemberLoads, NewEntry, Rival};
use crate::upstream::slow_start::WHOLE;
use moongate_config::Kind;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "least_connections",
    about: "Fewest active requests and WebSockets, relative to weight",
    schema: |generator| generator.subschema_for::<NoSettings>(),
    build: |settings| {
        settings.read::<NoSettings>()?;
        Ok(Box::new(LeastConnections::default()))
    },
};

/// The most candidates that are compared for each choice. The order of more costs two short locks for a request.
pub(in crate::upstream) const COMPARED: usize = 32;

#[derive(Clone, Default)]
struct LeastConnections {
    /// Shared over changes of the membership.
    rotations: Arc<Rotations>,
}

#[derive(Default)]
struct Rotations {
    /// The rotation among equals; in an idle cluster all are equals.
    first: AtomicU32,
    /// The rotation of retries, which consume no turn of first attempts.
    retries: AtomicU32,
}

/// A load read once, since the count changes during the comparison.
#[derive(Clone, Copy)]
struct Load {
    active: u64,
    share: u64,
}

impl Load {
    fn of(candidate: Candidate<'_>) -> Self {
        Self { active: candidate.member.active() as u64, share: u64::from(candidate.share) }
    }

    /// Compares active/share without division.
    fn cmp(self, other: Self) -> std::cmp::Ordering {
        (self.active * other.share).cmp(&(other.active * self.share))
    }
}

impl Balance for LeastConnections {
    fn arrange(&self, _: &Group<'_>) -> Box<dyn Balance> {
        Box::new(self.clone())
    }

    fn choose(&self, candidates: &Candidates<'_>, _: &[u8]) -> Option<usize> {
        let order = candidates.watch().and_then(|watch| watch.load_order());
        match order.filter(|_| candidates.len() > COMPARED) {
            Some(order) => self.choose_by_order(candidates, order),
            None => self.choose_by_comparison(candidates),
        }
    }

    fn orders_by_load(&self) -> bool {
        true
    }
}

impl LeastConnections {
    fn choose_by_comparison(&self, candidates: &Candidates<'_>) -> Option<usize> {
        let competitors = candidates.competitors();
        let (first, least, shares) = least(&competitors)?;
        // Equals share by weight; otherwise an idle cluster would send every request to the first endpoint.
        let mut point = if candidates.set().has_newcomers() {
            // The rotation needs shares that are whole weights.
            fastrand::u64(..shares.max(1))
        } else {
            let Rotations { first, retries } = &*self.rotations;
            let turn = if candidates.are_for_retry() { retries } else { first };
            (u64::from(turn.fetch_add(1, Relaxed)) * u64::from(WHOLE)).checked_rem(shares)?
        };
        for candidate in competitors.iter() {
            let load = Load::of(candidate);
            if load.cmp(least).is_ne() {
                continue;
            }
            if point < load.share {
                return Some(candidate.index);
            }
            point -= load.share;
        }
        // The counts changed between the two passes.
        Some(first)
    }

    fn choose_by_order(&self, candidates: &Candidates<'_>, order: &Mutex<LoadOrder>) -> Option<usize> {
        let competitors = candidates.competitors();
        let drawn = competitors.drawn();
        let rival = drawn.map(|drawn| Rival { active: drawn.member.active(), share: drawn.share });
        let mut order = order.lock();
        if order.set() > candidates.set_id() {
            // Another thread has a later set already.
            drop(order);
            return self.choose_by_comparison(candidates);
        }
        if order.set() < candidates.set_id() {
            order.arrange(candidates.set_id(), competitors.lasting().map(new_entry));
        }
        match order.choose(candidates, rival)? {
            Least::Listed(index) => Some(index),
            Least::Rival => drawn.map(|drawn| drawn.index),
        }
    }
}

fn new_entry(Candidate { index, member, share }: Candidate<'_>) -> NewEntry {
    NewEntry { key: member.endpoint().token().get(), member: index, share, active: member.active() }
}

impl MemberLoads for Candidates<'_> {
    fn active(&self, index: usize) -> usize {
        self.member(index).map_or(0, Member::active)
    }

    fn admission(&self, index: usize) -> Admission {
        match self.member(index) {
            Some(member) if member.is_full() => Admission::Full,
            Some(member) if !self.excludes(member) => Admission::Accepted,
            _ => Admission::PassedOver,
        }
    }
}

/// The first of the least loaded, its load, and the sum of the shares of all its equals.
fn least(competitors: &Competitors<'_>) -> Option<(usize, Load, u64)> {
    let mut best: Option<(usize, Load, u64)> = None;
    for candidate in competitors.iter() {
        let load = Load::of(candidate);
        match &mut best {
            Some((_, least, shares)) if load.cmp(*least).is_eq() => *shares += load.share,
            Some((_, least, _)) if load.cmp(*least).is_gt() => {}
            _ => best = Some((candidate.index, load, load.share)),
        }
    }
    best
}
