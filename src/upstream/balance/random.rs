//! Weighted random. Stateless, so that many gateways before one cluster do not synchronise.

use super::{Balance, Candidates, Group, Nothing};
use moongate_config::Kind;

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "random",
    about: "Weighted random",
    schema: |generator| generator.subschema_for::<Nothing>(),
    build: |settings| {
        settings.read::<Nothing>()?;
        Ok(Box::new(Random))
    },
};

struct Random;

impl Balance for Random {
    fn arrange(&self, _: &Group<'_>) -> Box<dyn Balance> {
        Box::new(Self)
    }

    fn choose(&self, candidates: &Candidates<'_>, _: &[u8]) -> Option<usize> {
        let total = candidates.shares();
        if total == 0 {
            return None;
        }
        by_share(candidates, fastrand::u64(..total))
    }
}

/// The candidate whose share contains `point`, when the shares are laid end to end.
pub(super) fn by_share(candidates: &Candidates<'_>, mut point: u64) -> Option<usize> {
    for (index, member) in candidates.iter() {
        let share = u64::from(candidates.share(member));
        if point < share {
            return Some(index);
        }
        point -= share;
    }
    None
}
