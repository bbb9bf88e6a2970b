//! Whoever has the fewest living requests and WebSockets for its weight: right for long connections.

use super::{Balance, Candidates, Group, Member, Nothing};
use crate::upstream::slow_start::WHOLE;
use moongate_config::Kind;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "least_connections",
    about: "Fewest active requests and WebSockets for the weight",
    schema: |generator| generator.subschema_for::<Nothing>(),
    build: |settings| {
        settings.read::<Nothing>()?;
        Ok(Box::new(LeastConnections::default()))
    },
};

#[derive(Default)]
struct LeastConnections {
    /// Whose turn it is among equals; an idle cluster is all equals.
    turn: AtomicU32,
    /// The same for retries, which use up no turn of first attempts.
    retry_turn: AtomicU32,
}

/// A load read once: the count moves while we compare.
#[derive(Clone, Copy)]
struct Load {
    active: u64,
    share: u64,
}

impl Load {
    fn of(candidates: &Candidates<'_>, member: &Member) -> Self {
        Self { active: member.active() as u64, share: u64::from(candidates.share(member)) }
    }

    /// Compares active/share without dividing.
    fn cmp(self, other: Self) -> std::cmp::Ordering {
        (self.active * other.share).cmp(&(other.active * self.share))
    }
}

impl Balance for LeastConnections {
    fn arrange(&self, _: &Group<'_>) -> Box<dyn Balance> {
        Box::new(Self::default())
    }

    fn choose(&self, candidates: &Candidates<'_>, _: &[u8]) -> Option<usize> {
        let competitors = candidates.competitors();
        let candidates = &candidates.among(competitors.as_ref());
        let (first, least, shares) = least(candidates)?;
        // Equals share by weight, or an idle cluster would send every request to the first.
        let mut point = if candidates.have_newcomers() {
            // Taking turns needs shares that are whole weights.
            fastrand::u64(..shares.max(1))
        } else {
            let turn = if candidates.are_for_retry() { &self.retry_turn } else { &self.turn };
            (u64::from(turn.fetch_add(1, Relaxed)) * u64::from(WHOLE)).checked_rem(shares)?
        };
        for (index, member) in candidates.iter() {
            let load = Load::of(candidates, member);
            if load.cmp(least).is_ne() {
                continue;
            }
            if point < load.share {
                return Some(index);
            }
            point -= load.share;
        }
        // The counts moved between the two passes.
        Some(first)
    }
}

/// The first of the least loaded, its load, and the shares of all its equals.
fn least(candidates: &Candidates<'_>) -> Option<(usize, Load, u64)> {
    let mut best: Option<(usize, Load, u64)> = None;
    for (index, member) in candidates.iter() {
        let load = Load::of(candidates, member);
        match &mut best {
            Some((_, least, shares)) if load.cmp(*least).is_eq() => *shares += load.share,
            Some((_, least, _)) if load.cmp(*least).is_gt() => {}
            _ => best = Some((index, load, load.share)),
        }
    }
    best
}
