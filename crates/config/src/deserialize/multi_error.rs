//! What the passes over a bad value remember: which parts are judged, and what was found.

use super::error::{ErrorContext, ReadError};
use crate::{Problem, Problems, Quotes, Value, ValueKind};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::ptr;

/// More problems than anybody reads at once; a bound for hostile files.
const PROBLEMS_MAX: usize = 1000;

/// The memory of all passes. Nodes are told apart by their address: the tree is borrowed meanwhile.
#[derive(Default)]
pub(crate) struct ErrorCollector {
    judged: RefCell<HashMap<*const Value, Judged>>,
    problems: RefCell<Problems>,
    steps: Cell<usize>,
    seen: Cell<Option<usize>>,
}

/// What is known of one node.
#[derive(Default)]
struct Judged {
    /// Elements of a list or an open map before this one are done with.
    next: usize,
    /// Entries that are left out from now on.
    left_out: BTreeSet<usize>,
    /// It was read once without complaint.
    good: bool,
    /// What its unknown keys were likely meant to be, in the words of [`Problem::meant`].
    meant: Vec<Box<str>>,
    /// Keys that are missing, and which of the [`STAND_INS`] is tried next for each.
    missing: Vec<(&'static str, usize)>,
}

/// What stands in for a missing key, so that the reading reaches the next one: a number or text, a
/// duration, a list or mapping, a truth. What nobody can stand in for ends the reading there.
const STAND_INS: [Option<&str>; 4] = [Some("1"), Some("0"), None, Some("true")];

impl ErrorCollector {
    /// Whether the last pass moved anything (true before the first), and there is room for more.
    pub(crate) fn advanced(&self) -> bool {
        let before = self.seen.replace(Some(self.steps.get()));
        before != Some(self.steps.get()) && self.problems.borrow().0.len() < PROBLEMS_MAX
    }

    /// Where a pass begins in a list or an open map.
    pub(crate) fn next(&self, node: &Value) -> usize {
        self.judged.borrow().get(&ptr::from_ref(node)).map_or(0, |judged| judged.next)
    }

    /// Elements before `next` are done with.
    pub(crate) fn done_before(&self, node: &Value, next: usize) {
        self.change(node, |judged| judged.next = next);
    }

    /// Leaves an entry out from now on.
    pub(crate) fn leave_out(&self, node: &Value, index: usize) {
        self.change(node, |judged| {
            judged.left_out.insert(index);
        });
    }

    /// Whether the entry is left out.
    pub(crate) fn is_left_out(&self, node: &Value, index: usize) -> bool {
        self.judged.borrow().get(&ptr::from_ref(node)).is_some_and(|judged| judged.left_out.contains(&index))
    }

    /// The node was read without complaint. Scalars need no memory: they read the same every time.
    pub(crate) fn good(&self, node: &Value) {
        if matches!(node.kind, ValueKind::List(_) | ValueKind::Map(_)) {
            self.judged.borrow_mut().entry(ptr::from_ref(node)).or_default().good = true;
        }
    }

    /// Notes a fresh error of `node`, unless it only echoes what this hunt left out.
    pub(crate) fn note_error(&self, node: &Value, mut error: ReadError) -> ReadError {
        if !self.echoes(node, error.missing()) {
            let problems = std::mem::take(error.problems_mut()).at(&node.place);
            self.problems.borrow_mut().extend(problems);
        }
        self.step();
        let stage = match error.missing() {
            Some(name) if self.miss(node, name) => ErrorContext::Again,
            _ => ErrorContext::Exhausted,
        };
        error.at_stage(stage)
    }

    /// Whether a missing key is new, so that a stand-in may help.
    fn miss(&self, node: &Value, name: &'static str) -> bool {
        let mut judged = self.judged.borrow_mut();
        let missing = &mut judged.entry(ptr::from_ref(node)).or_default().missing;
        let new = missing.iter().all(|(known, _)| *known != name);
        if new {
            missing.push((name, 0));
        }
        new
    }

    /// The missing key of that number, and what stands in for it; `None` behind the last.
    pub(crate) fn stand_in(&self, node: &Value, number: usize) -> Option<(&'static str, Value)> {
        let judged = self.judged.borrow();
        let (name, attempt) = judged.get(&ptr::from_ref(node))?.missing.get(number)?;
        let kind = match STAND_INS.get(*attempt).copied().flatten() {
            Some(text) => ValueKind::Scalar { text: text.to_owned(), quotes: Quotes::Absent },
            None => ValueKind::Null,
        };
        Some((name, Value { place: node.place.clone(), kind }))
    }

    /// The stand-in did not fit. Whether another may.
    pub(crate) fn misfit(&self, node: &Value, number: usize) -> bool {
        let mut more = false;
        self.change(node, |judged| {
            if let Some((_, attempt)) = judged.missing.get_mut(number) {
                *attempt += 1;
                more = *attempt < STAND_INS.len();
            }
        });
        more
    }

    /// Notes an unknown key and leaves it out. The key it was meant to be is not also missing.
    pub(crate) fn unknown_key(&self, node: &Value, index: usize, problem: Problem) {
        self.change(node, |judged| {
            judged.left_out.insert(index);
            judged.meant.extend(problem.label.clone());
        });
        self.problems.borrow_mut().push(problem);
    }

    /// Everything found, by place.
    pub(crate) fn into_problems(self) -> Problems {
        let mut problems = self.problems.into_inner();
        problems.0.sort_by(|a, b| a.place.cmp(&b.place));
        problems.0.dedup();
        problems
    }

    fn echoes(&self, node: &Value, missing: Option<&str>) -> bool {
        let judged = self.judged.borrow();
        let Some(judged) = judged.get(&ptr::from_ref(node)) else { return false };
        if judged.good {
            return true;
        }
        let (Some(name), ValueKind::Map(entries)) = (missing, &node.kind) else {
            return judged.next > 0 || !judged.left_out.is_empty() || !judged.missing.is_empty();
        };
        let left_out = |index: &usize| entries.get(*index).is_some_and(|(key, _)| key.text == name);
        judged.left_out.iter().any(left_out)
            || judged.meant.iter().any(|label| **label == *Problem::meant(name))
    }

    fn change(&self, node: &Value, change: impl FnOnce(&mut Judged)) {
        change(self.judged.borrow_mut().entry(ptr::from_ref(node)).or_default());
        self.step();
    }

    fn step(&self) {
        self.steps.set(self.steps.get() + 1);
    }
}
