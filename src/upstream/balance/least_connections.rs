//! Least connections: the fewest active requests and WebSockets for the weight. Suited to long connections.

use super::{Balance, Candidates, Group, Member, NoSettings};
use crate::upstream::slow_start::WHOLE;
use moongate_config::Kind;
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

#[derive(Default)]
struct LeastConnections {
    /// The rotation among equals; in an idle cluster all are equals.
    turn: AtomicU32,
    /// The rotation of retries, which consume no turn of first attempts.
    retry_turn: AtomicU32,
}

/// A load read once, since the count changes during the comparison.
#[derive(Clone, Copy)]
struct Load {
    active: u64,
    share: u64,
}

impl Load {
    fn of(candidates: &Candidates<'_>, member: &Member) -> Self {
        Self { active: member.active() as u64, share: u64::from(candidates.share(member)) }
    }

    /// Compares active/share without division.
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
        // Equals share by weight; otherwise an idle cluster would send every request to the first endpoint.
        let mut point = if candidates.have_newcomers() {
            // The rotation needs shares that are whole weights.
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
        // The counts changed between the two passes.
        Some(first)
    }
}

/// The first of the least loaded, its load, and the sum of the shares of all its equals.
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
