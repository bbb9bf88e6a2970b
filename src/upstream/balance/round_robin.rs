//! One after the other, by weight, evenly spread: 3:1 is a, a, b, a and not a, a, a, b.

use super::{Balance, Candidates, Group, Nothing};
use moongate_sdk::Kind;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "round_robin",
    about: "One after the other, by weight, evenly spread",
    schema: |generator| generator.subschema_for::<Nothing>(),
    build: |settings| {
        settings.read::<Nothing>()?;
        Ok(Box::new(RoundRobin::default()))
    },
};

/// Smooth weighted round robin.
#[derive(Default)]
pub(in crate::upstream) struct RoundRobin {
    /// All weights are equal, so counting turns is enough and nothing is locked.
    even: bool,
    turn: AtomicUsize,
    /// How much each member is owed. Held for one pass over the members, never across an await.
    owed: Mutex<Box<[i64]>>,
}

impl Balance for RoundRobin {
    fn arrange(&self, group: &Group<'_>) -> Box<dyn Balance> {
        let weights = || group.members.iter().map(|member| member.weight()).filter(|weight| *weight > 0);
        Box::new(Self {
            even: weights().min() == weights().max(),
            turn: AtomicUsize::new(0),
            owed: Mutex::new(vec![0; group.members.len()].into()),
        })
    }

    fn choose(&self, candidates: &Candidates<'_>, _: &[u8]) -> Option<usize> {
        if self.even && !candidates.have_newcomers() {
            let turn = self.turn.fetch_add(1, Relaxed).checked_rem(candidates.len())?;
            return candidates.nth(turn).map(|(index, _)| index);
        }
        // Everybody gets his share, the richest goes and pays for all. Whoever is out neither
        // earns nor pays, so the others keep their shares among each other.
        let mut owed = self.owed.lock();
        let (mut total, mut richest) = (0, None);
        for (index, member) in candidates.iter() {
            let share = i64::from(candidates.share(member));
            let purse = owed.get_mut(index)?;
            *purse += share;
            total += share;
            if richest.is_none_or(|(_, most)| *purse > most) {
                richest = Some((index, *purse));
            }
        }
        let (index, _) = richest?;
        *owed.get_mut(index)? -= total;
        Some(index)
    }
}
