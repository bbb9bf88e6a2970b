//! Weighted random. Stateless, so that many gateways before one cluster do not synchronise.

use super::{Balance, Candidates, Group, NoSettings};
use moongate_config::Kind;

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "random",
    about: "Weighted random",
    schema: |generator| generator.subschema_for::<NoSettings>(),
    build: |settings| {
        settings.read::<NoSettings>()?;
        Ok(Box::new(Random))
    },
};

struct Random;

impl Balance for Random {
    fn arrange(&self, _: &Group<'_>) -> Box<dyn Balance> {
        Box::new(Self)
    }

    fn choose(&self, candidates: &Candidates<'_>, _: &[u8]) -> Option<usize> {
        candidates.draw().map(|candidate| candidate.index)
    }
}
