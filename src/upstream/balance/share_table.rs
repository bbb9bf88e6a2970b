//! Shares of candidates laid end to end, with an index from a point to the candidate whose share holds it.

use std::num::NonZeroU64;

/// The part of a cycle between two turns: the inverse of the golden ratio, whose multiples are spread most evenly.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// The shares of some candidates, by their position.
pub(super) struct ShareTable {
    /// Where each share ends, in units of the greatest common divisor of all shares.
    ends: Box<[u64]>,
    /// For each part of the sum of 2^`shift` units, the first candidate whose share ends after the beginning of the
    /// part. There are at most twice as many parts as candidates.
    guide: Box<[u32]>,
    shift: u32,
    /// The units from a turn to the next one; coprime to the sum.
    step: u64,
}

impl ShareTable {
    pub(super) fn new(shares: &[u32]) -> Self {
        let divisor =
            shares.iter().fold(0, |divisor, share| common_divisor(divisor, u64::from(*share))).max(1);
        let mut total = 0;
        let ends: Box<[u64]> = shares
            .iter()
            .map(|share| {
                total += u64::from(*share) / divisor;
                total
            })
            .collect();
        let width = (total / (ends.len() as u64).max(1)).max(1);
        let shift = width.ilog2();
        let (mut position, mut guide) = (0, Vec::with_capacity((total >> shift) as usize + 1));
        while total > (guide.len() as u64) << shift {
            while ends.get(position).is_some_and(|end| *end <= (guide.len() as u64) << shift) {
                position += 1;
            }
            guide.push(position as u32);
        }
        let step = NonZeroU64::new(total).map_or(0, step);
        Self { ends, guide: guide.into(), shift, step }
    }

    /// The sum of the shares in units.
    pub(super) fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The position of the candidate whose share holds `point`; `None` from the sum on.
    pub(super) fn holder(&self, point: u64) -> Option<usize> {
        let part = usize::try_from(point >> self.shift).ok()?;
        let first = *self.guide.get(part)? as usize;
        // The share that holds the first point of the next part is the last one in this part.
        let last = self.guide.get(part + 1).map_or(self.ends.len() - 1, |next| *next as usize);
        let within = self.ends.get(first..=last)?;
        let position = first + within.partition_point(|end| *end <= point);
        (position < self.ends.len()).then_some(position)
    }

    /// The candidate of a turn. In as many consecutive turns as the sum has units, each candidate has as many as its
    /// share, spread nearly evenly.
    pub(super) fn at_turn(&self, turn: u64) -> Option<usize> {
        let total = self.total();
        let turn = turn.checked_rem(total)?;
        let point = match turn.checked_mul(self.step) {
            Some(product) => product % total,
            None => u64::try_from(u128::from(turn) * u128::from(self.step) % u128::from(total)).ok()?,
        };
        self.holder(point)
    }
}

fn step(total: NonZeroU64) -> u64 {
    let total = total.get();
    let nearest = (total as f64 * GOLDEN).round() as u64;
    let is_coprime = |step: &u64| common_divisor(*step, total) == 1;
    // One is coprime to every sum.
    let below = (1..=nearest).rev().find(is_coprime).unwrap_or(1);
    let above = (nearest + 1..total).take((nearest - below) as usize).find(is_coprime);
    above.unwrap_or(below)
}

fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn at_turns(shares: &[u32], turns: impl Iterator<Item = u64>) -> Vec<u64> {
        let table = ShareTable::new(shares);
        let mut had = vec![0; shares.len()];
        turns.for_each(|turn| had[table.at_turn(turn).unwrap()] += 1);
        had
    }

    #[test]
    fn without_shares_no_point_is_held() {
        for shares in [&[][..], &[0], &[0, 0]] {
            let table = ShareTable::new(shares);
            assert_eq!((table.total(), table.holder(0), table.at_turn(7)), (0, None, None));
        }
        let table = ShareTable::new(&[5000]);
        assert_eq!((table.total(), table.holder(0), table.holder(1)), (1, Some(0), None));
    }

    #[test]
    fn turns_of_a_share_are_spread() {
        // Of the turns of the largest share, none is further from the next one than two turns.
        let table = ShareTable::new(&[4000, 1000, 1000, 1000]);
        let turns: Vec<_> = (0..14).map(|turn| table.at_turn(turn).unwrap()).collect();
        assert!(turns.windows(3).all(|three| three.contains(&0)), "{turns:?}");
        // Interleaved rather than one after the other.
        let table = ShareTable::new(&[1000, 2000]);
        assert_eq!([0, 1, 2].map(|turn| table.at_turn(turn).unwrap()), [0, 1, 1]);
    }

    #[test]
    fn the_largest_weights_of_many_endpoints_fit() {
        let shares: Vec<u32> = (0..20_000).map(|n| 1_000_000 - n).collect();
        let table = ShareTable::new(&shares);
        assert_eq!(table.total(), shares.iter().map(|share| u64::from(*share)).sum::<u64>());
        for turn in [0, 1, u64::from(u32::MAX), u64::MAX] {
            assert!(table.at_turn(turn).unwrap() < shares.len());
        }
        assert_eq!(table.holder(table.total() - 1), Some(shares.len() - 1));
    }

    proptest! {
        #[test]
        fn a_cycle_of_turns_has_every_share_exactly(
            shares in prop::collection::vec(prop_oneof![0_u32..4, 1_u32..40, 900_u32..1000], 1..40),
            start in any::<u32>(),
        ) {
            prop_assume!(shares.iter().any(|share| *share > 0));
            let divisor = shares.iter().fold(0, |divisor, share| common_divisor(divisor, u64::from(*share)));
            let total = shares.iter().map(|share| u64::from(*share)).sum::<u64>() / divisor;
            let had = at_turns(&shares, u64::from(start)..u64::from(start) + total);
            prop_assert_eq!(had, shares.iter().map(|share| u64::from(*share) / divisor).collect::<Vec<_>>());
        }

        #[test]
        fn a_point_is_held_by_the_share_over_it(shares in prop::collection::vec(0_u32..50, 1..60)) {
            let table = ShareTable::new(&shares);
            let divisor = shares.iter().fold(0, |divisor, share| common_divisor(divisor, u64::from(*share))).max(1);
            let mut point = 0;
            for (position, share) in shares.iter().enumerate() {
                for _ in 0..u64::from(*share) / divisor {
                    prop_assert_eq!(table.holder(point), Some(position));
                    point += 1;
                }
            }
            prop_assert_eq!((table.holder(point), table.total()), (None, point));
        }
    }
}
