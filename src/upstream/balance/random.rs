//! Anybody, by weight. Needs no state, so many gateways before one cluster never march in step.

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
        candidates.at_share(fastrand::u64(..total))
    }
}
