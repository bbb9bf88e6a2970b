//! Candidates in the order of their loads, for `least_connections`: the least loaded one is found in constant time.
//!
//! Candidates of one weight are a class. Each class has a list of levels, ordered by load, and each level a list of the
//! candidates with that load: the one that has been there longest is the first. A choice compares the lowest levels of all
//! classes, so its time is in proportion to the number of different weights, and not to that of the candidates.
//!
//! The order is corrected lazily. A candidate whose load has grown without its knowledge moves up when it is found at the
//! bottom; each growth moves it at most once. One whose load has fallen is corrected when that happens
//! ([`LoadOrder::correct`]). The caller has the loads, and locks.

use foldhash::fast::RandomState;
use std::cmp::Ordering;
use std::collections::HashMap;

/// No candidate or level.
const NONE: u32 = u32::MAX;
/// The most candidates of one class that a choice passes over because they were tried for the request: more than
/// `retries` allows.
const PASSED_OVER: usize = 64;

/// A candidate when it is listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewEntry {
    /// Identifies the candidate for [`LoadOrder::correct`].
    pub(super) key: u64,
    /// Its index among the members.
    pub(super) member: usize,
    pub(super) share: u32,
    pub(super) active: usize,
}

/// Whether a candidate may be chosen for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Accepted,
    /// It was tried for this request.
    PassedOver,
    /// It is full: it is listed again when its load falls.
    Full,
}

/// A candidate that is not listed and competes with the listed ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rival {
    pub(super) active: usize,
    pub(super) share: u32,
}

/// The least loaded candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Least {
    /// A listed one, by its index among the members.
    Listed(usize),
    Rival,
}

/// What a choice needs to know of members.
pub(super) trait MemberLoads {
    /// The requests and WebSockets at a member.
    fn active(&self, member: usize) -> usize;
    /// Whether a member may be chosen.
    fn admission(&self, member: usize) -> Admission;
}

#[derive(Debug, Default)]
pub(super) struct LoadOrder {
    /// The set of candidates that is listed.
    set: u64,
    entries: Vec<Entry>,
    levels: Vec<Level>,
    free_levels: Vec<u32>,
    classes: Vec<Class>,
    by_key: HashMap<u64, u32, RandomState>,
    /// How many candidates were chosen.
    choices: u64,
    /// Space for the least loaded offers of a choice.
    equals: Vec<Offer>,
}

#[derive(Debug)]
struct Entry {
    member: usize,
    class: u32,
    /// `NONE` while it is not listed.
    level: u32,
    before: u32,
    after: u32,
}

/// The candidates of one class with one load.
#[derive(Debug)]
struct Level {
    load: usize,
    first: u32,
    last: u32,
    len: u32,
    lower: u32,
    higher: u32,
}

#[derive(Debug)]
struct Class {
    share: u32,
    lowest: u32,
    highest: u32,
}

/// A load in proportion to a share.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    active: usize,
    share: u32,
}

impl Ratio {
    /// Compares without division.
    fn cmp(self, other: Self) -> Ordering {
        let product = |load: Self, share: u32| load.active as u128 * u128::from(share);
        product(self, other.share).cmp(&product(other, self.share))
    }
}

/// The candidate that a class offers.
#[derive(Clone, Copy, Debug)]
struct Offer {
    /// `None` for the rival.
    entry: Option<u32>,
    ratio: Ratio,
    /// The sum of the shares of its equals in the class.
    shares: u64,
}

impl Offer {
    /// Joins the least loaded ones unless it is more loaded, and replaces them if it is less.
    fn join(self, least: &mut Vec<Self>) {
        let compared = least.first().map_or(Ordering::Equal, |least| self.ratio.cmp(least.ratio));
        if compared.is_lt() {
            least.clear();
        }
        if compared.is_le() {
            least.push(self);
        }
    }
}

impl LoadOrder {
    /// The set of candidates that is listed; 0 before the first one.
    pub(super) fn set(&self) -> u64 {
        self.set
    }

    /// Lists another set of candidates. Equals follow each other as before, from the one whose turn it is.
    pub(super) fn arrange(&mut self, set: u64, candidates: impl ExactSizeIterator<Item = NewEntry>) {
        let count = candidates.len();
        self.set = set;
        self.entries.clear();
        self.levels.clear();
        self.free_levels.clear();
        self.classes.clear();
        self.by_key.clear();
        let first = usize::try_from(self.choices % (count as u64).max(1)).unwrap_or(0);
        let mut sorted: Vec<(usize, NewEntry)> =
            candidates.enumerate().map(|(at, new)| ((at + count - first) % count, new)).collect();
        sorted.sort_unstable_by_key(|(turn, new)| (new.share, new.active, *turn));
        for (_, new) in sorted {
            if self.classes.last().is_none_or(|class| class.share != new.share) {
                self.classes.push(Class { share: new.share, lowest: NONE, highest: NONE });
            }
            let (entry, class) = (self.entries.len() as u32, self.classes.len() as u32 - 1);
            let NewEntry { key, member, .. } = new;
            self.entries.push(Entry { member, class, level: NONE, before: NONE, after: NONE });
            self.by_key.insert(key, entry);
            // The highest level is the one before, so no level is passed.
            let level = self.level(class, new.active, self.classes[class as usize].highest);
            self.append(entry, level);
        }
    }

    /// Chooses the least loaded candidate, of equals one in turn, weighted by share. It counts as loaded with one more
    /// from now on. `None` if every one that is not full was tried, or too many were.
    pub(super) fn choose(&mut self, loads: &impl MemberLoads, rival: Option<Rival>) -> Option<Least> {
        let mut equals = std::mem::take(&mut self.equals);
        equals.clear();
        for class in 0..self.classes.len() as u32 {
            if let Some(offer) = self.offer(class, loads) {
                offer.join(&mut equals);
            }
        }
        if let Some(Rival { active, share }) = rival {
            Offer { entry: None, ratio: Ratio { active, share }, shares: share.into() }.join(&mut equals);
        }
        let chosen = self.turn(&equals);
        self.equals = equals;
        let chosen = chosen?;
        self.choices = self.choices.wrapping_add(1);
        let Some(entry) = chosen.entry else { return Some(Least::Rival) };
        let member = self.entries[entry as usize].member;
        self.move_to(entry, loads.active(member) + 1);
        Some(Least::Listed(member))
    }

    /// The load of a candidate has fallen: it moves to the end of its level.
    pub(super) fn correct(&mut self, key: u64, active: impl FnOnce() -> usize) {
        if let Some(entry) = self.by_key.get(&key).copied() {
            self.move_to(entry, active());
        }
    }

    /// The offer whose turn it is, weighted by shares. Consecutive turns are spread evenly.
    fn turn(&self, equals: &[Offer]) -> Option<Offer> {
        let whole: u64 = equals.iter().map(|offer| offer.shares).sum();
        // The fractional part of a multiple of the inverse of the golden ratio, of 2^64.
        let fraction = self.choices.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut point = ((u128::from(fraction) * u128::from(whole)) >> 64) as u64;
        let has_turn = |offer: &&Offer| {
            let is_it = point < offer.shares;
            point = point.saturating_sub(offer.shares);
            is_it
        };
        equals.iter().find(has_turn).copied()
    }

    /// The first candidate of the lowest level that may be chosen.
    fn offer(&mut self, class: u32, loads: &impl MemberLoads) -> Option<Offer> {
        let Class { share, mut lowest, .. } = self.classes[class as usize];
        let (mut level, mut passed_over) = (lowest, 0);
        let mut entry = self.levels.get(level as usize)?.first;
        loop {
            let Level { load, len, higher, .. } = self.levels[level as usize];
            let Entry { member, after, .. } = self.entries[entry as usize];
            let active = loads.active(member);
            let admission = if active > load { None } else { Some(loads.admission(member)) };
            match admission {
                Some(Admission::Accepted) => {
                    let shares = u64::from(share) * u64::from(len);
                    return Some(Offer { entry: Some(entry), ratio: Ratio { active: load, share }, shares });
                }
                Some(Admission::PassedOver) => {
                    passed_over += 1;
                    if passed_over > PASSED_OVER {
                        return None;
                    }
                    if after == NONE {
                        (level, entry) = (higher, self.levels.get(higher as usize)?.first);
                    } else {
                        entry = after;
                    }
                    continue;
                }
                Some(Admission::Full) => self.unlist(entry),
                None => self.move_to(entry, active),
            }
            // The levels have changed.
            lowest = self.classes[class as usize].lowest;
            (level, entry) = (lowest, self.levels.get(lowest as usize)?.first);
        }
    }

    fn move_to(&mut self, entry: u32, load: usize) {
        let Entry { class, level, .. } = self.entries[entry as usize];
        if self.levels.get(level as usize).is_some_and(|level| level.load == load) {
            // One that was chosen and is idle again is the last of its equals.
            self.remove(entry);
            self.append(entry, level);
            return;
        }
        let near = if level == NONE { self.nearest_end(class, load) } else { level };
        let to = self.level(class, load, near);
        self.unlist(entry);
        self.append(entry, to);
    }

    fn nearest_end(&self, class: u32, load: usize) -> u32 {
        let Class { lowest, highest, .. } = self.classes[class as usize];
        let distance = |level: u32| self.levels.get(level as usize).map(|level| level.load.abs_diff(load));
        if distance(lowest) < distance(highest) { lowest } else { highest }
    }

    /// The level with a load, sought from `near` on; a new one if there is none.
    fn level(&mut self, class: u32, load: usize, near: u32) -> u32 {
        let mut at = near;
        while at != NONE && self.levels[at as usize].load > load && self.levels[at as usize].lower != NONE {
            at = self.levels[at as usize].lower;
        }
        while at != NONE && self.levels[at as usize].load < load && self.levels[at as usize].higher != NONE {
            at = self.levels[at as usize].higher;
        }
        let (lower, higher) = match self.levels.get(at as usize) {
            None => (NONE, NONE),
            Some(level) if level.load == load => return at,
            Some(level) if level.load < load => (at, level.higher),
            Some(level) => (level.lower, at),
        };
        let level = Level { load, first: NONE, last: NONE, len: 0, lower, higher };
        let new = match self.free_levels.pop() {
            Some(free) => {
                self.levels[free as usize] = level;
                free
            }
            None => {
                self.levels.push(level);
                self.levels.len() as u32 - 1
            }
        };
        self.link(class, lower, new);
        self.link(class, new, higher);
        new
    }

    /// Makes two levels neighbours; `NONE` is the end.
    fn link(&mut self, class: u32, lower: u32, higher: u32) {
        match self.levels.get_mut(lower as usize) {
            Some(level) => level.higher = higher,
            None => self.classes[class as usize].lowest = higher,
        }
        match self.levels.get_mut(higher as usize) {
            Some(level) => level.lower = lower,
            None => self.classes[class as usize].highest = lower,
        }
    }

    fn append(&mut self, entry: u32, level: u32) {
        let to = &mut self.levels[level as usize];
        let before = std::mem::replace(&mut to.last, entry);
        to.len += 1;
        match self.entries.get_mut(before as usize) {
            Some(before) => before.after = entry,
            None => to.first = entry,
        }
        let entry = &mut self.entries[entry as usize];
        (entry.level, entry.before, entry.after) = (level, before, NONE);
    }

    /// Removes a candidate from its level, which may be empty then.
    fn remove(&mut self, entry: u32) {
        let Entry { level, before, after, .. } = self.entries[entry as usize];
        match self.entries.get_mut(before as usize) {
            Some(before) => before.after = after,
            None => self.levels[level as usize].first = after,
        }
        match self.entries.get_mut(after as usize) {
            Some(after) => after.before = before,
            None => self.levels[level as usize].last = before,
        }
        self.levels[level as usize].len -= 1;
    }

    /// Removes a candidate, and its level with the last one.
    fn unlist(&mut self, entry: u32) {
        let Entry { class, level, .. } = self.entries[entry as usize];
        if level == NONE {
            return;
        }
        self.remove(entry);
        let Level { len, lower, higher, .. } = self.levels[level as usize];
        if len == 0 {
            // The two neighbours become each other's.
            self.link(class, lower, higher);
            self.free_levels.push(level);
        }
        self.entries[entry as usize].level = NONE;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// Members with loads, limits, and a set of tried ones.
    struct Table {
        active: Vec<Cell<usize>>,
        shares: Vec<u32>,
        limits: Vec<usize>,
        tried: Vec<bool>,
        visits: Cell<usize>,
    }

    impl Table {
        fn new(shares: &[u32]) -> Self {
            Self {
                active: vec![Cell::new(0); shares.len()],
                shares: shares.to_vec(),
                limits: vec![usize::MAX; shares.len()],
                tried: vec![false; shares.len()],
                visits: Cell::new(0),
            }
        }

        fn order(&self) -> LoadOrder {
            let mut order = LoadOrder::default();
            self.arrange(&mut order, 1);
            order
        }

        fn arrange(&self, order: &mut LoadOrder, set: u64) {
            let new = |member: usize| NewEntry {
                key: member as u64 + 1000,
                member,
                share: self.shares[member],
                active: self.active[member].get(),
            };
            order.arrange(set, (0..self.shares.len()).map(new));
        }

        fn enter(&self, member: usize) {
            self.active[member].set(self.active[member].get() + 1);
        }

        fn leave(&self, order: &mut LoadOrder, member: usize) {
            self.active[member].set(self.active[member].get() - 1);
            order.correct(member as u64 + 1000, || self.active[member].get());
        }

        fn choose(&self, order: &mut LoadOrder) -> Option<usize> {
            match order.choose(self, None)? {
                Least::Listed(member) => Some(member),
                Least::Rival => panic!("there is none"),
            }
        }

        /// The members that may be chosen and of which none has less.
        fn least(&self) -> Vec<usize> {
            let may = |member: &usize| self.admission(*member) == Admission::Accepted;
            let ratio =
                |member: usize| Ratio { active: self.active[member].get(), share: self.shares[member] };
            let all: Vec<usize> = (0..self.shares.len()).filter(may).collect();
            let is_least = |one: &usize| all.iter().all(|other| ratio(*one).cmp(ratio(*other)).is_le());
            all.iter().copied().filter(is_least).collect()
        }
    }

    impl MemberLoads for Table {
        fn active(&self, member: usize) -> usize {
            self.visits.set(self.visits.get() + 1);
            self.active[member].get()
        }

        fn admission(&self, member: usize) -> Admission {
            match (self.active[member].get() >= self.limits[member], self.tried[member]) {
                (true, _) => Admission::Full,
                (_, true) => Admission::PassedOver,
                _ => Admission::Accepted,
            }
        }
    }

    /// What happens to a table.
    #[derive(Clone, Debug)]
    enum Step {
        /// A choice, with a member that was tried.
        Choose {
            tried: Option<usize>,
        },
        /// A request that the order does not choose.
        Enter(usize),
        Leave(usize),
        Arrange,
    }

    fn steps(members: usize) -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => prop::option::weighted(0.2, 0..members).prop_map(|tried| Step::Choose { tried }),
            1 => (0..members).prop_map(Step::Enter),
            4 => (0..members).prop_map(Step::Leave),
            1 => Just(Step::Arrange),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn the_chosen_one_is_always_least_loaded(
            members in prop::collection::vec((1_u32..5, prop_oneof![3 => Just(usize::MAX), 1 => 1_usize..4]), 1..12),
            steps in steps(12),
        ) {
            let mut table = Table::new(&members.iter().map(|(share, _)| share * 1000).collect::<Vec<_>>());
            table.limits = members.iter().map(|(_, limit)| *limit).collect();
            let mut order = table.order();
            let mut set = 1;
            for step in steps {
                match step {
                    Step::Choose { tried } => {
                        table.tried.fill(false);
                        tried.and_then(|tried| table.tried.get_mut(tried)).into_iter().for_each(|tried| *tried = true);
                        let least = table.least();
                        let chosen = table.choose(&mut order);
                        prop_assert_eq!(chosen.is_some(), !least.is_empty());
                        if let Some(chosen) = chosen {
                            prop_assert!(least.contains(&chosen), "{} of {:?}", chosen, least);
                            table.enter(chosen);
                        }
                    }
                    Step::Enter(member) if member < members.len() => table.enter(member),
                    Step::Leave(member) if member < members.len() && table.active[member].get() > 0 => {
                        table.leave(&mut order, member);
                    }
                    Step::Arrange => {
                        set += 1;
                        table.arrange(&mut order, set);
                    }
                    Step::Enter(_) | Step::Leave(_) => {}
                }
            }
        }
    }

    #[test]
    fn equals_are_chosen_in_turn_also_over_a_change_of_the_candidates() {
        let table = Table::new(&[1000; 10]);
        let mut order = table.order();
        let mut chosen = Vec::new();
        for round in 0..20 {
            if round % 3 == 0 {
                table.arrange(&mut order, round + 2);
            }
            let member = table.choose(&mut order).unwrap();
            table.enter(member);
            table.leave(&mut order, member);
            chosen.push(member);
        }
        assert_eq!(chosen, (0..10).chain(0..10).collect::<Vec<_>>());
    }

    #[test]
    fn idle_candidates_share_by_weight() {
        let table = Table::new(&[5000, 1000, 2000, 2000]);
        let mut order = table.order();
        let mut had = [0_i32; 4];
        for _ in 0..1000 {
            let member = table.choose(&mut order).unwrap();
            table.enter(member);
            table.leave(&mut order, member);
            had[member] += 1;
        }
        assert!(had.iter().zip([500, 100, 200, 200]).all(|(had, share)| (had - share).abs() <= 2), "{had:?}");
    }

    #[test]
    fn a_rival_is_chosen_if_it_has_less_and_shares_with_equals() {
        let table = Table::new(&[1000; 3]);
        (0..3).for_each(|member| table.enter(member));
        let mut order = table.order();
        let rival = |active| Some(Rival { active, share: 1000 });
        assert_eq!(order.choose(&table, rival(0)), Some(Least::Rival));
        assert!(matches!(order.choose(&table, rival(5)), Some(Least::Listed(_))));
        let mut order = table.order();
        let mut won = 0;
        for _ in 0..400 {
            match order.choose(&table, rival(1)).unwrap() {
                Least::Rival => won += 1,
                // It is idle again at once.
                Least::Listed(member) => order.correct(member as u64 + 1000, || 1),
            }
        }
        assert!((95..=105).contains(&won), "{won} of 400 for one of four equals");
    }

    #[test]
    fn a_choice_reads_few_loads_however_many_candidates_there_are() {
        for count in [10, 1000, 10_000] {
            let table = Table::new(&[1000, 2000, 3000].repeat(count));
            let mut order = table.order();
            // Half of the loads have grown without the order.
            (0..count).for_each(|member| table.enter(member * 2));
            let mut held = std::collections::VecDeque::new();
            table.visits.set(0);
            for _ in 0..20 * count {
                let member = table.choose(&mut order).unwrap();
                table.enter(member);
                held.push_back(member);
                if held.len() > count {
                    let member = held.pop_front().unwrap();
                    table.leave(&mut order, member);
                }
            }
            let each = table.visits.get() / (20 * count);
            assert!(each <= 6, "{each} of {count}");
        }
    }
}
