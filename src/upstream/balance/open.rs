//! A set of indices of members.

/// Words of the set that are stored inline: up to 256 members cost no allocation.
const FEW: usize = 4;

/// A set of indices.
#[derive(Clone)]
pub(in crate::upstream) enum Open {
    Few([u64; FEW]),
    Many(Box<[u64]>),
}

impl Open {
    /// The empty set, with capacity for `members` indices.
    pub(in crate::upstream) fn with_room(members: usize) -> Self {
        let words = members.div_ceil(64);
        if words <= FEW { Self::Few([0; FEW]) } else { Self::Many(vec![0; words].into()) }
    }

    pub(in crate::upstream) fn insert(&mut self, index: usize) {
        if let Some(word) = self.words_mut().get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    pub(in crate::upstream) fn remove(&mut self, index: usize) {
        if let Some(word) = self.words_mut().get_mut(index / 64) {
            *word &= !(1 << (index % 64));
        }
    }

    pub(in crate::upstream) fn contains(&self, index: usize) -> bool {
        self.words().get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    pub(in crate::upstream) fn is_empty(&self) -> bool {
        self.words().iter().all(|word| *word == 0)
    }

    pub(in crate::upstream) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words().iter().enumerate().flat_map(|(n, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(n * 64 + bit)
            })
        })
    }

    fn words(&self) -> &[u64] {
        match self {
            Self::Few(words) => words,
            Self::Many(words) => words,
        }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Few(words) => words,
            Self::Many(words) => words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_holds_few_and_many() {
        for room in [1, 64, 256, 257, 1000] {
            let mut open = Open::with_room(room);
            assert!(open.is_empty());
            for index in (0..room).step_by(3) {
                open.insert(index);
            }
            assert!(open.iter().eq((0..room).step_by(3)), "{room}");
            open.remove(0);
            assert!(!open.contains(0) && !open.contains(1) && !open.contains(room + 64));
        }
    }
}
