//! State of the passes over a bad value: the parts already judged, and the problems found.

use super::error::{ErrorContext, ReadError};
use crate::{Problem, Problems, Quotes, Value, ValueKind};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::ptr;

/// The maximum number of problems: more are not useful to a reader, and hostile files must be bounded.
const PROBLEMS_MAX: usize = 1000;

/// State of all passes. Nodes are identified by their address: the tree is borrowed meanwhile.
#[derive(Default)]
pub(crate) struct ErrorCollector {
    judged: RefCell<HashMap<*const Value, NodeState>>,
    problems: RefCell<Problems>,
    steps: Cell<usize>,
    seen: Cell<Option<usize>>,
}

/// State of one node.
#[derive(Default)]
struct NodeState {
    /// Elements of a list or an open map before this index are done.
    next: usize,
    /// Entries excluded from further passes.
    left_out: BTreeSet<usize>,
    /// The node was read once without an error.
    good: bool,
    /// The likely intended names of its unknown keys, formatted by [`Problem::meant`].
    meant: Vec<Box<str>>,
    /// Missing keys, and for each the next of the [`STAND_INS`] to try.
    missing: Vec<(&'static str, usize)>,
}

/// Replacements for a missing key, so that reading reaches the next one: a number or text, a duration, a list or
/// mapping, a boolean. A key that accepts none of them ends the reading there.
const STAND_INS: [Option<&str>; 4] = [Some("1"), Some("0"), None, Some("true")];

impl ErrorCollector {
    /// Whether the last pass made progress (true before the first), and the limit allows another.
    pub(crate) fn advanced(&self) -> bool {
        let before = self.seen.replace(Some(self.steps.get()));
        before != Some(self.steps.get()) && self.problems.borrow().0.len() < PROBLEMS_MAX
    }

    /// The start of a pass in a list or an open map.
    pub(crate) fn next(&self, node: &Value) -> usize {
        self.judged.borrow().get(&ptr::from_ref(node)).map_or(0, |judged| judged.next)
    }

    /// Marks elements before `next` as done.
    pub(crate) fn done_before(&self, node: &Value, next: usize) {
        self.change(node, |judged| judged.next = next);
    }

    /// Excludes an entry from further passes.
    pub(crate) fn leave_out(&self, node: &Value, index: usize) {
        self.change(node, |judged| {
            judged.left_out.insert(index);
        });
    }

    /// Whether the entry is excluded.
    pub(crate) fn is_left_out(&self, node: &Value, index: usize) -> bool {
        self.judged.borrow().get(&ptr::from_ref(node)).is_some_and(|judged| judged.left_out.contains(&index))
    }

    /// Marks the node as read without an error. Scalars need no entry: they read the same every time.
    pub(crate) fn good(&self, node: &Value) {
        if matches!(node.kind, ValueKind::List(_) | ValueKind::Map(_)) {
            self.judged.borrow_mut().entry(ptr::from_ref(node)).or_default().good = true;
        }
    }

    /// Records a new error of `node`, unless it only results from an excluded part.
    pub(crate) fn note_error(&self, node: &Value, mut error: ReadError) -> ReadError {
        if !self.echoes(node, error.missing()) {
            let problems = std::mem::take(error.problems_mut()).at(&node.place);
            self.problems.borrow_mut().extend(problems);
        }
        self.step();
        let context = match error.missing() {
            Some(name) if self.miss(node, name) => ErrorContext::Again,
            _ => ErrorContext::Exhausted,
        };
        error.with_context(context)
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

    /// The missing key with that number and its stand-in; `None` after the last.
    pub(crate) fn stand_in(&self, node: &Value, number: usize) -> Option<(&'static str, Value)> {
        let judged = self.judged.borrow();
        let (name, attempt) = judged.get(&ptr::from_ref(node))?.missing.get(number)?;
        let kind = match STAND_INS.get(*attempt).copied().flatten() {
            Some(text) => ValueKind::Scalar { text: text.to_owned(), quotes: Quotes::Absent },
            None => ValueKind::Null,
        };
        Some((name, Value { place: node.place.clone(), kind }))
    }

    /// Rejects a stand-in that did not fit; true if another one remains.
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

    /// Records an unknown key and excludes it. The key that it was meant to be is not reported as missing.
    pub(crate) fn unknown_key(&self, node: &Value, index: usize, problem: Problem) {
        self.change(node, |judged| {
            judged.left_out.insert(index);
            judged.meant.extend(problem.label.clone());
        });
        self.problems.borrow_mut().push(problem);
    }

    /// All problems, sorted by place.
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

    fn change(&self, node: &Value, change: impl FnOnce(&mut NodeState)) {
        change(self.judged.borrow_mut().entry(ptr::from_ref(node)).or_default());
        self.step();
    }

    fn step(&self) {
        self.steps.set(self.steps.get() + 1);
    }
}
