//! The tree as far as it is read: what is open, what aliases may repeat, and how much there is.

use crate::config::load::source_spans::push_key;
use crate::config::load::yaml_errors;
use moongate_config::{Key, Place, Problem, Problems, Value, ValueKind};
use serde_saphyr::granit_parser::Span;
use std::collections::HashMap;
use std::sync::Arc;

/// Nesting beyond this is a mistake or an attack; readers of the tree may recurse this deep.
pub(super) const DEPTH_MAX: usize = 64;
/// Values in one file with every alias written out: a bound for "billion laughs".
const NODES_MAX: usize = 2_000_000;

/// A value that may be repeated by aliases.
struct Anchored {
    value: Value,
    nodes: usize,
    depth: usize,
}

/// A list or mapping being read.
pub(super) struct Open {
    pub(super) place: Place,
    pub(super) shown: Shown,
    pub(super) anchor: usize,
    /// Values written so far at its beginning, to know its own size at its end.
    pub(super) nodes_before: usize,
    pub(super) depth: usize,
    pub(super) content: Content,
}

/// By what a list or mapping is shown in a report.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    /// `{ … }`, if it is on one line.
    Whole,
    /// The key that a block stands below.
    ByItsKey,
    /// The first line of a block in a list.
    ByItsFirst,
}

/// What is in it so far.
pub(super) enum Content {
    List(Vec<Value>),
    Map { entries: Vec<(Key, Value)>, key: Option<Key> },
}

/// Takes values as they are finished, the innermost first.
pub(super) struct Builder {
    file: Arc<str>,
    /// Paths are given to the whole tree at the end: until then everything shares this one.
    no_path: Arc<str>,
    pub(super) open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    pub(super) root: Option<Value>,
    pub(super) documents: usize,
    pub(super) nodes: usize,
    pub(super) problems: Problems,
}

impl Builder {
    pub(super) fn new(file: &Arc<str>) -> Self {
        Self {
            file: file.clone(),
            no_path: Arc::from(""),
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            documents: 0,
            nodes: 0,
            problems: Problems::default(),
        }
    }

    /// Repeats what was anchored, within the budget.
    pub(super) fn alias(&mut self, anchor: usize, span: &Span) -> Result<(), Problem> {
        let place = self.place(span);
        let Some(anchored) = self.anchors.get(&anchor) else {
            self.complain(Problem::new("an alias inside its own anchor"), &place, None);
            return self.attach(Value::null(place), 1);
        };
        let (nodes, depth) = (anchored.nodes, anchored.depth);
        if self.open.len() + depth > DEPTH_MAX {
            return Err(yaml_errors::too_deep().at(&place));
        }
        if self.nodes + nodes > NODES_MAX {
            return Err(too_many().at(&place));
        }
        if let Some(parent) = self.open.last_mut() {
            parent.depth = parent.depth.max(depth);
        }
        let value = Value { place, kind: anchored.value.kind.clone() };
        self.attach(value, nodes)
    }

    /// Puts a finished value where it belongs.
    pub(super) fn attach(&mut self, value: Value, nodes: usize) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(too_many().at(&value.place));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(value),
            Content::Map { entries, key } => match key.take() {
                Some(key) => entries.push((key, value)),
                None => self.key(value),
            },
        }
        Ok(())
    }

    /// Takes a value that stands where a key does.
    fn key(&mut self, value: Value) {
        let place = value.place;
        let text = match value.kind {
            ValueKind::Scalar { text, .. } => text,
            _ => {
                self.complain(yaml_errors::odd_key(), &place, None);
                String::new()
            }
        };
        if let Some(Content::Map { key, .. }) = self.open.last_mut().map(|open| &mut open.content) {
            *key = Some(Key { place, text });
        }
    }

    /// Keeps a value for the aliases behind it; `0` is no anchor.
    pub(super) fn remember(&mut self, anchor: usize, value: &Value, nodes: usize, depth: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { value: value.clone(), nodes, depth });
        }
    }

    /// Notes a problem inside the mapping or list that is open, at `key` if it is about one.
    pub(super) fn complain(&mut self, problem: Problem, place: &Place, key: Option<&str>) {
        let mut path = String::new();
        for open in &self.open {
            match &open.content {
                Content::List(items) => path.push_str(&format!("[{}]", items.len())),
                Content::Map { key: Some(key), .. } => push_key(&mut path, &key.text),
                Content::Map { key: None, .. } => {}
            }
        }
        if let Some(key) = key {
            push_key(&mut path, key);
        }
        self.problems.push(problem.at(&Place { path: Arc::from(path), ..place.clone() }));
    }

    pub(super) fn place(&self, span: &Span) -> Place {
        Place {
            file: self.file.clone(),
            line: narrow(span.start.line()),
            column: narrow(span.start.col() + 1),
            width: narrow(span.len()).max(1),
            path: self.no_path.clone(),
        }
    }
}

fn too_many() -> Problem {
    Problem::new(format!("more than {NODES_MAX} values, counting what aliases repeat"))
}

pub(super) fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
