//! Smooth weighted round robin: 3:1 yields a, a, b, a instead of a, a, a, b.

use super::{Balance, Candidates, Group, NoSettings};
use moongate_config::Kind;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "round_robin",
    about: "Weighted round robin",
    schema: |generator| generator.subschema_for::<NoSettings>(),
    build: |settings| {
        settings.read::<NoSettings>()?;
        Ok(Box::new(RoundRobin::default()))
    },
};

/// Smooth weighted round robin.
#[derive(Default)]
pub(in crate::upstream) struct RoundRobin {
    /// All weights are equal, so that a counter suffices and no lock is taken.
    even: bool,
    first: Rotation,
    /// Retries have a rotation of their own. In a shared one a retry would consume the turn of the working
    /// endpoint: of two endpoints the failing one would be the first choice of every request.
    retries: Rotation,
}

/// The state of a rotation.
#[derive(Default)]
struct Rotation {
    turn: AtomicUsize,
    /// The credit of each member. Locked for one pass over the members, never across an await.
    owed: Mutex<Box<[i64]>>,
}

impl Rotation {
    fn of(members: usize) -> Self {
        Self { turn: AtomicUsize::new(0), owed: Mutex::new(vec![0; members].into()) }
    }

    fn count(&self, candidates: &Candidates<'_>) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Relaxed).checked_rem(candidates.len())?;
        candidates.nth(turn).map(|(index, _)| index)
    }

    fn weigh(&self, candidates: &Candidates<'_>) -> Option<usize> {
        // Every candidate earns its share; the one with the most credit is selected and pays the total. An
        // unavailable member neither earns nor pays, so the shares of the others stay right.
        let mut owed = self.owed.lock();
        let (mut total, mut most_owed) = (0, None);
        for (index, member) in candidates.iter() {
            let share = i64::from(candidates.share(member));
            let credit = owed.get_mut(index)?;
            *credit += share;
            total += share;
            if most_owed.is_none_or(|(_, most)| *credit > most) {
                most_owed = Some((index, *credit));
            }
        }
        let (index, _) = most_owed?;
        *owed.get_mut(index)? -= total;
        Some(index)
    }
}

impl Balance for RoundRobin {
    fn arrange(&self, group: &Group<'_>) -> Box<dyn Balance> {
        let weights = || group.members.iter().map(|member| member.weight()).filter(|weight| *weight > 0);
        let rotation = || Rotation::of(group.members.len());
        Box::new(Self { even: weights().min() == weights().max(), first: rotation(), retries: rotation() })
    }

    fn choose(&self, candidates: &Candidates<'_>, _: &[u8]) -> Option<usize> {
        let rotation = if candidates.are_for_retry() { &self.retries } else { &self.first };
        if self.even && !candidates.have_newcomers() {
            rotation.count(candidates)
        } else {
            rotation.weigh(candidates)
        }
    }
}
