//! The weights of SRV records, 0 to 65535, as weights of members, 1 to 1000.

use std::collections::BTreeMap;

/// The largest weight of a member.
const LARGEST: u32 = 1000;

/// The weights of the members of records with these priorities and weights. Among the records of one priority the ratios
/// stay, within the rounding of 1 to 1000; weight 0 is the smallest share, and records that all have it are equal.
pub(super) fn scale(records: impl Iterator<Item = (u16, u16)> + Clone) -> Vec<u16> {
    let mut priorities: BTreeMap<u16, Priority> = BTreeMap::new();
    for (priority, weight) in records.clone() {
        priorities.entry(priority).or_default().add(weight);
    }
    let scaled = |(priority, weight)| priorities.get(&priority).map_or(1, |of| of.scale(weight));
    records.map(scaled).collect()
}

/// The weights of one priority.
#[derive(Clone, Copy, Default)]
struct Priority {
    largest: u32,
    /// The greatest common divisor of the weights above 0.
    divisor: u32,
    has_zero: bool,
}

impl Priority {
    fn add(&mut self, weight: u16) {
        self.largest = self.largest.max(weight.into());
        self.divisor = gcd(weight.into(), self.divisor);
        self.has_zero |= weight == 0;
    }

    fn scale(self, weight: u16) -> u16 {
        let weight = u32::from(weight);
        let scaled = match self {
            Self { largest: 0, .. } => 1,
            // The others get as many units as there are, so that the one unit of weight 0 is small.
            Self { largest, has_zero: true, .. } if largest <= LARGEST => weight * (LARGEST / largest),
            Self { largest, .. } if largest <= LARGEST => weight,
            Self { largest, divisor, has_zero: false } if largest / divisor <= LARGEST => weight / divisor,
            Self { largest, .. } => (weight * LARGEST + largest / 2) / largest,
        };
        u16::try_from(scaled.max(1)).unwrap_or(1)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if a == 0 { b } else { gcd(b % a, a) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scaled(weights: &[u16]) -> Vec<u16> {
        scale(weights.iter().map(|weight| (0, *weight)))
    }

    #[test]
    fn ratios_stay() {
        for (weights, expected) in [
            (&[][..], &[][..]),
            (&[0, 0, 0], &[1, 1, 1]),
            (&[5], &[5]),
            (&[10, 20, 1000], &[10, 20, 1000]),
            (&[0, 1], &[1, 1000]),
            (&[0, 3, 100], &[1, 30, 1000]),
            (&[2000, 4000], &[1, 2]),
            (&[65535, 65534, 1], &[1000, 1000, 1]),
            (&[65535, 0], &[1000, 1]),
            (&[40000, 20000, 0], &[1000, 500, 1]),
        ] {
            assert_eq!(scaled(weights), expected, "{weights:?}");
        }
    }

    #[test]
    fn each_priority_has_a_scale_of_its_own() {
        let records = [(10, 0), (20, 65535), (10, 0), (20, 13107), (30, 0), (30, 7)];
        assert_eq!(scale(records.into_iter()), [1, 5, 1, 1, 1, 994]);
    }

    proptest! {
        #[test]
        fn a_larger_weight_is_never_a_smaller_share(weights in prop::collection::vec(any::<u16>(), 1..20)) {
            let result = scaled(&weights);
            for (weight, share) in weights.iter().zip(&result) {
                prop_assert!((1..=1000).contains(share));
                for (other, others) in weights.iter().zip(&result) {
                    prop_assert!(weight > other || share <= others);
                }
            }
        }
    }
}
