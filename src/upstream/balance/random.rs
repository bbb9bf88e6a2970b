//! Anybody, by weight. Needs no state, so many gateways before one cluster never march in step.

use super::{Balance, Candidates, Group, Nothing};
use moongate_sdk::Kind;

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "random",
    about: "Anybody, by weight",
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
        let total: u32 = candidates.iter().map(|(_, member)| u32::from(member.weight())).sum();
        if total == 0 {
            return None;
        }
        by_share(candidates, fastrand::u32(..total))
    }
}

/// The candidate whose share holds `point`, when the shares are laid end to end.
pub(super) fn by_share(candidates: &Candidates<'_>, mut point: u32) -> Option<usize> {
    for (index, member) in candidates.iter() {
        let weight = u32::from(member.weight());
        if point < weight {
            return Some(index);
        }
        point -= weight;
    }
    None
}
