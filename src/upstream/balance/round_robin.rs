//! Weighted round robin: 3:1 yields a, a, b, a instead of a, a, a, b.
//!
//! With equal weights the candidates have their turns in order. With different ones the shares are laid end to end, and
//! each turn is a point on them, a step further than the one before ([`ShareTable::at_turn`]): every cycle of turns has the
//! exact shares, and no turn depends on the number of candidates.
//!
//! [`ShareTable::at_turn`]: super::share_table::ShareTable::at_turn

use super::candidates::DRAWS;
use super::{Balance, Candidates, Group, NoSettings};
use moongate_config::Kind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(super) const KIND: Kind<dyn Balance> = Kind {
    name: "round_robin",
    about: "Weighted round robin",
    schema: |generator| generator.subschema_for::<NoSettings>(),
    build: |settings| {
        settings.read::<NoSettings>()?;
        Ok(Box::new(RoundRobin::default()))
    },
};

/// Weighted round robin.
#[derive(Clone, Default)]
pub(in crate::upstream) struct RoundRobin {
    /// Shared over changes of the membership: where members come and go often, a rotation that began anew would
    /// choose the first ones alone.
    rotations: Arc<Rotations>,
}

#[derive(Default)]
struct Rotations {
    first: AtomicU64,
    /// Retries have a rotation of their own. In a shared one a retry would consume the turn of the working
    /// endpoint: of two endpoints the failing one would be the first choice of every request.
    retries: AtomicU64,
}

impl Balance for RoundRobin {
    fn arrange(&self, _: &Group<'_>) -> Box<dyn Balance> {
        Box::new(self.clone())
    }

    fn choose(&self, candidates: &Candidates<'_>, _: &[u8]) -> Option<usize> {
        let Rotations { first, retries } = &*self.rotations;
        let rotation = if candidates.are_for_retry() { retries } else { first };
        // The turn of a member that the request excludes is left out.
        for _ in 0..DRAWS {
            let turn = rotation.fetch_add(1, Relaxed);
            let position = match candidates.have_equal_shares() {
                true => turn.checked_rem(candidates.len() as u64)? as usize,
                false => candidates.share_table().at_turn(turn)?,
            };
            if let Some(candidate) = candidates.at(position) {
                return Some(candidate.index);
            }
        }
        None
    }
}
