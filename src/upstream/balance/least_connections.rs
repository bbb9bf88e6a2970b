//! Whoever has the fewest living requests and WebSockets for its weight: right for long connections.

use super::{Balance, Candidates, Group, Member, Nothing};
use moongate_sdk::Kind;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "least_connections",
    about: "Whoever has the fewest living requests and WebSockets for its weight",
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
}

/// A load read once: the count moves while we compare.
#[derive(Clone, Copy)]
struct Load {
    active: u64,
    weight: u64,
}

impl Load {
    fn of(member: &Member) -> Self {
        Self { active: member.active() as u64, weight: u64::from(member.weight()) }
    }

    /// Compares active/weight without dividing.
    fn cmp(self, other: Self) -> std::cmp::Ordering {
        (self.active * other.weight).cmp(&(other.active * self.weight))
    }
}

impl Balance for LeastConnections {
    fn arrange(&self, _: &Group<'_>) -> Box<dyn Balance> {
        Box::new(Self::default())
    }

    fn choose(&self, candidates: &Candidates<'_>, _: &[u8]) -> Option<usize> {
        let (first, least, shares) = least(candidates)?;
        // Equals share by weight, or an idle cluster would send every request to the first.
        let mut point = u64::from(self.turn.fetch_add(1, Relaxed)).checked_rem(shares)?;
        for (index, member) in candidates.iter() {
            let load = Load::of(member);
            if load.cmp(least).is_ne() {
                continue;
            }
            if point < load.weight {
                return Some(index);
            }
            point -= load.weight;
        }
        // The counts moved between the two passes.
        Some(first)
    }
}

/// The first of the least loaded, its load, and the weights of all its equals.
fn least(candidates: &Candidates<'_>) -> Option<(usize, Load, u64)> {
    let mut best: Option<(usize, Load, u64)> = None;
    for (index, member) in candidates.iter() {
        let load = Load::of(member);
        match &mut best {
            Some((_, least, shares)) if load.cmp(*least).is_eq() => *shares += load.weight,
            Some((_, least, _)) if load.cmp(*least).is_gt() => {}
            _ => best = Some((index, load, load.weight)),
        }
    }
    best
}
